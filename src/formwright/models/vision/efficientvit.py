"""EfficientViT (Microsoft's): cascaded group attention between cheap convolutions and feed-forward layers.

Three stages at strides 16, 32 and 64. A block is a sandwich: a depthwise convolution, a feed-forward layer, one
attention, a depthwise convolution, a feed-forward layer, each under its own residual connection. Stages are joined by
an inverted bottleneck with squeeze-and-excitation, with a convolution and a feed-forward layer before and after it.
Every convolution and dense layer is followed by a batch norm, which folds into it for inference.

Source: EfficientViT: Memory Efficient Vision Transformer with Cascaded Group Attention, arXiv 2305.07027. Equal to the
authors' code (microsoft/Cream). Not MIT's EfficientViT (arXiv 2205.14756), which is another model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from formwright.candidates import candidate
from formwright.errors import UserError
from formwright.models import model_specification, register_family
from formwright.models.checkpoints import Layout, register_layout
from formwright.models.vision.common import (
    check_stages,
    drop_path_rates,
    fitted,
    image_input,
    overlapping_patches,
    stage_widths,
)
from formwright.nn.specification import BlockSpec, BranchSpec, ChainSpec, PartSpec, StageSpec, part
from formwright.shapes import PictureShape

_CONVOLUTION = part("depthwise_conv_norm", kernel=3, norm_weight=0.0)


def _published_stem(dim: int) -> PartSpec:
    """The published embedding: four convolutions of stride 2, each of twice the channels of the one before."""
    if dim % 8:
        raise UserError(f"The embedding of EfficientViT ends in a multiple of 8 channels, got {dim}.")
    return part("conv_norm_stem", hidden=(dim // 8, dim // 4, dim // 2), strides=(2, 2, 2, 2))


def efficientvit(
    *,
    name: str = "efficientvit",
    dims: Sequence[int],
    depths: Sequence[int] = (1, 2, 3),
    heads: Sequence[int] = (4, 4, 4),
    kernels: Sequence[int] = (5, 5, 5, 5),
    key_dim: int = 16,
    window: int = 7,
    mlp_ratio: float = 2.0,
    distillation: bool = False,
    drop_path: float = 0.0,
    stem: PartSpec | None = None,
    classes: int = 1000,
    channels: int = 3,
    image_size: int | tuple[int, int] = 224,
) -> ChainSpec:
    """An EfficientViT.

    Args:
        dims: channels of each stage.
        depths: blocks of each stage.
        heads: attention heads of each stage.
        kernels: side of the convolution of the queries, head by head.
        key_dim: channels of a query and of a key.
        window: side of an attention window.
        distillation: whether a second head follows a teacher; the two are averaged in inference.
        stem: another embedding; the published one has stride 16.
    """
    check_stages(dims=dims, depths=depths, heads=heads)
    mlp = part("batch_norm_mlp", ratio=mlp_ratio, norm_weight=0.0)
    rates = drop_path_rates(drop_path, depths)
    stages = []
    for index, dim in enumerate(dims):
        attention = part(
            "cascaded_group_attention",
            heads=heads[index],
            key_dim=key_dim,
            window=window,
            kernels=kernels,
            norm_weight=0.0,
        )
        blocks = [
            BlockSpec(
                tuple(BranchSpec(mixer, drop_path=rate) for mixer in (_CONVOLUTION, mlp, attention, _CONVOLUTION, mlp))
            )
            for rate in rates[index]
        ]
        if index > 0:
            rate = rates[index][0]
            blocks.insert(0, BlockSpec(tuple(BranchSpec(mixer, drop_path=rate) for mixer in (_CONVOLUTION, mlp))))
        stages.append(
            StageSpec(
                dim=dim,
                blocks=tuple(blocks),
                downsample=part("inverted_downsampling", branches=(_CONVOLUTION, mlp)) if index > 0 else None,
            )
        )
    return ChainSpec(
        family="efficientvit",
        name=name,
        task="image-classification",
        input=image_input(channels, image_size),
        classes=classes,
        embed=_published_stem(dims[0]) if stem is None else stem,
        stages=tuple(stages),
        head=part("normed_distilled_classifier")
        if distillation
        else part("classifier", pooled_norm=part("batch_norm")),
    )


_M0 = {"dims": (64, 128, 192)}

register_family(
    efficientvit,
    {
        "efficientvit_m0": _M0,
        "efficientvit_m1": {"dims": (128, 144, 192), "heads": (2, 3, 3), "kernels": (7, 5, 3, 3)},
        "efficientvit_m2": {"dims": (128, 192, 224), "heads": (4, 3, 2), "kernels": (7, 5, 3, 3)},
        "efficientvit_m3": {"dims": (128, 240, 320), "heads": (4, 3, 4)},
        "efficientvit_m4": {"dims": (128, 256, 384), "kernels": (7, 5, 3, 3)},
        "efficientvit_m5": {
            "dims": (192, 288, 384),
            "depths": (1, 3, 4),
            "heads": (3, 3, 4),
            "kernels": (7, 5, 3, 3),
        },
        "efficientvit_m0_distilled": {**_M0, "distillation": True},
    },
    family="efficientvit",
)

#: Names inside a block or a downsampling, the authors' and timm's, and ours; all that match apply, in this order.
_INSIDE = (
    (r"^(?:dw0|0)\.m\.", "branches.0.part.conv."),
    (r"^(?:ffn0|1)\.m\.pw", "branches.1.part.fc"),
    (r"^mixer\.m\.attn\.", "branches.2.part."),
    (r"^dw1\.m\.", "branches.3.part.conv."),
    (r"^ffn1\.m\.pw", "branches.4.part.fc"),
    (r"\.attention_biases$", ".bias_table"),
    (r"\.qkvs\.", ".qkv."),
    (r"\.dws\.", ".query_convs."),
    (r"\.proj\.1\.", ".proj."),
    (r"^conv1\.", "expand."),
    (r"^conv2\.", "conv."),
    (r"^conv3\.", "project."),
    (r"^se\.", "squeeze."),
    (r"\.bn\.", ".norm."),
    (r"(fc\d|qkv\.\d+|proj|expand|project)\.(?:c|conv)\.", r"\1.linear."),
    (r"\.c\.", ".conv."),
)


def _inside(name: str) -> str:
    for pattern, replacement in _INSIDE:
        name = re.sub(pattern, replacement, name)
    return name


def _authors_stage(match: re.Match[str]) -> str:
    """In ``blocks2`` and ``blocks3`` the merging is number 1, and what comes before and after it 0 and 2."""
    stage, place, rest = int(match[1]) - 1, int(match[2]), _inside(match[3])
    if stage > 0 and place < 2:
        return f"backbone.stages.{stage}.downsample.{rest}"
    return f"backbone.stages.{stage}.blocks.{place - 2 if stage > 0 else place}.{rest}"


def _timm_block(match: re.Match[str]) -> str:
    """What follows the merging is a block of ours, and part of the downsampling in timm."""
    stage, block = int(match[1]), int(match[2])
    return f"backbone.stages.{stage}.blocks.{block + 1 if stage > 0 else block}.{_inside(match[3])}"


register_layout(
    "efficientvit",
    Layout(
        name="microsoft/Cream",
        marker=r"^blocks1\.0\.dw0",
        renames=(
            (r".*\.attention_bias_idxs", None),
            (
                r"patch_embed\.(\d+)\.(.*)",
                lambda match: f"backbone.embed.convs.{int(match[1]) // 2}" + _inside(f".{match[2]}"),
            ),
            (r"blocks(\d)\.(\d+)\.(.*)", _authors_stage),
            (r"head\.bn\.(.*)", r"head.pooled_norm.norm.\1"),
            (r"head\.l\.(.*)", r"head.linear.\1"),
            (r"head_dist\.bn\.(.*)", r"head.distilled_norm.norm.\1"),
            (r"head_dist\.l\.(.*)", r"head.distilled.\1"),
        ),
    ),
)

register_layout(
    "efficientvit",
    Layout(
        name="timm",
        marker=r"^stages\.0\.blocks\.0\.dw0",
        renames=(
            (
                r"patch_embed\.conv(\d)\.(.*)",
                lambda match: f"backbone.embed.convs.{int(match[1]) - 1}" + _inside(f".{match[2]}"),
            ),
            (r"stages\.(\d)\.blocks\.(\d+)\.(.*)", _timm_block),
            (
                r"stages\.(\d)\.downsample\.res2\.(.*)",
                lambda match: f"backbone.stages.{match[1]}.blocks.0.{_inside(match[2])}",
            ),
            (
                r"stages\.(\d)\.downsample\.\w+\.(.*)",
                lambda match: f"backbone.stages.{match[1]}.downsample.{_inside(match[2])}",
            ),
            (r"head\.bn\.(.*)", r"head.pooled_norm.norm.\1"),
            (r"head_dist\.bn\.(.*)", r"head.distilled_norm.norm.\1"),
            (r"head_dist\.linear\.(.*)", r"head.distilled.\1"),
        ),
    ),
)


@candidate("image-classification", "efficientvit", order=70, first={"depth": 2})
def _for_pictures(shape: PictureShape, width: int, depth: int) -> ChainSpec:
    dims = stage_widths(width, shape.stages, 16)
    return model_specification(
        "efficientvit_m0",
        depths=(depth,) * shape.stages,
        dims=dims,
        heads=(2,) * shape.stages,
        kernels=(3, 3),
        window=min(7, min(shape.size) // shape.stem_stride),
        stem=overlapping_patches(shape, norm=part("layer_norm", eps=1e-6)),
        **fitted(shape),
    )

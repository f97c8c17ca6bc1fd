"""ConvNeXt: a convolutional network with the macro layout of a hierarchical Transformer, and its isotropic version.

Four stages at strides 4, 8, 16 and 32 (or one at 16), a norm before each downsampling. A block is one residual branch:
depthwise convolution, norm, MLP, LayerScale. The last norm comes after the pooling of the head.

Source: A ConvNet for the 2020s, arXiv 2201.03545. Equal to the authors' code and to timm's models of the same names.
The isotropic models have no LayerScale by default, as the authors' functions; their recipe for the large one sets it.
"""

from __future__ import annotations

from collections.abc import Sequence

from formwright.candidates import candidate
from formwright.models import model_specification, register_family
from formwright.models.checkpoints import Layout, fitted_head, register_layout
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

_LAYER_NORM = part("layer_norm", eps=1e-6)
STEM = part("patch_embedding", kernel=4, norm=_LAYER_NORM)


def convnext(
    *,
    name: str = "convnext",
    depths: Sequence[int],
    dims: Sequence[int],
    kernel: int = 7,
    norm: str = "layer_norm",
    activation: str = "gelu",
    mlp_ratio: float = 4.0,
    layer_scale: float | None = 1e-6,
    norm_eps: float = 1e-6,
    drop_path: float = 0.0,
    stem: PartSpec = STEM,
    classes: int = 1000,
    channels: int = 3,
    image_size: int | tuple[int, int] = 224,
) -> ChainSpec:
    """A ConvNeXt; ``kernel``, ``norm`` and ``activation`` are the switches of the paper's road map.

    Args:
        depths: blocks of each stage; a single stage makes it isotropic.
        dims: channels of each stage.
        kernel: odd side of the depthwise convolutions.
        norm: norm of the blocks.
        activation: activation of the MLPs.
        layer_scale: initial value of LayerScale; without it if unset.
        norm_eps: added to the variance by the norm of the pooled vector.
        stem: the embedding; the published ones have stride 4, and 16 in the isotropic version.
    """
    check_stages(depths=depths, dims=dims)
    branch_part = part(
        "chain",
        parts=(
            part("depthwise_convolution", kernel=kernel),
            _LAYER_NORM if norm == "layer_norm" else part(norm),
            part("mlp", ratio=mlp_ratio, activation=activation),
        ),
    )
    rates = drop_path_rates(drop_path, depths)
    stages = tuple(
        StageSpec(
            dim=dim,
            blocks=tuple(
                BlockSpec((BranchSpec(branch_part, layer_scale=layer_scale, drop_path=rate),)) for rate in rates[index]
            ),
            downsample=part("downsampling", kernel=2, pre_norm=_LAYER_NORM) if index else None,
        )
        for index, dim in enumerate(dims)
    )
    return ChainSpec(
        family="convnext",
        name=name,
        task="image-classification",
        input=image_input(channels, image_size),
        classes=classes,
        embed=stem,
        stages=stages,
        head=part("classifier", pooled_norm=part("layer_norm", eps=norm_eps)),
    )


_ISOTROPIC = {"stem": part("patch_embedding", kernel=16), "layer_scale": None}

register_family(
    convnext,
    {
        "convnext_tiny": {"depths": (3, 3, 9, 3), "dims": (96, 192, 384, 768)},
        "convnext_small": {"depths": (3, 3, 27, 3), "dims": (96, 192, 384, 768)},
        "convnext_base": {"depths": (3, 3, 27, 3), "dims": (128, 256, 512, 1024)},
        "convnext_large": {"depths": (3, 3, 27, 3), "dims": (192, 384, 768, 1536)},
        "convnext_xlarge": {"depths": (3, 3, 27, 3), "dims": (256, 512, 1024, 2048)},
        "convnext_isotropic_small": {"depths": (18,), "dims": (384,), **_ISOTROPIC},
        "convnext_isotropic_base": {"depths": (18,), "dims": (768,), **_ISOTROPIC},
        "convnext_isotropic_large": {"depths": (36,), "dims": (1024,), **_ISOTROPIC},
    },
    family="convnext",
)

_BLOCK = r"backbone.stages.\1.blocks.\2.branches.0"

register_layout(
    "convnext",
    Layout(
        name="facebookresearch/ConvNeXt",
        marker=r"^(stages\.0\.0|blocks\.0)\.dwconv\.",
        renames=(
            (r"downsample_layers\.0\.0\.(.*)", r"backbone.embed.conv.\1"),
            (r"downsample_layers\.0\.1\.(.*)", r"backbone.embed.norm.\1"),
            (r"downsample_layers\.(\d+)\.0\.(.*)", r"backbone.stages.\1.downsample.pre_norm.\2"),
            (r"downsample_layers\.(\d+)\.1\.(.*)", r"backbone.stages.\1.downsample.conv.\2"),
            (r"stages\.(\d+)\.(\d+)\.gamma", rf"{_BLOCK}.layer_scale"),
            (r"stages\.(\d+)\.(\d+)\.dwconv\.(.*)", rf"{_BLOCK}.part.parts.0.conv.\3"),
            (r"stages\.(\d+)\.(\d+)\.norm\.(.*)", rf"{_BLOCK}.part.parts.1.\3"),
            (r"stages\.(\d+)\.(\d+)\.pwconv([12])\.(.*)", rf"{_BLOCK}.part.parts.2.fc\3.\4"),
            (r"stem\.(.*)", r"backbone.embed.conv.\1"),
            (r"blocks\.(\d+)\.gamma", r"backbone.stages.0.blocks.\1.branches.0.layer_scale"),
            (r"blocks\.(\d+)\.dwconv\.(.*)", r"backbone.stages.0.blocks.\1.branches.0.part.parts.0.conv.\2"),
            (r"blocks\.(\d+)\.norm\.(.*)", r"backbone.stages.0.blocks.\1.branches.0.part.parts.1.\2"),
            (r"blocks\.(\d+)\.pwconv([12])\.(.*)", r"backbone.stages.0.blocks.\1.branches.0.part.parts.2.fc\2.\3"),
            (r"norm\.(.*)", r"head.pooled_norm.\1"),
            (r"head\.(.*)", r"head.linear.\1"),
        ),
    ),
)

register_layout(
    "convnext",
    Layout(
        name="timm",
        marker=r"^stages\.0\.blocks\.0\.conv_dw\.",
        renames=(
            (r"stem\.0\.(.*)", r"backbone.embed.conv.\1"),
            (r"stem\.1\.(.*)", r"backbone.embed.norm.\1"),
            (r"stages\.(\d+)\.downsample\.0\.(.*)", r"backbone.stages.\1.downsample.pre_norm.\2"),
            (r"stages\.(\d+)\.downsample\.1\.(.*)", r"backbone.stages.\1.downsample.conv.\2"),
            (r"stages\.(\d+)\.blocks\.(\d+)\.gamma", rf"{_BLOCK}.layer_scale"),
            (r"stages\.(\d+)\.blocks\.(\d+)\.conv_dw\.(.*)", rf"{_BLOCK}.part.parts.0.conv.\3"),
            (r"stages\.(\d+)\.blocks\.(\d+)\.norm\.(.*)", rf"{_BLOCK}.part.parts.1.\3"),
            (r"stages\.(\d+)\.blocks\.(\d+)\.mlp\.(.*)", rf"{_BLOCK}.part.parts.2.\3"),
            (r"head\.norm\.(.*)", r"head.pooled_norm.\1"),
            (r"head\.fc\.(.*)", r"head.linear.\1"),
        ),
    ),
)

_CONVNEXT = r"(?:convnext\.)?"
_STAGE = _CONVNEXT + r"encoder\.stages\.(\d+)\."
_LAYER = _STAGE + r"layers\.(\d+)\."

register_layout(
    "convnext",
    Layout(
        name="transformers",
        marker=r"^(convnext\.)?encoder\.stages\.0\.layers\.0\.dwconv\.weight$",
        renames=(
            (_CONVNEXT + r"embeddings\.patch_embeddings\.(.*)", r"backbone.embed.conv.\1"),
            (_CONVNEXT + r"embeddings\.layernorm\.(.*)", r"backbone.embed.norm.\1"),
            (_STAGE + r"downsampling_layer\.0\.(.*)", r"backbone.stages.\1.downsample.pre_norm.\2"),
            (_STAGE + r"downsampling_layer\.1\.(.*)", r"backbone.stages.\1.downsample.conv.\2"),
            (_LAYER + r"layer_scale_parameter", rf"{_BLOCK}.layer_scale"),
            (_LAYER + r"dwconv\.(.*)", rf"{_BLOCK}.part.parts.0.conv.\3"),
            (_LAYER + r"layernorm\.(.*)", rf"{_BLOCK}.part.parts.1.\3"),
            (_LAYER + r"pwconv([12])\.(.*)", rf"{_BLOCK}.part.parts.2.fc\3.\4"),
            (_CONVNEXT + r"layernorm\.(.*)", r"head.pooled_norm.\1"),
            (r"classifier\.(.*)", r"head.linear.\1"),
        ),
        convert=fitted_head,
    ),
)


@candidate("image-classification", "convnext", order=20, first={"depth": 2})
def _for_pictures(shape: PictureShape, width: int, depth: int) -> ChainSpec:
    return model_specification(
        "convnext_tiny",
        depths=(depth,) * shape.stages,
        dims=stage_widths(width, shape.stages),
        kernel=3 if min(shape.size) <= 48 else 7,
        layer_scale=1.0,
        stem=overlapping_patches(shape, norm=part("layer_norm", eps=1e-6)),
        **fitted(shape),
    )

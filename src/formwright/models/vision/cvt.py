"""CvT: a Vision Transformer in three stages with convolutions where tokens are made and where they are compared.

Each stage starts with an overlapping convolutional embedding; queries, keys and values are depthwise convolutions of
the tokens, keys and values at half the resolution. There is no position table, so any image size works. A class token
enters at the last stage and passes by the convolutions.

Notable: attention is scaled by all channels, not by a head's; the MLP has QuickGELU; stochastic depth grows inside the
last stage only. The authors compute their norms in float32 whatever the model's type is; here a norm keeps its type.

Source: CvT: Introducing Convolutions to Vision Transformers, arXiv 2103.15808. Equal to the authors' code. The model in
the transformers library has GELU instead: ``activation="gelu"`` makes this one equal to it.
"""

from __future__ import annotations

from collections.abc import Sequence

from formwright.candidates import candidate
from formwright.models import Network, model_specification, register_family
from formwright.models.checkpoints import Layout, State, register_layout
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

_NORM = part("layer_norm")
STEM = part("patch_embedding", kernel=7, stride=4, padding=2, norm=_NORM)


def cvt(
    *,
    name: str = "cvt",
    depths: Sequence[int],
    dims: Sequence[int],
    heads: Sequence[int],
    method: str = "dw_bn",
    mlp_ratio: float = 4.0,
    activation: str = "quick_gelu",
    drop_path: float = 0.1,
    stem: PartSpec = STEM,
    classes: int = 1000,
    channels: int = 3,
    image_size: int | tuple[int, int] = 224,
) -> ChainSpec:
    """A Convolutional vision Transformer.

    Args:
        depths: number of blocks of each stage.
        dims: channels of each stage.
        heads: attention heads of each stage.
        method: how queries, keys and values are projected: ``dw_bn``, ``avg`` or ``linear``.
        activation: activation of the MLP.
        drop_path: stochastic depth of the last block; the rates grow from 0 within the last stage.
        stem: the embedding; the published one has stride 4.

    Raises:
        UserError: depths, dims and heads do not have one entry a stage, heads do not divide dims, or the method is
            unknown.
    """
    check_stages(depths=depths, dims=dims, heads=heads)
    mlp = part("mlp", ratio=mlp_ratio, activation=activation)
    stages = []
    for index, (depth, dim) in enumerate(zip(depths, dims, strict=True)):
        last = index == len(dims) - 1
        attention = part("convolutional_projection_attention", heads=heads[index], method=method)
        blocks = tuple(
            BlockSpec((BranchSpec(attention, norm=_NORM, drop_path=rate), BranchSpec(mlp, norm=_NORM, drop_path=rate)))
            for rate in drop_path_rates(drop_path if last else 0.0, [depth])[0]
        )
        stages.append(
            StageSpec(
                dim=dim,
                blocks=blocks,
                downsample=None if index == 0 else part("downsampling", kernel=3, stride=2, padding=1, norm=_NORM),
                entry=(part("class_token"),) if last else (),
            )
        )
    return ChainSpec(
        family="cvt",
        name=name,
        task="image-classification",
        input=image_input(channels, image_size),
        classes=classes,
        embed=stem,
        stages=tuple(stages),
        head=part("classifier", norm=_NORM, pool=part("class_token_pool")),
    )


register_family(
    cvt,
    {
        "cvt-13": {"depths": (1, 2, 10), "dims": (64, 192, 384), "heads": (1, 3, 6)},
        "cvt-21": {"depths": (1, 4, 16), "dims": (64, 192, 384), "heads": (1, 3, 6)},
        "cvt-w24": {
            "depths": (2, 2, 20),
            "dims": (192, 768, 1024),
            "heads": (3, 12, 16),
            "drop_path": 0.3,
            "image_size": 384,
        },
    },
    family="cvt",
)

_KINDS = {"q": "query", "k": "key", "v": "value"}
_BLOCK = r"backbone.stages.\1.blocks.\2.branches."


def _tables(state: State, model: Network) -> State:
    """The class token loses its batch axis, and what starts the first stage is the model's embedding."""
    renamed = {}
    for name, tensor in state.items():
        if name.endswith(".entry.0.tokens"):
            tensor = tensor.squeeze(0)
        renamed[name.replace("backbone.stages.0.downsample.", "backbone.embed.")] = tensor
    return renamed


_AUTHORS = r"stage(\d)\.blocks\.(\d+)\."

register_layout(
    "cvt",
    Layout(
        name="microsoft/CvT",
        marker=r"^stage0\.patch_embed\.",
        renames=(
            (r"stage(\d)\.patch_embed\.proj\.(.*)", r"backbone.stages.\1.downsample.conv.\2"),
            (r"stage(\d)\.patch_embed\.norm\.(.*)", r"backbone.stages.\1.downsample.norm.\2"),
            (r"stage(\d)\.cls_token", r"backbone.stages.\1.entry.0.tokens"),
            (
                _AUTHORS + r"attn\.conv_proj_([qkv])\.(conv|bn)\.(.*)",
                lambda m: m.expand(_BLOCK) + f"0.part.{_KINDS[m[3]]}_projection.{m[4].replace('bn', 'norm')}.{m[5]}",
            ),
            (_AUTHORS + r"attn\.proj_([qkv])\.(.*)", lambda m: m.expand(_BLOCK) + f"0.part.{_KINDS[m[3]]}.{m[4]}"),
            (_AUTHORS + r"attn\.proj\.(.*)", _BLOCK + r"0.part.proj.\3"),
            (_AUTHORS + r"norm1\.(.*)", _BLOCK + r"0.norm.\3"),
            (_AUTHORS + r"norm2\.(.*)", _BLOCK + r"1.norm.\3"),
            (_AUTHORS + r"mlp\.(.*)", _BLOCK + r"1.part.\3"),
            (r"norm\.(.*)", r"head.norm.\1"),
            (r"head\.(.*)", r"head.linear.\1"),
        ),
        convert=_tables,
    ),
)

_STAGE = r"cvt\.encoder\.stages\.(\d)\."
_LAYER = _STAGE + r"layers\.(\d+)\."
_PROJECTION = r"attention\.attention\.convolution_projection_(\w+)\.convolution_projection\."

register_layout(
    "cvt",
    Layout(
        name="transformers",
        marker=r"^cvt\.encoder\.stages\.0\.",
        renames=(
            (_STAGE + r"embedding\.convolution_embeddings\.projection\.(.*)", r"backbone.stages.\1.downsample.conv.\2"),
            (
                _STAGE + r"embedding\.convolution_embeddings\.normalization\.(.*)",
                r"backbone.stages.\1.downsample.norm.\2",
            ),
            (_STAGE + r"cls_token", r"backbone.stages.\1.entry.0.tokens"),
            (_LAYER + _PROJECTION + r"convolution\.(.*)", _BLOCK + r"0.part.\3_projection.conv.\4"),
            (_LAYER + _PROJECTION + r"normalization\.(.*)", _BLOCK + r"0.part.\3_projection.norm.\4"),
            (_LAYER + r"attention\.attention\.projection_(\w+)\.(.*)", _BLOCK + r"0.part.\3.\4"),
            (_LAYER + r"attention\.output\.dense\.(.*)", _BLOCK + r"0.part.proj.\3"),
            (_LAYER + r"layernorm_before\.(.*)", _BLOCK + r"0.norm.\3"),
            (_LAYER + r"layernorm_after\.(.*)", _BLOCK + r"1.norm.\3"),
            (_LAYER + r"intermediate\.dense\.(.*)", _BLOCK + r"1.part.fc1.\3"),
            (_LAYER + r"output\.dense\.(.*)", _BLOCK + r"1.part.fc2.\3"),
            (r"layernorm\.(.*)", r"head.norm.\1"),
            (r"classifier\.(.*)", r"head.linear.\1"),
        ),
        convert=_tables,
    ),
)


@candidate("image-classification", "cvt", order=50, first={"depth": 2})
def _for_pictures(shape: PictureShape, width: int, depth: int) -> ChainSpec:
    dims = stage_widths(width, shape.stages, 16)
    return model_specification(
        "cvt-13",
        depths=(depth,) * shape.stages,
        dims=dims,
        heads=tuple(dim // 16 for dim in dims),
        drop_path=0.0,
        stem=overlapping_patches(shape, norm=part("layer_norm", eps=1e-6)),
        **fitted(shape),
    )

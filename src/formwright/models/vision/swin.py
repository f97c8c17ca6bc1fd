"""Swin Transformer: attention inside windows that move by half a window from block to block.

Four stages at strides 4, 8, 16 and 32; patches of 4 pixels with a norm; two by two neighbouring tokens merge between
stages; a learned bias for each difference of places instead of a position table.

Notable: a stage whose grid has a side no longer than the window attends to windows of that side, unmoved; so a model
built for another image size may have smaller tables. Images whose grids are no multiples of the window are padded with
tokens that nobody sees; the authors' code refuses them.

Source: Swin Transformer: Hierarchical Vision Transformer using Shifted Windows, arXiv 2103.14030. Equal to the authors'
code and to timm's models of the same names, but where windows do not divide the grid: timm pads after moving the
windows, with tokens that are seen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

from formwright.models import register_family
from formwright.models.checkpoints import Layout, Rename, fitted_head, register_layout, stacked
from formwright.models.vision.common import check_stages, drop_path_rates, image_input
from formwright.nn.specification import BlockSpec, BranchSpec, ChainSpec, PartSpec, StageSpec, part

_NORM = part("layer_norm")
STEM = part("patch_embedding", kernel=4, norm=_NORM)


def swin(
    *,
    name: str = "swin",
    depths: Sequence[int],
    dims: Sequence[int],
    heads: Sequence[int],
    window: int = 7,
    mlp_ratio: float = 4.0,
    norm_eps: float = 1e-5,
    drop_path: float = 0.1,
    stem: PartSpec = STEM,
    classes: int = 1000,
    channels: int = 3,
    image_size: int | tuple[int, int] = 224,
) -> ChainSpec:
    """A Swin Transformer.

    Args:
        depths: number of blocks of each stage; every second one has shifted windows.
        dims: channels of each stage.
        heads: attention heads of each stage.
        window: side of a window, in tokens.
        norm_eps: added to the variance by the norms of the blocks and before the head.
        stem: the embedding; the published one has stride 4.

    Raises:
        UserError: depths, dims and heads do not have one entry a stage, or heads do not divide dims.
    """
    check_stages(depths=depths, dims=dims, heads=heads)
    mlp = part("mlp", ratio=mlp_ratio)
    norm = part("layer_norm") if norm_eps == 1e-5 else part("layer_norm", eps=norm_eps)
    stages = []
    for index, rates in enumerate(drop_path_rates(drop_path, depths)):
        blocks = []
        for position, rate in enumerate(rates):
            attention = part("window_attention", heads=heads[index], window=window, shifted=position % 2 == 1)
            blocks.append(
                BlockSpec(
                    (BranchSpec(attention, norm=norm, drop_path=rate), BranchSpec(mlp, norm=norm, drop_path=rate))
                )
            )
        stages.append(
            StageSpec(
                dim=dims[index],
                blocks=tuple(blocks),
                downsample=None if index == 0 else part("patch_merging", norm=_NORM),
            )
        )
    return ChainSpec(
        family="swin",
        name=name,
        task="image-classification",
        input=image_input(channels, image_size),
        classes=classes,
        embed=stem,
        stages=tuple(stages),
        head=part("classifier", norm=norm),
    )


_TINY = {"depths": (2, 2, 6, 2), "dims": (96, 192, 384, 768), "heads": (3, 6, 12, 24), "drop_path": 0.2}
_BASE = {"depths": (2, 2, 18, 2), "dims": (128, 256, 512, 1024), "heads": (4, 8, 16, 32), "drop_path": 0.5}
_LARGE = {"depths": (2, 2, 18, 2), "dims": (192, 384, 768, 1536), "heads": (6, 12, 24, 48), "drop_path": 0.2}
_384 = {"window": 12, "image_size": 384}

register_family(
    swin,
    {
        "swin_tiny_patch4_window7_224": _TINY,
        "swin_small_patch4_window7_224": {**_TINY, "depths": (2, 2, 18, 2), "drop_path": 0.3},
        "swin_base_patch4_window7_224": _BASE,
        "swin_tiny_c24_patch4_window8_256": {**_TINY, "heads": (4, 8, 16, 32), "window": 8, "image_size": 256},
        "swin_base_patch4_window12_384": {**_BASE, **_384},
        "swin_large_patch4_window7_224": _LARGE,
        "swin_large_patch4_window12_384": {**_LARGE, **_384},
    },
    family="swin",
)

_BLOCK = r"layers\.(\d+)\.blocks\.(\d+)\."
_OURS = r"backbone.stages.\1.blocks.\2.branches."
_SHARED: tuple[Rename, ...] = (
    (r"patch_embed\.proj\.(.*)", r"backbone.embed.conv.\1"),
    (r"patch_embed\.norm\.(.*)", r"backbone.embed.norm.\1"),
    # Computed from the window and the image size, not learned.
    (_BLOCK + r"(attn_mask|attn\.relative_position_index)", None),
    (_BLOCK + r"attn\.relative_position_bias_table", _OURS + r"0.part.relative_position_bias.table"),
    (_BLOCK + r"attn\.(.*)", _OURS + r"0.part.\3"),
    (_BLOCK + r"norm1\.(.*)", _OURS + r"0.norm.\3"),
    (_BLOCK + r"norm2\.(.*)", _OURS + r"1.norm.\3"),
    (_BLOCK + r"mlp\.(.*)", _OURS + r"1.part.\3"),
    (r"norm\.(.*)", r"head.norm.\1"),
)


def _merging(match: re.Match[str], *, stages_later: int) -> str:
    leaf = match[2].replace("reduction", "linear")
    return f"backbone.stages.{int(match[1]) + stages_later}.downsample.{leaf}.{match[3]}"


_MERGING = r"layers\.(\d+)\.downsample\.(\w+)\.(.*)"

register_layout(
    "swin",
    Layout(
        name="microsoft/Swin-Transformer",
        marker=r"^layers\.0\.downsample\.",
        renames=(
            # The authors' stages end with merging, ours and timm's start with it.
            (_MERGING, partial(_merging, stages_later=1)),
            *_SHARED,
            (r"head\.(.*)", r"head.linear.\1"),
        ),
    ),
)
register_layout(
    "swin",
    Layout(
        name="timm",
        marker=r"^layers\.1\.downsample\.",
        renames=(
            (_MERGING, partial(_merging, stages_later=0)),
            *_SHARED,
            (r"head\.fc\.(.*)", r"head.linear.\1"),
        ),
    ),
)

_SWIN = r"(?:swin\.)?"
_LAYER = _SWIN + r"encoder\.layers\.(\d+)\.blocks\.(\d+)\."

#: The names of published checkpoints, and those that transformers 5 gives its modules.
register_layout(
    "swin",
    Layout(
        name="transformers",
        marker=r"^(swin\.)?encoder\.layers\.0\.blocks\.0\.layernorm_before\.weight$",
        renames=(
            (_SWIN + r"embeddings\.mask_token", None),
            (r".*\.relative_position_index", None),
            (_SWIN + r"embeddings\.patch_embeddings\.projection\.(.*)", r"backbone.embed.conv.\1"),
            (_SWIN + r"embeddings\.norm\.(.*)", r"backbone.embed.norm.\1"),
            (
                _LAYER + r"attention\.(?:self|relative_position_bias)\.relative_position_bias_table",
                _OURS + r"0.part.relative_position_bias.table",
            ),
            *stacked(_LAYER + r"attention\.self\.{}\.(.*)", ("query", "key", "value"), _OURS + r"0.part.qkv.\3"),
            *stacked(_LAYER + r"attention\.{}_proj\.(.*)", "qkv", _OURS + r"0.part.qkv.\3"),
            (_LAYER + r"attention\.(?:output\.dense|o_proj)\.(.*)", _OURS + r"0.part.proj.\3"),
            (_LAYER + r"layernorm_before\.(.*)", _OURS + r"0.norm.\3"),
            (_LAYER + r"layernorm_after\.(.*)", _OURS + r"1.norm.\3"),
            (_LAYER + r"(?:intermediate\.dense|mlp\.fc1)\.(.*)", _OURS + r"1.part.fc1.\3"),
            (_LAYER + r"(?:output\.dense|mlp\.fc2)\.(.*)", _OURS + r"1.part.fc2.\3"),
            (_SWIN + r"encoder\." + _MERGING, partial(_merging, stages_later=1)),
            (_SWIN + r"layernorm\.(.*)", r"head.norm.\1"),
            (r"classifier\.(.*)", r"head.linear.\1"),
        ),
        convert=fitted_head,
    ),
)

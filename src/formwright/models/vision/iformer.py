"""iFormer, the Inception Transformer.

Four stages at strides 4, 8, 16 and 32, each begun by a position table, which is resized for other inputs. The inception
mixer gives a growing share of the channels to attention and the others to convolution and max pooling. LayerScale in
the two last stages; the last norm comes before the pooling of the head.

Source: Inception Transformer, arXiv 2205.12956. Equal to the authors' code; timm's `iformer` is another model.
"""

from __future__ import annotations

from collections.abc import Sequence

from formwright.candidates import candidate
from formwright.errors import UserError
from formwright.models import Network, model_specification, register_family
from formwright.models.checkpoints import Layout, Rename, State, register_layout
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

_NORM = part("layer_norm", eps=1e-6)


def iformer(
    *,
    name: str = "iformer",
    depths: Sequence[int],
    dims: Sequence[int],
    heads: Sequence[int],
    attention_heads: Sequence[int],
    pools: Sequence[int] = (2, 2, 1, 1),
    layer_scale: Sequence[float | None] = (None, None, 1e-6, 1e-6),
    mlp_ratio: float = 4.0,
    drop_path: float = 0.0,
    stem: PartSpec | None = None,
    classes: int = 1000,
    channels: int = 3,
    image_size: int | tuple[int, int] = 224,
) -> ChainSpec:
    """An iFormer.

    Args:
        depths: blocks of each stage.
        dims: channels of each stage.
        heads: heads that the channels of each stage are split over.
        attention_heads: how many of them attend, for each block of the model in order (the frequency ramp).
        pools: side of the neighbourhoods between which each stage attends.
        layer_scale: initial value of LayerScale for each stage; without it where unset.
        stem: another embedding; the published one has two convolutions, stride 4 in all.

    Raises:
        UserError: the options are not of one length, or ``attention_heads`` has not one entry a block.
    """
    check_stages(depths=depths, dims=dims, heads=heads, pools=pools, layer_scale=layer_scale)
    if len(attention_heads) != sum(depths):
        raise UserError(f"One entry a block is needed in attention_heads: {sum(depths)}, got {len(attention_heads)}.")
    rates = drop_path_rates(drop_path, depths)
    mlp = part("mlp", ratio=mlp_ratio)
    attending = iter(attention_heads)
    stages = []
    for index, dim in enumerate(dims):
        scale = layer_scale[index]
        blocks = []
        for rate in rates[index]:
            mixer = part("inception_mixer", heads=heads[index], attention_heads=next(attending), pool=pools[index])
            branches = (BranchSpec(p, norm=_NORM, layer_scale=scale, drop_path=rate) for p in (mixer, mlp))
            blocks.append(BlockSpec(tuple(branches)))
        stages.append(
            StageSpec(
                dim=dim,
                blocks=tuple(blocks),
                downsample=part("downsampling", kernel=3, norm=part("batch_norm")) if index else None,
                entry=(part("resized_position_table"),),
            )
        )
    if stem is None:
        stem = part("conv_norm_stem", hidden=(dims[0] // 2,), strides=(2, 2), activation="gelu", bias=True)
    return ChainSpec(
        family="iformer",
        name=name,
        task="image-classification",
        input=image_input(channels, image_size),
        classes=classes,
        embed=stem,
        stages=tuple(stages),
        head=part("classifier", norm=_NORM),
    )


_SIZES = {
    "small": {
        "depths": (3, 3, 9, 3),
        "dims": (96, 192, 320, 384),
        "heads": (3, 6, 10, 12),
        "attention_heads": (*[1] * 3, *[3] * 3, *[7] * 4, *[9] * 5, *[11] * 3),
    },
    "base": {
        "depths": (4, 6, 14, 6),
        "dims": (96, 192, 384, 512),
        "heads": (3, 6, 12, 16),
        "attention_heads": (*[1] * 4, *[3] * 6, *[8] * 7, *[10] * 7, *[15] * 6),
    },
    "large": {
        "depths": (4, 6, 18, 8),
        "dims": (96, 192, 448, 640),
        "heads": (3, 6, 14, 20),
        "attention_heads": (*[1] * 4, *[3] * 6, *[10] * 9, *[12] * 9, *[19] * 8),
    },
}

register_family(
    iformer,
    {f"iformer_{size}": options for size, options in _SIZES.items()}
    | {f"iformer_{size}_384": {**options, "image_size": 384} for size, options in _SIZES.items()},
    family="iformer",
)


def _from_zero(pattern: str, replacement: str) -> Rename:
    """The authors count stages from one: ``{stage}`` in the replacement is the first group less one."""
    return (pattern, lambda match: match.expand(replacement.format(stage=int(match[1]) - 1)))


def _tables(state: State, model: Network) -> State:
    """Position tables ``(1, height, width, dim)`` lie on one axis here."""
    return {name: t.flatten(0, 2) if name.endswith("entry.0.table") else t for name, t in state.items()}


_MIXER = r"backbone.stages.{stage}.blocks.\2.branches.0"
_MLP = r"backbone.stages.{stage}.blocks.\2.branches.1"

register_layout(
    "iformer",
    Layout(
        name="sail-sg/iFormer",
        marker=r"^blocks1\.0\.attn\.high_mixer\.",
        renames=(
            _from_zero(r"pos_embed(\d)", r"backbone.stages.{stage}.entry.0.table"),
            (r"patch_embed\.proj1\.(.*)", r"backbone.embed.convs.0.conv.\1"),
            (r"patch_embed\.norm1\.(.*)", r"backbone.embed.convs.0.norm.\1"),
            (r"patch_embed\.proj2\.(.*)", r"backbone.embed.convs.1.conv.\1"),
            (r"patch_embed\.norm2\.(.*)", r"backbone.embed.convs.1.norm.\1"),
            _from_zero(r"patch_embed(\d)\.proj\.(.*)", r"backbone.stages.{stage}.downsample.conv.\2"),
            _from_zero(r"patch_embed(\d)\.norm\.(.*)", r"backbone.stages.{stage}.downsample.norm.norm.\2"),
            _from_zero(r"blocks(\d)\.(\d+)\.norm1\.(.*)", rf"{_MIXER}.norm.\3"),
            _from_zero(r"blocks(\d)\.(\d+)\.attn\.high_mixer\.conv1\.(.*)", rf"{_MIXER}.part.convolution_in.\3"),
            _from_zero(r"blocks(\d)\.(\d+)\.attn\.high_mixer\.proj1\.(.*)", rf"{_MIXER}.part.convolution.\3"),
            _from_zero(r"blocks(\d)\.(\d+)\.attn\.high_mixer\.proj2\.(.*)", rf"{_MIXER}.part.pooling_in.\3"),
            _from_zero(r"blocks(\d)\.(\d+)\.attn\.low_mixer\.(.*)", rf"{_MIXER}.part.\3"),
            _from_zero(r"blocks(\d)\.(\d+)\.attn\.conv_fuse\.(.*)", rf"{_MIXER}.part.fuse.\3"),
            _from_zero(r"blocks(\d)\.(\d+)\.attn\.(.*)", rf"{_MIXER}.part.\3"),
            _from_zero(r"blocks(\d)\.(\d+)\.layer_scale_1", rf"{_MIXER}.layer_scale"),
            _from_zero(r"blocks(\d)\.(\d+)\.norm2\.(.*)", rf"{_MLP}.norm.\3"),
            _from_zero(r"blocks(\d)\.(\d+)\.mlp\.(.*)", rf"{_MLP}.part.\3"),
            _from_zero(r"blocks(\d)\.(\d+)\.layer_scale_2", rf"{_MLP}.layer_scale"),
            (r"norm\.(.*)", r"head.norm.\1"),
            (r"head\.(.*)", r"head.linear.\1"),
        ),
        convert=_tables,
    ),
)


@candidate("image-classification", "iformer", order=80, first={"depth": 2})
def _for_pictures(shape: PictureShape, width: int, depth: int) -> ChainSpec:
    """Four heads a stage; the share of them that attend grows with depth."""
    ramp = (1, 2, 3, 3)[4 - shape.stages :] if shape.stages < 4 else (1, 1, 2, 3)
    return model_specification(
        "iformer_small",
        depths=(depth,) * shape.stages,
        dims=stage_widths(width, shape.stages, 16),
        heads=(4,) * shape.stages,
        attention_heads=tuple(heads for heads in ramp for _ in range(depth)),
        pools=(2,) * (shape.stages - 1) + (1,),
        layer_scale=(None,) * shape.stages,
        stem=overlapping_patches(shape, norm=part("batch_norm")),
        **fitted(shape),
    )

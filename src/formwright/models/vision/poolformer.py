"""PoolFormer, and the MetaFormer ablations of the same paper.

Four stages at strides 4, 8, 16 and 32. Pre-norm residual blocks with LayerScale; the norm takes its statistics over
all channels and places of a sample; the token mixer is average pooling minus the identity. The last norm comes before
the pooling of the head.

Source: MetaFormer Is Actually What You Need for Vision, arXiv 2111.11418. Equal to the authors' code; timm's model of
the same name pools before its last norm and is another function.
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

STEM = part("patch_embedding", kernel=7, stride=4, padding=2)
_MIXERS: dict[str, PartSpec] = {"attention": part("attention", head_dim=32)}


def poolformer(
    *,
    name: str = "poolformer",
    depths: Sequence[int],
    dims: Sequence[int],
    mixers: Sequence[str] = ("pooling",) * 4,
    norm: str = "group_norm",
    positions: Sequence[bool] = (False,) * 4,
    mlp_ratio: float = 4.0,
    layer_scale: float = 1e-5,
    drop_path: float = 0.0,
    stem: PartSpec = STEM,
    classes: int = 1000,
    channels: int = 3,
    image_size: int | tuple[int, int] = 224,
) -> ChainSpec:
    """A PoolFormer, or another MetaFormer of the paper's frame.

    Args:
        depths: blocks of each stage.
        dims: channels of each stage.
        mixers: token mixer of each stage: ``pooling``, ``identity``, ``attention`` or ``spatial_linear``.
        norm: norm of the blocks and of the head.
        positions: whether a stage starts by adding a position table.
        stem: the embedding; the published one has stride 4.
    """
    check_stages(depths=depths, dims=dims, mixers=mixers, positions=positions)
    rates = drop_path_rates(drop_path, depths)
    norm_part, mlp = part(norm), part("mlp", ratio=mlp_ratio)
    stages = []
    for index, dim in enumerate(dims):
        mixer = _MIXERS.get(mixers[index], part(mixers[index]))
        block = [
            BlockSpec(
                (
                    BranchSpec(mixer, norm=norm_part, layer_scale=layer_scale, drop_path=rate),
                    BranchSpec(mlp, norm=norm_part, layer_scale=layer_scale, drop_path=rate),
                )
            )
            for rate in rates[index]
        ]
        stages.append(
            StageSpec(
                dim=dim,
                blocks=tuple(block),
                downsample=None if index == 0 else part("downsampling", kernel=3, stride=2, padding=1),
                entry=(part("position_table", std=0.02),) if positions[index] else (),
            )
        )
    return ChainSpec(
        family="poolformer",
        name=name,
        task="image-classification",
        input=image_input(channels, image_size),
        classes=classes,
        embed=stem,
        stages=tuple(stages),
        head=part("classifier", norm=norm_part),
    )


_S12 = {"depths": (2, 2, 6, 2), "dims": (64, 128, 320, 512)}
_LAYER_NORM_S12 = {**_S12, "norm": "layer_norm"}

register_family(
    poolformer,
    {
        "poolformer_s12": _S12,
        "poolformer_s24": {"depths": (4, 4, 12, 4), "dims": (64, 128, 320, 512)},
        "poolformer_s36": {"depths": (6, 6, 18, 6), "dims": (64, 128, 320, 512), "layer_scale": 1e-6},
        "poolformer_m36": {"depths": (6, 6, 18, 6), "dims": (96, 192, 384, 768), "layer_scale": 1e-6},
        "poolformer_m48": {"depths": (8, 8, 24, 8), "dims": (96, 192, 384, 768), "layer_scale": 1e-6},
        "metaformer_id_s12": {**_S12, "mixers": ("identity",) * 4},
        "metaformer_pppf_s12_224": {**_S12, "mixers": ("pooling",) * 3 + ("spatial_linear",)},
        "metaformer_ppff_s12_224": {**_S12, "mixers": ("pooling",) * 2 + ("spatial_linear",) * 2},
        "metaformer_pppa_s12_224": {
            **_LAYER_NORM_S12,
            "mixers": ("pooling",) * 3 + ("attention",),
            "positions": (False, False, False, True),
        },
        "metaformer_ppaa_s12_224": {
            **_LAYER_NORM_S12,
            "mixers": ("pooling",) * 2 + ("attention",) * 2,
            "positions": (False, False, True, False),
        },
    },
    family="poolformer",
)


def _stage_names(state: State, model: Network) -> State:
    """The authors number stages, downsampling and position tables together, in the order in which they run."""
    modules = sorted({int(name.split(".")[1]) for name in state if name.startswith("network.")})
    stage = 0
    prefixes: dict[str, str] = {}
    for number in modules:
        names = [name for name in state if name.startswith(f"network.{number}.")]
        if names == [f"network.{number}.pos_embed"]:
            prefixes[names[0]] = f"backbone.stages.{stage}.entry.0.table"
        elif any(name.startswith(f"network.{number}.proj.") for name in names):
            prefixes[f"network.{number}.proj."] = f"backbone.stages.{stage}.downsample.conv."
        else:
            prefixes[f"network.{number}."] = f"backbone.stages.{stage}.blocks."
            stage += 1
    renamed = {}
    for name, tensor in state.items():
        for prefix, replacement in prefixes.items():
            if name.startswith(prefix):
                name = replacement + name.removeprefix(prefix)
                break
        if name.endswith(".entry.0.table"):
            tensor = tensor.flatten(2).squeeze(0).T
        renamed[name] = tensor
    return renamed


register_layout(
    "poolformer",
    Layout(
        name="sail-sg/poolformer",
        marker=r"^network\.0\.0\.norm1",
        renames=(
            (r"patch_embed\.proj\.(.*)", r"backbone.embed.conv.\1"),
            (r"norm\.(.*)", r"head.norm.\1"),
            (r"head\.(.*)", r"head.linear.\1"),
            (r"(network\.\d+\.\d+)\.layer_scale_1", r"\1.branches.0.layer_scale"),
            (r"(network\.\d+\.\d+)\.layer_scale_2", r"\1.branches.1.layer_scale"),
            (r"(network\.\d+\.\d+)\.norm1\.(.*)", r"\1.branches.0.norm.\2"),
            (r"(network\.\d+\.\d+)\.norm2\.(.*)", r"\1.branches.1.norm.\2"),
            (r"(network\.\d+\.\d+)\.token_mixer\.(.*)", r"\1.branches.0.part.\2"),
            (r"(network\.\d+\.\d+)\.mlp\.(.*)", r"\1.branches.1.part.\2"),
        ),
        convert=_stage_names,
    ),
)

_BRANCH = r"backbone.stages.\1.blocks.\2.branches."

#: timm pools before its last norm: its weights are for models that do so, as those of its folders.
register_layout(
    "poolformer",
    Layout(
        name="timm",
        marker=r"^stages\.0\.blocks\.0\.norm1\.",
        renames=(
            (r"stem\.conv\.(.*)", r"backbone.embed.conv.\1"),
            (r"stages\.(\d+)\.downsample\.conv\.(.*)", r"backbone.stages.\1.downsample.conv.\2"),
            (r"stages\.(\d+)\.blocks\.(\d+)\.layer_scale1\.scale", _BRANCH + r"0.layer_scale"),
            (r"stages\.(\d+)\.blocks\.(\d+)\.layer_scale2\.scale", _BRANCH + r"1.layer_scale"),
            (r"stages\.(\d+)\.blocks\.(\d+)\.norm1\.(.*)", _BRANCH + r"0.norm.\3"),
            (r"stages\.(\d+)\.blocks\.(\d+)\.norm2\.(.*)", _BRANCH + r"1.norm.\3"),
            (r"stages\.(\d+)\.blocks\.(\d+)\.mlp\.(.*)", _BRANCH + r"1.part.\3"),
            (r"head\.norm\.(.*)", r"head.pooled_norm.\1"),
            (r"head\.fc\.(.*)", r"head.linear.\1"),
        ),
    ),
)


@candidate("image-classification", "poolformer", order=60, first={"depth": 2})
def _for_pictures(shape: PictureShape, width: int, depth: int) -> ChainSpec:
    return model_specification(
        "poolformer_s12",
        depths=(depth,) * shape.stages,
        dims=stage_widths(width, shape.stages),
        mixers=("pooling",) * shape.stages,
        positions=(False,) * shape.stages,
        layer_scale=1.0,
        stem=overlapping_patches(shape),
        **fitted(shape),
    )

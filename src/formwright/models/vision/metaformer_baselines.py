"""MetaFormer baselines: IdentityFormer, RandFormer, PoolFormerV2, ConvFormer and CAFormer.

Four stages at strides 4, 8, 16 and 32; the token mixer of each stage makes the family. MLPs with StarReLU and without
biases, norms that only scale, and in the two last stages a learned scale on the residual itself. The last norm comes
after the pooling of the head, which for ConvFormer and CAFormer has a hidden layer.

Source: MetaFormer Baselines for Vision, arXiv 2210.13452. Equal to the authors' code; timm's models of the same names
differ by the epsilon of one norm in the head (1e-6 instead of 1e-5).
"""

from __future__ import annotations

from collections.abc import Sequence

from formwright.candidates import candidate
from formwright.models import model_specification, register_family
from formwright.models.checkpoints import Layout, Rename, register_layout
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

_SCALE_ONLY = part("layer_norm", eps=1e-6, bias=False)
_HEAD_NORM = part("layer_norm", eps=1e-6)
STEM = part("patch_embedding", kernel=7, stride=4, padding=2, norm=_SCALE_ONLY)
_MIXERS: dict[str, PartSpec] = {"attention": part("attention", head_dim=32, bias=False)}


def metaformer_baselines(
    *,
    name: str = "metaformer",
    depths: Sequence[int],
    dims: Sequence[int],
    mixers: Sequence[str],
    norm: str = "layer_norm",
    residual_scale: Sequence[float | None] = (None, None, 1.0, 1.0),
    mlp_ratio: float = 4.0,
    activation: str = "star_relu",
    mlp_head: bool = False,
    head_dropout: float = 0.0,
    drop_path: float = 0.0,
    stem: PartSpec = STEM,
    classes: int = 1000,
    channels: int = 3,
    image_size: int | tuple[int, int] = 224,
) -> ChainSpec:
    """A model of the paper's frame.

    Args:
        depths: blocks of each stage.
        dims: channels of each stage.
        mixers: token mixer of each stage: ``identity``, ``random_mixing``, ``pooling``, ``separable_convolution`` or
            ``attention``.
        norm: norm of the blocks, without bias: ``layer_norm``, or ``group_norm`` over the places too.
        residual_scale: initial value, for each stage, of the learned scale of the residual; without it where unset.
        activation: activation of the MLPs.
        mlp_head: whether the classifier has a hidden layer; ``head_dropout`` drops from it in training.
        stem: the embedding; the published one has stride 4.
    """
    check_stages(depths=depths, dims=dims, mixers=mixers, residual_scale=residual_scale)
    rates = drop_path_rates(drop_path, depths)
    block_norm = part(norm, eps=1e-6, bias=False)
    mlp = part("mlp", ratio=mlp_ratio, activation=activation, bias=False)
    stages = []
    for index, dim in enumerate(dims):
        mixer, scale = _MIXERS.get(mixers[index], part(mixers[index])), residual_scale[index]
        blocks = tuple(
            BlockSpec(
                tuple(
                    BranchSpec(branch_part, norm=block_norm, residual_scale=scale, drop_path=rate)
                    for branch_part in (mixer, mlp)
                )
            )
            for rate in rates[index]
        )
        downsample = part("downsampling", kernel=3, stride=2, padding=1, pre_norm=_SCALE_ONLY) if index else None
        stages.append(StageSpec(dim=dim, blocks=blocks, downsample=downsample))
    return ChainSpec(
        family="metaformer_baselines",
        name=name,
        task="image-classification",
        input=image_input(channels, image_size),
        classes=classes,
        embed=stem,
        stages=tuple(stages),
        head=part("mlp_classifier", pooled_norm=_HEAD_NORM, dropout=head_dropout)
        if mlp_head
        else part("classifier", pooled_norm=_HEAD_NORM),
    )


_SMALL, _MEDIUM = (64, 128, 320, 512), (96, 192, 384, 768)
_SIMPLE_SIZES = {
    "s12": {"depths": (2, 2, 6, 2), "dims": _SMALL},
    "s24": {"depths": (4, 4, 12, 4), "dims": _SMALL},
    "s36": {"depths": (6, 6, 18, 6), "dims": _SMALL},
    "m36": {"depths": (6, 6, 18, 6), "dims": _MEDIUM},
    "m48": {"depths": (8, 8, 24, 8), "dims": _MEDIUM},
}
_SIMPLE_MIXERS = {
    "identityformer": ("identity",) * 4,
    "randformer": ("identity", "identity", "random_mixing", "random_mixing"),
    "poolformerv2": ("pooling",) * 4,
}
_STRONG_SIZES = {
    "s18": {"depths": (3, 3, 9, 3), "dims": _SMALL},
    "s36": {"depths": (3, 12, 18, 3), "dims": _SMALL},
    "m36": {"depths": (3, 12, 18, 3), "dims": (96, 192, 384, 576)},
    "b36": {"depths": (3, 12, 18, 3), "dims": (128, 256, 512, 768)},
}
_STRONG_MIXERS = {
    "convformer": ("separable_convolution",) * 4,
    "caformer": ("separable_convolution", "separable_convolution", "attention", "attention"),
}

register_family(
    metaformer_baselines,
    {
        f"{family}_{size}": {**options, "mixers": mixers, "norm": "group_norm"}
        for family, mixers in _SIMPLE_MIXERS.items()
        for size, options in _SIMPLE_SIZES.items()
    }
    | {
        f"{family}_{size}": {**options, "mixers": mixers, "mlp_head": True}
        for family, mixers in _STRONG_MIXERS.items()
        for size, options in _STRONG_SIZES.items()
    },
    family="metaformer_baselines",
)


def _block_renames(block: str) -> tuple[Rename, ...]:
    """Names within a block, which is the pattern ``block`` (of stage and block number) in the source."""
    mixer, mlp = r"backbone.stages.\1.blocks.\2.branches.0", r"backbone.stages.\1.blocks.\2.branches.1"
    return (
        (rf"{block}\.norm1\.(.*)", rf"{mixer}.norm.\3"),
        (rf"{block}\.token_mixer\.pwconv([12])\.(.*)", rf"{mixer}.part.fc\3.\4"),
        (rf"{block}\.token_mixer\.act1\.(.*)", rf"{mixer}.part.activation.\3"),
        (rf"{block}\.token_mixer\.dwconv\.(.*)", rf"{mixer}.part.conv.\3"),
        (rf"{block}\.token_mixer\.(.*)", rf"{mixer}.part.\3"),
        (rf"{block}\.res_scale1\.scale", rf"{mixer}.residual_scale"),
        (rf"{block}\.norm2\.(.*)", rf"{mlp}.norm.\3"),
        (rf"{block}\.mlp\.act\.(.*)", rf"{mlp}.part.activation.\3"),
        (rf"{block}\.mlp\.(.*)", rf"{mlp}.part.\3"),
        (rf"{block}\.res_scale2\.scale", rf"{mlp}.residual_scale"),
    )


register_layout(
    "metaformer_baselines",
    Layout(
        name="sail-sg/metaformer",
        marker=r"^downsample_layers\.0\.conv\.",
        renames=(
            (r"downsample_layers\.0\.conv\.(.*)", r"backbone.embed.conv.\1"),
            (r"downsample_layers\.0\.post_norm\.(.*)", r"backbone.embed.norm.\1"),
            (r"downsample_layers\.(\d+)\.(.*)", r"backbone.stages.\1.downsample.\2"),
            *_block_renames(r"stages\.(\d+)\.(\d+)"),
            (r"norm\.(.*)", r"head.pooled_norm.\1"),
            (r"head\.fc2\.(.*)", r"head.linear.\1"),
            (r"head\.(weight|bias)", r"head.linear.\1"),
        ),
    ),
)

register_layout(
    "metaformer_baselines",
    Layout(
        name="timm",
        marker=r"^stages\.0\.blocks\.0\.norm1\.",
        renames=(
            (r"stem\.(.*)", r"backbone.embed.\1"),
            (r"stages\.(\d+)\.downsample\.norm\.(.*)", r"backbone.stages.\1.downsample.pre_norm.\2"),
            (r"stages\.(\d+)\.downsample\.conv\.(.*)", r"backbone.stages.\1.downsample.conv.\2"),
            *_block_renames(r"stages\.(\d+)\.blocks\.(\d+)"),
            (r"head\.norm\.(.*)", r"head.pooled_norm.\1"),
            (r"head\.fc\.fc2\.(.*)", r"head.linear.\1"),
            (r"head\.fc\.(weight|bias)", r"head.linear.\1"),
            (r"head\.fc\.(.*)", r"head.\1"),
        ),
    ),
)


@candidate("image-classification", "metaformer-baselines", order=30, first={"depth": 2})
def _for_pictures(shape: PictureShape, width: int, depth: int) -> ChainSpec:
    """Separable convolutions, and attention with heads of 32 channels in the last stage."""
    dims = stage_widths(width, shape.stages, 16)
    dims = (*dims[:-1], 32 * max(1, round(dims[-1] / 32)))
    return model_specification(
        "caformer_s18",
        depths=(depth,) * shape.stages,
        dims=dims,
        mixers=(*["separable_convolution"] * (shape.stages - 1), "attention"),
        residual_scale=(None,) * shape.stages,
        mlp_head=False,
        stem=overlapping_patches(shape, norm=part("layer_norm", eps=1e-6)),
        **fitted(shape),
    )

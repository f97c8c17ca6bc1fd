"""U-Nets for pictures, series and volumes: residual blocks, or any mixer of the library on the levels that you name.

``u_net`` has a stem, strided convolutions down, transposed convolutions up, and on each level blocks of residual
convolutions (He et al., arXiv 1512.03385, with instance norms as nnU-Net's residual encoder, arXiv 1904.08128) or of a
mixer and an MLP, each behind a norm. ``basic_unet`` is MONAI's ``BasicUNet``: two plain convolutions a level, max
pooling down, transposed convolutions up.

Source: U-Net: Convolutional Networks for Biomedical Image Segmentation, arXiv 1505.04597; Mamba on the lowest levels as
in U-Mamba, arXiv 2401.04722.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence

from formwright.errors import UserError
from formwright.models import Network, register_family
from formwright.models.checkpoints import Layout, State, register_layout
from formwright.models.topologies.u_net import UNetSpec
from formwright.models.vision.common import check_stages, drop_path_rates
from formwright.nn.inputs import GridInput, ImageInput
from formwright.nn.parts import PARTS
from formwright.nn.specification import BlockSpec, BranchSpec, PartSpec, StageSpec, part

CONVOLUTIONS = "convolutions"
_INSTANCE_NORM = part("instance_norm")
_UPSAMPLING = part("upsampling")


def _grid_input(channels: int, image_size: int | Sequence[int], axes: int, sized: bool) -> ImageInput | GridInput:
    """Pictures, or a grid of any number of axes."""
    size = (image_size,) * axes if isinstance(image_size, int) else tuple(image_size)
    if axes not in (1, 2, 3) or len(size) != axes or min(size) < 1 or channels < 1:
        raise UserError(
            f"A U-Net takes a grid of 1, 2 or 3 axes, as many sides and at least one channel; got axes={axes}, "
            f"image_size={image_size} and {channels} channels."
        )
    if axes == 2:
        return ImageInput(channels, (size[0], size[1]), sized)
    return GridInput(channels, size, sized)


def _on_axes(spec: PartSpec, axes: int) -> PartSpec:
    """The part told how many axes the grid has, where it asks."""
    asks = "dimensions" in inspect.signature(PARTS[spec.name]).parameters
    return spec.with_options(dimensions=axes) if asks and "dimensions" not in spec.options else spec


def u_net(
    *,
    name: str = "u_net",
    dims: Sequence[int],
    depths: Sequence[int],
    mixers: Sequence[PartSpec | str] | None = None,
    decoder_depths: Sequence[int] | None = None,
    axes: int = 2,
    norm: PartSpec = _INSTANCE_NORM,
    activation: str = "leaky_relu",
    upsampling: PartSpec = _UPSAMPLING,
    join: str = "concatenate",
    mlp_ratio: float = 4.0,
    drop_path: float = 0.0,
    classes: int = 2,
    channels: int = 1,
    image_size: int | Sequence[int] = 128,
    sized: bool = False,
) -> UNetSpec:
    """A U-Net of residual blocks.

    Args:
        dims: channels of each level, from the finest.
        depths: blocks of each level of the encoder; the last is the bottom.
        mixers: what the blocks of each level hold: ``"convolutions"`` for residual convolutions, which all levels have
            if unset, or a part that mixes tokens, by name or with its options.
        decoder_depths: blocks of each level of the decoder, from the finest; one each if unset.
        axes: of the grid: 1 for series, 2 for pictures, 3 for volumes.
        norm: the norm in and after convolutions.
        activation: after them.
        upsampling: from a level to the finer one: ``upsampling`` (a transposed convolution) or
            ``interpolated_upsampling``.
        join: ``"concatenate"``, with a projection, or ``"sum"``.
        mlp_ratio: of the MLP beside a mixer.
        drop_path: share of samples whose residual branches are dropped in training, growing from 0 with the depth.
        classes: number of scores for each place.
        channels: of the input.
        image_size: its side, or one per axis; what position tables are made for.
        sized: whether samples of several sizes come padded, with their ``lengths``.

    Raises:
        UserError: options per level of different lengths, or a grid that is none.
    """
    up_depths = [1] * (len(dims) - 1) if decoder_depths is None else list(decoder_depths)
    kinds = [CONVOLUTIONS] * len(dims) if mixers is None else list(mixers)
    check_stages(dims=dims, depths=depths, mixers=kinds)
    if len(dims) < 2 or len(up_depths) != len(dims) - 1:
        raise UserError(
            f"A U-Net has at least two levels, and a decoder on each but the last; got {len(dims)} dims and "
            f"{len(up_depths)} decoder_depths."
        )
    if join not in ("concatenate", "sum"):
        raise UserError(f'Levels join by "concatenate" or "sum", not by {join!r}.')

    def block(kind: PartSpec | str, rate: float) -> BlockSpec:
        if kind == CONVOLUTIONS:
            convolutions = part("normed_convolutions", norm=norm, activation=activation, dimensions=axes)
            return BlockSpec(
                (BranchSpec(convolutions, post_norm=PartSpec("activation", {"name": activation}), drop_path=rate),)
            )
        mixer = _on_axes(part(kind) if isinstance(kind, str) else kind, axes)
        inner = (mixer, part("mlp", ratio=mlp_ratio))
        return BlockSpec(tuple(BranchSpec(each, norm=part("layer_norm"), drop_path=rate) for each in inner))

    def to_width(stride: int, kernel: int = 3) -> PartSpec:
        return part("downsampling", kernel=kernel, stride=stride, norm=norm, bias=False, dimensions=axes)

    encoder, decoder = [], []
    for level, rates in enumerate(drop_path_rates(drop_path, depths)):
        blocks = tuple(block(kinds[level], rate) for rate in rates)
        encoder.append(StageSpec(dim=dims[level], blocks=blocks, downsample=to_width(2 if level else 1)))
        if level < len(up_depths):
            blocks = (block(kinds[level], max(rates, default=0.0)),) * up_depths[level]
            projection = to_width(1, kernel=1) if join == "concatenate" else None
            decoder.append(StageSpec(dim=dims[level], blocks=blocks, downsample=projection))
    return UNetSpec(
        family="unet",
        name=name,
        task="segmentation",
        input=_grid_input(channels, image_size, axes, sized),
        classes=classes,
        encoder=tuple(encoder),
        upsampling=(_on_axes(upsampling, axes),) * len(decoder),
        decoder=tuple(reversed(decoder)),
        join=join,  # type: ignore[arg-type]
        head=part("token_scores", bias=True),
        initialization="fan_in",
    )


_LOWEST_TWO = (CONVOLUTIONS,) * 3
_LARGE = {"dims": (32, 64, 128, 256, 512), "depths": (2, 2, 2, 2, 2)}

register_family(
    u_net,
    {
        "unet_1d_small": {"dims": (16, 32, 64, 128), "depths": (1, 1, 1, 1), "axes": 1, "image_size": 1024},
        "unet_2d_small": {"dims": (16, 32, 64, 128), "depths": (1, 1, 1, 1)},
        "unet_3d_small": {"dims": (16, 32, 64, 128), "depths": (1, 1, 1, 1), "axes": 3, "image_size": 64},
        "unet_2d": _LARGE,
        "unet_2d_attention": {**_LARGE, "mixers": (*_LOWEST_TWO, *[part("attention", heads=8)] * 2)},
        "unet_2d_mamba": {**_LARGE, "mixers": (*_LOWEST_TWO, *[part("flattened", part=part("mamba"))] * 2)},
    },
    family="unet",
    task="segmentation",
)


def basic_unet(
    *,
    name: str = "basic_unet",
    dims: Sequence[int] = (32, 32, 64, 128, 256),
    out_dim: int = 32,
    axes: int = 2,
    classes: int = 2,
    channels: int = 1,
    image_size: int | Sequence[int] = 96,
    sized: bool = False,
) -> UNetSpec:
    """MONAI's ``BasicUNet`` in its default form.

    Args:
        dims: channels of each level, from the finest.
        out_dim: channels of the finest level of the decoder.
        axes: of the grid: 1 for series, 2 for pictures, 3 for volumes.
        classes: number of scores for each place.
        channels: of the input.
        image_size: its side, or one per axis.
        sized: whether samples of several sizes come padded, with their ``lengths``.

    Raises:
        UserError: fewer than two levels, or a grid that is none.
    """
    if len(dims) < 2:
        raise UserError(f"A U-Net has at least two levels; got {len(dims)} dims.")

    def stage(dim: int, pool: int) -> StageSpec:
        block = part("convolution_block", pool=pool, bias=True, dimensions=axes)
        return StageSpec(dim=dim, blocks=(), downsample=block)

    ups = (*dims[-2:0:-1], out_dim)
    return UNetSpec(
        family="unet",
        name=name,
        task="segmentation",
        input=_grid_input(channels, image_size, axes, sized),
        classes=classes,
        encoder=tuple(stage(dim, pool=2 if level else 1) for level, dim in enumerate(dims)),
        upsampling=(part("upsampling", dimensions=axes),) * len(ups),
        decoder=tuple(stage(dim, pool=1) for dim in ups),
        head=part("token_scores", bias=True),
        initialization="fan_in",
    )


register_family(
    basic_unet,
    {"monai_basic_unet_2d": {}, "monai_basic_unet_3d": {"axes": 3}},
    family="unet",
    task="segmentation",
)


def _ways_up(state: State, model: Network) -> State:
    """MONAI counts the ways up from the finest, which we count from the coarsest.

    The kernel ``(in, out, *kernel)`` of a transposed convolution becomes a dense layer whose rows count the places, the
    channels fastest.
    """
    ways = len(model.specification.decoder)
    renamed = {}
    for name, tensor in state.items():
        path = re.sub(r"^(decoder|upsampling)\.up(\d+)\.", lambda match: f"{match[1]}.{ways - int(match[2])}.", name)
        if path.startswith("upsampling.") and path.endswith(".weight"):
            tensor = tensor.flatten(2).permute(2, 1, 0).flatten(0, 1)
        renamed[path] = tensor
    return renamed


def _layer(stage: str) -> Callable[[re.Match[str]], str]:
    """Our name of a layer of ``TwoConv``; the first group of the pattern is the level."""

    def name(match: re.Match[str]) -> str:
        level, number, layer, leaf = match.groups()
        ours = {"conv": "conv", "adn.N": "norm"}[layer]
        return f"{stage}{level}.downsample.convolutions.{ours}{int(number) + 1}.{leaf}"

    return name


_TWO_CONV = r"conv_(\d)\.(conv|adn\.N)\.(.*)"

register_layout(
    "unet",
    Layout(
        name="MONAI",
        marker=r"^final_conv\.",
        renames=(
            (r"conv_(0)\." + _TWO_CONV, _layer("encoder.")),
            (r"down_(\d+)\.convs\." + _TWO_CONV, _layer("encoder.")),
            (r"upcat_(\d+)\.convs\." + _TWO_CONV, _layer("decoder.up")),
            (r"upcat_(\d+)\.upsample\.deconv\.weight", r"upsampling.up\1.linear.weight"),
            (r"upcat_(\d+)\.upsample\.deconv\.bias", r"upsampling.up\1.bias"),
            (r"final_conv\.(.*)", r"head.linear.\1"),
        ),
        convert=_ways_up,
    ),
)

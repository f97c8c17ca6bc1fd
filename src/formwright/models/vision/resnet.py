"""Residual networks: the plain baseline in every comparison.

A stem of stride 4, four stages at strides 4, 8, 16 and 32, basic blocks (two convolutions of kernel 3) or bottleneck
blocks (kernels 1, 3, 1), the activation after the addition. The first block of a stage changes width and grid, so it
is the stage's downsampling.

Source: Deep Residual Learning for Image Recognition, arXiv 1512.03385. Equal to torchvision's and timm's models of the
same names, which have the stride in a bottleneck's middle convolution.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from formwright.candidates import candidate
from formwright.models import Network, model_specification, register_family
from formwright.models.checkpoints import Layout, State, register_layout
from formwright.models.vision.common import check_stages, drop_path_rates, fitted, image_input, stage_widths
from formwright.nn.specification import BlockSpec, BranchSpec, ChainSpec, PartSpec, StageSpec, part
from formwright.shapes import PictureShape

STEM = part("conv_norm_stem", kernel=7, strides=(2,), last_activation=True, max_pool=True)
#: For images of some 32 pixels, which the published stem would leave hardly any tokens of.
SMALL_IMAGE_STEM = part("conv_norm_stem", kernel=3, strides=(1,), last_activation=True)


def resnet(
    *,
    name: str = "resnet",
    depths: Sequence[int],
    dims: Sequence[int] = (64, 128, 256, 512),
    bottleneck: bool = False,
    stem_dim: int | None = None,
    stem: PartSpec = STEM,
    zero_init: bool = True,
    drop_path: float = 0.0,
    classes: int = 1000,
    channels: int = 3,
    image_size: int | tuple[int, int] = 224,
) -> ChainSpec:
    """A residual network.

    Args:
        depths: blocks of each stage.
        dims: channels of each stage.
        bottleneck: bottleneck blocks, with a quarter of the channels in their middle, instead of basic ones.
        stem_dim: channels of the stem; those of the first stage, or a quarter of them with bottlenecks, if unset.
        stem: another embedding, such as :data:`SMALL_IMAGE_STEM`.
        zero_init: whether the last norm of each residual branch starts at zero (arXiv 1706.02677).
    """
    check_stages(depths=depths, dims=dims)
    kind = "bottleneck_convolutions" if bottleneck else "basic_convolutions"
    convolutions = part(kind, norm_weight=0.0 if zero_init else 1.0)
    width = stem_dim or (dims[0] // 4 if bottleneck else dims[0])
    in_dim = width
    stages = []
    for index, (dim, rates) in enumerate(zip(dims, drop_path_rates(drop_path, depths), strict=True)):
        stride = 1 if index == 0 else 2
        first = None
        if stride > 1 or dim != in_dim:
            first = part("residual_downsampling", convolutions=convolutions, stride=stride, drop_path=rates[0])
        branches = [BranchSpec(convolutions, post_norm=part("activation"), drop_path=rate) for rate in rates]
        stages.append(
            StageSpec(
                dim=dim,
                blocks=tuple(BlockSpec((branch,)) for branch in branches[1 if first else 0 :]),
                downsample=first,
            )
        )
        in_dim = dim
    return ChainSpec(
        family="resnet",
        name=name,
        task="image-classification",
        input=image_input(channels, image_size),
        classes=classes,
        embed=stem,
        embed_dim=width,
        stages=tuple(stages),
        head=part("classifier"),
    )


_WIDE = {"dims": (256, 512, 1024, 2048), "bottleneck": True}

register_family(
    resnet,
    {
        "resnet18": {"depths": (2, 2, 2, 2)},
        "resnet34": {"depths": (3, 4, 6, 3)},
        "resnet50": {"depths": (3, 4, 6, 3), **_WIDE},
        "resnet101": {"depths": (3, 4, 23, 3), **_WIDE},
    },
    family="resnet",
)


def _block_names(state: State, model: Network) -> State:
    """The first block of a stage is its downsampling where it has a shortcut of its own; others count on from there."""
    pattern = re.compile(r"layer(\d)\.(\d+)\.(conv|bn|downsample\.)(\d)\.(.*)")
    joined = {name.split(".")[0] for name in state if ".0.downsample." in name}
    renamed = {}
    for name, tensor in state.items():
        match = pattern.fullmatch(name)
        if match:
            layer, block, kind, number, leaf = match.groups()
            first = int(block) == 0 and f"layer{layer}" in joined
            place = int(block) - (f"layer{layer}" in joined)
            start = f"backbone.stages.{int(layer) - 1}."
            start += "downsample." if first else f"blocks.{place}.branches.0."
            if kind == "downsample.":
                name = f"{start}shortcut.{('conv', 'norm')[int(number)]}.{leaf}"
            else:
                layer_kind = "norm" if kind == "bn" else kind
                name = f"{start}{'convolutions' if first else 'part'}.conv{number}.{layer_kind}.{leaf}"
        renamed[name] = tensor
    return renamed


register_layout(
    "resnet",
    Layout(
        name="torchvision and timm",
        marker=r"^layer1\.0\.conv1\.",
        renames=(
            (r"conv1\.(.*)", r"backbone.embed.convs.0.conv.\1"),
            (r"bn1\.(.*)", r"backbone.embed.convs.0.norm.\1"),
            (r"fc\.(.*)", r"head.linear.\1"),
        ),
        convert=_block_names,
    ),
)


@candidate("image-classification", "resnet", order=10, first={"depth": 1}, plain="plain ResNet")
def _for_pictures(shape: PictureShape, width: int, depth: int) -> ChainSpec:
    """Of basic blocks, which hold two dense convolutions, so that one a stage is enough to begin with."""
    strides = {1: (1,), 2: (2,), 4: (2, 2)}[shape.stem_stride]
    hidden = (max(8, width // 2),) * (len(strides) - 1)
    return model_specification(
        "resnet18",
        depths=(depth,) * shape.stages,
        dims=stage_widths(width, shape.stages),
        stem_dim=width,
        zero_init=False,
        stem=part("conv_norm_stem", hidden=hidden, strides=strides, last_activation=True),
        **fitted(shape),
    )

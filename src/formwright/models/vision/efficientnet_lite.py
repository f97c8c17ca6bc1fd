"""EfficientNet-Lite: EfficientNet for machines without squeeze-and-excitation and with INT8.

A stem of stride 2, seven stages of inverted bottlenecks at strides 2, 4, 8, 16, 16, 32 and 32, and 1,280 channels that
are averaged over the places. The first block of a stage changes the width and has no residual connection. Against
EfficientNet, activations are ReLU6, there is no squeeze-and-excitation, and stem, head and the numbers of blocks of the
first and the last stage are the same in all sizes.

Source: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, arXiv 1905.11946; the lite versions
are those of the authors' code alone (tensorflow/tpu). Zeros are placed as by TensorFlow's ``SAME``, so that equal
outputs depend on the side of the picture being even or odd; timm's ``tf_efficientnet_lite*`` are these models, its own
``efficientnet_lite*`` have ``same_padding=False, eps=1e-5``. The momentum of the running statistics (0.01 in the
authors' training of 350 epochs) is PyTorch's 0.1 here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from formwright.models import Network, register_family
from formwright.models.checkpoints import Layout, State, register_layout
from formwright.models.preprocessing import Preprocessing
from formwright.models.vision.common import check_stages, drop_path_rates, image_input
from formwright.nn.specification import BlockSpec, BranchSpec, ChainSpec, PartSpec, StageSpec, part
from formwright.resizing import Resizing

DEPTHS = (1, 2, 2, 3, 3, 4, 1)
DIMS = (16, 24, 40, 80, 112, 192, 320)


def efficientnet_lite(
    *,
    name: str = "efficientnet_lite",
    depths: Sequence[int] = DEPTHS,
    dims: Sequence[int] = DIMS,
    strides: Sequence[int] = (1, 2, 2, 2, 1, 2, 1),
    kernels: Sequence[int] = (3, 3, 5, 3, 5, 5, 3),
    ratios: Sequence[float] = (1, 6, 6, 6, 6, 6, 6),
    stem_dim: int = 32,
    head_dim: int = 1280,
    dropout: float = 0.2,
    drop_path: float = 0.0,
    eps: float = 1e-3,
    same_padding: bool = True,
    stem: PartSpec | None = None,
    classes: int = 1000,
    channels: int = 3,
    image_size: int | tuple[int, int] = 224,
) -> ChainSpec:
    """An EfficientNet-Lite.

    Args:
        depths: blocks of each stage.
        dims: channels of each stage.
        strides: stride of the first block of each stage.
        kernels: side of the depthwise convolutions of each stage.
        ratios: channels of these over those of the block.
        stem_dim: channels of the stem.
        head_dim: channels that are averaged for the classifier.
        dropout: share of these that are dropped in training.
        eps: added to the variance by the norms.
        same_padding: whether zeros are placed as by TensorFlow's ``SAME``, and not equally on both sides.
        stem: another embedding; the published one is a convolution of stride 2.
    """
    check_stages(depths=depths, dims=dims, strides=strides, kernels=kernels, ratios=ratios)
    stages = []
    for stage, rates in enumerate(drop_path_rates(drop_path, [depth - 1 for depth in depths])):
        convolutions = part("inverted_convolutions", ratio=ratios[stage], kernel=kernels[stage], eps=eps)
        first = part(
            "convolutional_downsampling",
            convolutions=convolutions.with_options(same_padding=same_padding),
            stride=strides[stage],
        )
        blocks = tuple(BlockSpec((BranchSpec(convolutions, drop_path=rate),)) for rate in rates)
        stages.append(StageSpec(dim=dims[stage], blocks=blocks, downsample=first))
    stages.append(StageSpec(dim=head_dim, blocks=(), downsample=part("widening", eps=eps)))
    own = part("conv_norm_stem", activation="relu6", last_activation=True, eps=eps, same_padding=same_padding)
    return ChainSpec(
        family="efficientnet_lite",
        name=name,
        task="image-classification",
        input=image_input(channels, image_size),
        classes=classes,
        embed=own if stem is None else stem,
        embed_dim=stem_dim,
        stages=tuple(stages),
        head=part("classifier", dropout=dropout),
    )


def _scaled(width: float, depth: float) -> dict[str, Any]:
    """Stages of another size: widths in multiples of 8 and at least 0.9 of what they should be, depths rounded up."""
    dims = []
    for dim in DIMS:
        rounded = max(8, int(dim * width + 4) // 8 * 8)
        dims.append(rounded if rounded >= 0.9 * dim * width else rounded + 8)
    return {"dims": tuple(dims), "depths": (1, *(math.ceil(depth * count) for count in DEPTHS[1:-1]), 1)}


register_family(
    efficientnet_lite,
    {
        "efficientnet_lite0": {},
        "efficientnet_lite1": {**_scaled(1.0, 1.1), "image_size": 240},
        "efficientnet_lite2": {**_scaled(1.1, 1.2), "image_size": 260, "dropout": 0.3},
        "efficientnet_lite3": {**_scaled(1.2, 1.4), "image_size": 280, "dropout": 0.3},
        "efficientnet_lite4": {**_scaled(1.4, 1.8), "image_size": 300, "dropout": 0.3},
    },
    family="efficientnet_lite",
)

#: What the layers of a block are called: by the authors, by timm in most blocks, and in its block without expansion.
_AUTHORS = {
    "_expand_conv": "conv1.conv",
    "_bn0": "conv1.norm",
    "_depthwise_conv": "conv2.conv",
    "_bn1": "conv2.norm",
    "_project_conv": "conv3.conv",
    "_bn2": "conv3.norm",
}
_TIMM = {
    "conv_pw": "conv1.conv",
    "bn1": "conv1.norm",
    "conv_dw": "conv2.conv",
    "bn2": "conv2.norm",
    "conv_pwl": "conv3.conv",
    "bn3": "conv3.norm",
}
_TIMM_FIRST = {"conv_dw": "conv2.conv", "bn1": "conv2.norm", "conv_pw": "conv3.conv", "bn2": "conv3.norm"}


def _place(stage: int, block: int) -> str:
    """Where a block stands: the first of a stage is its downsampling."""
    start = f"backbone.stages.{stage}."
    return f"{start}blocks.{block - 1}.branches.0.part" if block else f"{start}downsample.convolutions"


def _in_stages(state: State, model: Network) -> State:
    """The authors count blocks through all stages."""
    stages = [len(stage.blocks) + 1 for stage in model.specification.stages[:-1]]
    places = [_place(stage, block) for stage, count in enumerate(stages) for block in range(count)]
    renamed = {}
    for name, tensor in state.items():
        match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
        if match:
            name = f"{places[int(match[1])]}.{_AUTHORS[match[2]]}.{match[3]}"
        renamed[name] = tensor
    return renamed


def _timm_block(match: re.Match[str]) -> str:
    stage, block = int(match[1]), int(match[2])
    names = _TIMM_FIRST if stage == 0 else _TIMM
    return f"{_place(stage, block)}.{names[match[3]]}.{match[4]}"


_STEM, _HEAD = r"backbone.embed.convs.0", r"backbone.stages.7.downsample.conv"

register_layout(
    "efficientnet_lite",
    Layout(
        name="tensorflow/tpu",
        marker=r"^_blocks\.0\._depthwise_conv\.",
        renames=(
            (r"_conv_stem\.(.*)", rf"{_STEM}.conv.\1"),
            (r"_bn0\.(.*)", rf"{_STEM}.norm.\1"),
            (r"_conv_head\.(.*)", rf"{_HEAD}.conv.\1"),
            (r"_bn1\.(.*)", rf"{_HEAD}.norm.\1"),
            (r"_fc\.(.*)", r"head.linear.\1"),
        ),
        convert=_in_stages,
        preprocessing=Preprocessing((127 / 255,) * 3, (128 / 255,) * 3, (224, 224), Resizing(crop=0.875)),
    ),
)

register_layout(
    "efficientnet_lite",
    Layout(
        name="timm",
        marker=r"^blocks\.1\.0\.conv_pwl\.",
        renames=(
            (r"conv_stem\.(.*)", rf"{_STEM}.conv.\1"),
            (r"bn1\.(.*)", rf"{_STEM}.norm.\1"),
            (r"blocks\.(\d)\.(\d+)\.(\w+)\.(\w+)", _timm_block),
            (r"conv_head\.(.*)", rf"{_HEAD}.conv.\1"),
            (r"bn2\.(.*)", rf"{_HEAD}.norm.\1"),
            (r"classifier\.(.*)", r"head.linear.\1"),
        ),
        preprocessing=Preprocessing((0.5,) * 3, (0.5,) * 3, (224, 224), Resizing(crop=0.875)),
    ),
)

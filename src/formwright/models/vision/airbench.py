"""Small plain convolutional networks that learn in few minutes: the public speed records of CIFAR-10.

A stem of whitened patches that is not learned (:class:`~formwright.nn.convolution_groups.WhitenedPatches`), a group of
two convolutions for each stage, the first of which pools, and a linear classifier of the largest values.

Source: 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, arXiv 2404.00498. The authors divide the scores by nine, which
is here a matter of the classifier's learning rate, and of its weights where a checkpoint of theirs is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from formwright.candidates import candidate
from formwright.models import model_specification, register_family
from formwright.models.checkpoints import Layout, State, register_layout
from formwright.models.vision.common import fitted, image_input
from formwright.nn.specification import ChainSpec, StageSpec, part
from formwright.shapes import PictureShape

if TYPE_CHECKING:
    from formwright.candidates import Take
    from formwright.models.network import Network

#: What the authors divide the scores by.
SCORES_OVER = 9
#: Pixels whose patches say how they are whitened: those of 5,000 pictures of 32 x 32.
WHITENED_PIXELS = 5000 * 32 * 32
#: How it is trained: kernels turn far with each step and forget soon where they came from, biases move fast, and the
#: classifier, which no norm follows, learns more slowly than kernels do. Three epochs of CIFAR-10 at width 32 in
#: batches of 256: 82.9 %; at twice the rate, which is the authors' for larger batches, 82.1 % with a linear fall.
RECIPE: dict[str, Any] = {
    "learning_rate": 0.12,
    "vector_learning_rate": 0.04,
    "groups": (("head.*", 0.05),),
    "momentum": 0.6,
    "normed_kernels": True,
    "weight_decay": 0.0,
    "label_smoothing": 0.2,
    "ema_decay": 0.99,
}


def airbench(
    *,
    name: str = "airbench",
    dims: Sequence[int],
    depth: int = 2,
    pools: Sequence[int] = (),
    patch_size: int = 2,
    patch_stride: int = 1,
    directions: int | None = None,
    momentum: float = 0.4,
    norm_eps: float = 1e-12,
    classes: int = 10,
    channels: int = 3,
    image_size: int | tuple[int, int] = 32,
) -> ChainSpec:
    """A network of groups of convolutions.

    Args:
        dims: channels of each stage.
        depth: convolutions of each stage.
        pools: side of the windows that each stage pools; 2 in all of them if unset.
        patch_size: side of the patches that the stem whitens.
        patch_stride: distance between them.
        directions: how many directions of a patch are kept, each with both signs; all if unset.
        momentum: of the running statistics of the norms, how much a batch counts.
        norm_eps: added to the variance by the norms.
    """
    groups = [
        part("convolution_group", pool=pool, convolutions=depth, momentum=momentum, eps=norm_eps)
        for pool in pools or (2,) * len(dims)
    ]
    return ChainSpec(
        family="airbench",
        name=name,
        task="image-classification",
        input=image_input(channels, image_size),
        classes=classes,
        embed=part("whitened_patches", kernel=patch_size, stride=patch_stride),
        embed_dim=2 * (directions or channels * patch_size**2),
        stages=tuple(StageSpec(dim, (), downsample=group) for dim, group in zip(dims, groups, strict=True)),
        head=part("classifier", pool=part("max_pool"), bias=False),
    )


register_family(
    airbench,
    {"airbench94": {"dims": (64, 256, 256)}, "airbench96": {"dims": (128, 384, 512), "depth": 3, "momentum": 0.1}},
    family="airbench",
)


def _layer(match: re.Match[str]) -> str:
    """The second part of their sequence is the first stage."""
    module, kind, number, leaf = match.groups()
    layer = "first" if number == "1" else f"others.{int(number) - 2}"
    return f"backbone.stages.{int(module) - 2}.downsample.{layer}.{kind}.{leaf}"


def _scores_divided(state: State, model: Any) -> State:
    return state | {"head.linear.weight": state["head.linear.weight"] / SCORES_OVER}


register_layout(
    "airbench",
    Layout(
        name="the authors",
        marker=r"^2\.conv1\.weight$",
        renames=(
            (r"0\.(weight|bias)", r"backbone.embed.conv.\1"),
            (r"(\d)\.(conv|norm)(\d)\.(.*)", _layer),
            (r"7\.weight", "head.linear.weight"),
        ),
        convert=_scores_divided,
    ),
)


def whiten_stem(model: Network, take: Take, seed: int) -> None:
    """Let the stem whiten the patches of training pictures."""
    network: Any = model
    height, width = network.specification.input.size
    network.backbone.embed.whiten(take(max(WHITENED_PIXELS // (height * width), 1))[0])


@candidate("image-classification", "airbench", order=15, recipe=RECIPE, start=whiten_stem)
def _for_pictures(shape: PictureShape, width: int, depth: int) -> ChainSpec:
    """Half as fine a stem as that of others, for the first stage pools."""
    stride = max(1, shape.stem_stride // 2)
    wider = max(8, round(2.5 * width / 8) * 8)
    return model_specification(
        "airbench94",
        dims=(width, *[wider] * (shape.stages - 1)),
        depth=depth + 1,
        pools=(2 if shape.stem_stride > 1 else 1, *[2] * (shape.stages - 1)),
        patch_size=stride + 1,
        patch_stride=stride,
        norm_eps=1e-5,
        **fitted(shape),
    )

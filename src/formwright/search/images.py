"""What may be proposed for a classification of images: small relatives of the published models, scaled to the data.

A picture of 28 pixels wants another network than one of 224: strides and the number of stages follow its size, so that
the first stage has some 16 tokens a side and the last one some four. Every family has the same three choices (width,
depth, learning rate), which makes families comparable and a width that a machine can afford easy to find.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from formwright.models import model_specification
from formwright.nn.specification import ChainSpec, ImageInput, PartSpec, StageSpec, part
from formwright.search.space import SPACES, Family, Peer, Proposal, Space
from formwright.shapes import PictureShape
from formwright.training.recipe import Recipe

#: Channels of the first stage, from small to large; later stages are wider.
WIDTHS = (8, 16, 24, 32, 48, 64, 96)
#: Blocks per stage.
DEPTHS = (1, 2, 3)


def _widths(width: int, stages: int, multiple: int = 8) -> tuple[int, ...]:
    """Channels of each stage: 1, 2, 3.5 and 5 times the first, in whole heads or vectors."""
    factors = (1.0, 2.0, 3.5, 5.0)[:stages]
    return tuple(max(multiple, round(width * factor / multiple) * multiple) for factor in factors)


def _common(shape: PictureShape) -> dict[str, Any]:
    return {"classes": shape.classes, "channels": shape.channels, "image_size": shape.size}


def _patches(shape: PictureShape, **options: Any) -> PartSpec:
    """Overlapping patches, one pixel wider than their distance on each side."""
    stride = shape.stem_stride
    return part("patch_embedding", kernel=stride + 2, stride=stride, padding=1, **options)


Builder = Callable[[PictureShape, int, int], ChainSpec]
_LAYER_NORM = part("layer_norm", eps=1e-6)


def _convnext(shape: PictureShape, width: int, depth: int) -> ChainSpec:
    return model_specification(
        "convnext_tiny",
        depths=(depth,) * shape.stages,
        dims=_widths(width, shape.stages),
        kernel=3 if min(shape.size) <= 48 else 7,
        layer_scale=1.0,
        stem=_patches(shape, norm=_LAYER_NORM),
        **_common(shape),
    )


def _poolformer(shape: PictureShape, width: int, depth: int) -> ChainSpec:
    return model_specification(
        "poolformer_s12",
        depths=(depth,) * shape.stages,
        dims=_widths(width, shape.stages),
        mixers=("pooling",) * shape.stages,
        positions=(False,) * shape.stages,
        layer_scale=1.0,
        stem=_patches(shape),
        **_common(shape),
    )


def _cct(shape: PictureShape, width: int, depth: int) -> ChainSpec:
    layers = {1: 1, 2: 2, 4: 2}[shape.stem_stride]
    kernel = 3 if shape.stem_stride < 4 else 7
    dim = 32 * max(1, round(width / 12))
    stem = part("convolutional_tokenizer", layers=layers, kernel=kernel, hidden=max(16, width))
    return model_specification(
        "cct_2_3x2_32",
        dim=dim,
        depth=depth + 1,
        heads=dim // 32,
        mlp_ratio=2.0,
        stem=stem,
        attention_dropout=0.0,
        drop_path=0.0,
        **_common(shape),
    )


def _caformer(shape: PictureShape, width: int, depth: int) -> ChainSpec:
    """Separable convolutions, and attention with heads of 32 channels in the last stage."""
    dims = _widths(width, shape.stages, 16)
    dims = (*dims[:-1], 32 * max(1, round(dims[-1] / 32)))
    return model_specification(
        "caformer_s18",
        depths=(depth,) * shape.stages,
        dims=dims,
        mixers=(*["separable_convolution"] * (shape.stages - 1), "attention"),
        residual_scale=(None,) * shape.stages,
        mlp_head=False,
        stem=_patches(shape, norm=_LAYER_NORM),
        **_common(shape),
    )


def _cvt(shape: PictureShape, width: int, depth: int) -> ChainSpec:
    dims = _widths(width, shape.stages, 16)
    return model_specification(
        "cvt-13",
        depths=(depth,) * shape.stages,
        dims=dims,
        heads=tuple(dim // 16 for dim in dims),
        drop_path=0.0,
        stem=_patches(shape, norm=_LAYER_NORM),
        **_common(shape),
    )


def _efficientvit(shape: PictureShape, width: int, depth: int) -> ChainSpec:
    dims = _widths(width, shape.stages, 16)
    return model_specification(
        "efficientvit_m0",
        depths=(depth,) * shape.stages,
        dims=dims,
        heads=(2,) * shape.stages,
        kernels=(3, 3),
        window=min(7, min(shape.size) // shape.stem_stride),
        stem=_patches(shape, norm=_LAYER_NORM),
        **_common(shape),
    )


def _iformer(shape: PictureShape, width: int, depth: int) -> ChainSpec:
    """Four heads a stage; the share of them that attend grows with depth."""
    ramp = (1, 2, 3, 3)[4 - shape.stages :] if shape.stages < 4 else (1, 1, 2, 3)
    return model_specification(
        "iformer_small",
        depths=(depth,) * shape.stages,
        dims=_widths(width, shape.stages, 16),
        heads=(4,) * shape.stages,
        attention_heads=tuple(heads for heads in ramp for _ in range(depth)),
        pools=(2,) * (shape.stages - 1) + (1,),
        layer_scale=(None,) * shape.stages,
        stem=_patches(shape, norm=part("batch_norm")),
        **_common(shape),
    )


def _resnet(shape: PictureShape, width: int, depth: int) -> ChainSpec:
    """The plain peer of every race, of basic blocks."""
    strides = {1: (1,), 2: (2,), 4: (2, 2)}[shape.stem_stride]
    hidden = (max(8, width // 2),) * (len(strides) - 1)
    return model_specification(
        "resnet18",
        depths=(depth,) * shape.stages,
        dims=_widths(width, shape.stages),
        stem_dim=width,
        zero_init=False,
        stem=part("conv_norm_stem", hidden=hidden, strides=strides, last_activation=True),
        **_common(shape),
    )


#: In the order in which they are tried when time is short. A basic block of a ResNet holds two dense convolutions, so
#: that one a stage is enough to begin with.
FAMILIES: Mapping[str, Family] = {
    "resnet": Family(_resnet, depth=1),
    "convnext": Family(_convnext),
    "metaformer-baselines": Family(_caformer),
    "cct": Family(_cct),
    "cvt": Family(_cvt),
    "poolformer": Family(_poolformer),
    "efficientvit": Family(_efficientvit),
    "iformer": Family(_iformer),
}


def _blocks(stage: StageSpec) -> int:
    """Blocks of a stage, counting one that is its downsampling too."""
    first = stage.downsample is not None and stage.downsample.name == "residual_downsampling"
    return len(stage.blocks) + first


def propose(family: str, shape: PictureShape, *, width: int, depth: int, rate: float = 1.0) -> Proposal:
    """The candidate that these choices lead to."""
    entry = FAMILIES[family]
    specification = entry.build(shape, width, depth)
    recipe = entry.recipe
    batch = 256 if shape.pictures >= 20_000 else 128 if shape.pictures >= 5000 else 64 if shape.pictures >= 500 else 16
    steps = shape.pictures / batch
    recipe = Recipe(
        optimizer=recipe.optimizer,
        learning_rate=recipe.learning_rate * rate,
        vector_learning_rate=recipe.vector_learning_rate * rate,
        weight_decay=recipe.weight_decay,
        batch_size=batch,
        warmup=int(min(50, max(10, steps))),
        ema_decay=recipe.ema_decay,
        clip=recipe.clip,
        label_smoothing=recipe.label_smoothing,
    )
    dims = "-".join(str(stage.dim) for stage in specification.stages)
    depths = "-".join(str(_blocks(stage)) for stage in specification.stages)
    choices = {"family": family, "width": width, "depth": depth, "rate": rate}
    return Proposal(family, f"{family} {depths} x {dims}", choices, specification, recipe)


def from_weights(specification: ChainSpec, shape: PictureShape) -> list[Proposal]:
    """Candidates that start from a user's checkpoint: all of it fine-tuned, and only a new classifier trained."""
    own = replace(
        specification, input=ImageInput(shape.channels, shape.size), classes=shape.classes, name=specification.name
    )
    batch = 64 if shape.pictures >= 500 else 16
    recipe = Recipe(optimizer="adamw", batch_size=batch, warmup=20, ema_decay=0.99)
    return [
        Proposal(
            specification.family,
            f"{specification.name}, your weights, {how}",
            {"weights": True, "frozen": frozen},
            own,
            replace(recipe, learning_rate=rate, weight_decay=decay),
        )
        for how, frozen, rate, decay in (("fine-tuned", False, 3e-4, 0.05), ("only a new classifier", True, 3e-3, 0.0))
    ]


@SPACES.register("image-classification")
class ImageSpace(Space):
    """The eight vision families for pictures of a shape."""

    families = FAMILIES
    widths = WIDTHS
    depths = DEPTHS
    peer = Peer("plain ResNet", "resnet")

    def __init__(self, shape: PictureShape) -> None:
        self.shape = shape
        self.left_out = f"No family can take pictures of {shape.size[0]} x {shape.size[1]} pixels"

    def propose(self, family: str, *, width: int, depth: int, rate: float = 1.0) -> Proposal:
        return propose(family, self.shape, width=width, depth=depth, rate=rate)

    def from_weights(self, specification: ChainSpec) -> list[Proposal]:
        return from_weights(specification, self.shape)

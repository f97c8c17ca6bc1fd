"""Compact Transformers: ViT-Lite, CVT and CCT, for small images and small data.

Three steps from one small Vision Transformer: ViT-Lite has plain patches and a class token; CVT pools all tokens with
learned weights instead; CCT makes its tokens by convolutions with max pooling. (This CVT is not Microsoft's CvT.)

Notable: the block's second norm is outside the branches. ``x = norm1(x + attention(pre_norm(x)))`` and then
``x = x + mlp(x)``, so its output is what the MLP is added to. Position tables start at a standard deviation of 0.2.

Two truths about the names that end in ``_sine``: the authors' factories of CCT and CVT do not hand the choice on, so
these models have a learned table, and only ViT-Lite's have a fixed one. The names here build what the authors' names
build; ``positions="sine"`` gives any of them the sine table that the name promises.

Source: Escaping the Big Data Paradigm with Compact Transformers, arXiv 2104.05704. Equal to the authors' code.
"""

from __future__ import annotations

from typing import Any

from formwright.candidates import candidate
from formwright.errors import UnknownNameError
from formwright.models import Network, model_specification, register_family
from formwright.models.checkpoints import Layout, State, register_layout
from formwright.models.vision.common import drop_path_rates, fitted, image_input
from formwright.nn.specification import BlockSpec, BranchSpec, ChainSpec, PartSpec, StageSpec, part
from formwright.shapes import PictureShape

_NORM = part("layer_norm")
_POSITIONS = {"learned": part("position_table", std=0.2), "sine": part("sine_positions"), "none": None}


def patch_stem(patch_size: int) -> PartSpec:
    """Disjoint patches, started by He's rule as the authors' are: the stem of ViT-Lite and CVT."""
    return part(
        "convolutional_tokenizer",
        kernel=patch_size,
        stride=patch_size,
        padding=0,
        activation="identity",
        pooling=False,
        bias=True,
    )


def convolutional_stem(layers: int, kernel: int) -> PartSpec:
    """The stem of CCT: ``layers`` convolutions, each with ReLU and max pooling."""
    return part("convolutional_tokenizer", layers=layers, kernel=kernel)


def cct(
    *,
    name: str = "cct",
    dim: int,
    depth: int,
    heads: int,
    mlp_ratio: float,
    stem: PartSpec,
    class_token: bool = False,
    positions: str = "learned",
    attention_dropout: float = 0.1,
    drop_path: float = 0.1,
    classes: int = 10,
    channels: int = 3,
    image_size: int | tuple[int, int] = 32,
) -> ChainSpec:
    """A Compact Transformer.

    Args:
        dim: channels of a token.
        depth: number of blocks.
        heads: attention heads.
        mlp_ratio: hidden width of the MLP over ``dim``.
        stem: the embedding (:func:`convolutional_stem`, :func:`patch_stem` or another).
        class_token: classify from a class token, as ViT-Lite does, instead of pooling all tokens.
        positions: ``learned``, ``sine`` (fixed) or ``none``.
        attention_dropout: share of attention weights dropped in training.

    Raises:
        UserError: the kind of positions is unknown, or the heads do not divide ``dim``.
    """
    if positions not in _POSITIONS:
        raise UnknownNameError("kind of positions", positions, _POSITIONS)
    attention = part("attention", heads=heads, attention_dropout=attention_dropout)
    mlp = part("mlp", ratio=mlp_ratio)
    blocks = tuple(
        BlockSpec(
            (
                BranchSpec(attention, norm=_NORM, post_norm=_NORM, drop_path=rate),
                BranchSpec(mlp, drop_path=rate),
            )
        )
        for rate in drop_path_rates(drop_path, [depth])[0]
    )
    table = _POSITIONS[positions]
    entry = [part("class_token", std=0.0)] if class_token else []
    if table is not None:
        entry.append(table.with_options(prefix=len(entry)))
    return ChainSpec(
        family="cct",
        name=name,
        task="image-classification",
        input=image_input(channels, image_size),
        classes=classes,
        embed=stem,
        stages=(StageSpec(dim=dim, blocks=blocks, entry=tuple(entry)),),
        head=part("classifier", norm=_NORM, pool=part("class_token_pool" if class_token else "sequence_pool")),
    )


_CORES: dict[str, dict[str, Any]] = {
    "2": {"dim": 128, "depth": 2, "heads": 2, "mlp_ratio": 1.0},
    "4": {"dim": 128, "depth": 4, "heads": 2, "mlp_ratio": 1.0},
    "6": {"dim": 256, "depth": 6, "heads": 4, "mlp_ratio": 2.0},
    "7": {"dim": 256, "depth": 7, "heads": 4, "mlp_ratio": 2.0},
    "14": {"dim": 384, "depth": 14, "heads": 6, "mlp_ratio": 3.0},
}


def _published() -> dict[str, dict[str, Any]]:
    patches, small = patch_stem(4), {"classes": 10, "image_size": 32}
    variants: dict[str, dict[str, Any]] = {}
    for core in ("2", "4", "6", "7"):
        vit_lite = {**_CORES[core], **small, "stem": patches, "class_token": True}
        variants[f"vit_{core}_4_32"] = vit_lite
        variants[f"vit_{core}_4_32_sine"] = {**vit_lite, "positions": "sine"}
        for suffix in ("", "_sine"):
            variants[f"cvt_{core}_4_32{suffix}"] = {**_CORES[core], **small, "stem": patches}
    for core, layers in (("2", 2), ("4", 2), ("6", 1), ("6", 2), ("7", 1), ("7", 2)):
        options = {**_CORES[core], **small, "stem": convolutional_stem(layers, kernel=3)}
        for suffix in ("", "_sine"):
            variants[f"cct_{core}_3x{layers}_32{suffix}"] = options
            if (core, layers) == ("7", 1):
                variants[f"cct_7_3x1_32{suffix}_c100"] = {**options, "classes": 100}
    large = convolutional_stem(2, kernel=7)
    flowers = {**_CORES["7"], "stem": large, "image_size": 224, "classes": 102}
    imagenet = {**_CORES["14"], "stem": large, "image_size": 384, "classes": 1000}
    return {
        **variants,
        "cct_7_7x2_224": flowers,
        "cct_7_7x2_224_sine": flowers,
        "cct_14_7x2_224": {**imagenet, "image_size": 224},
        "cct_14_7x2_384": imagenet,
        "cct_14_7x2_384_fl": {**imagenet, "classes": 102},
    }


register_family(cct, _published(), family="cct")


def _entry_names(state: State, model: Network) -> State:
    """Class token and position table lose their batch axis; the table comes after the token, if there is one."""
    token, table = state.pop("classifier.class_emb", None), state.pop("classifier.positional_emb", None)
    if token is not None:
        state["backbone.stages.0.entry.0.tokens"] = token.squeeze(0)
    if table is not None:
        state[f"backbone.stages.0.entry.{0 if token is None else 1}.table"] = table.squeeze(0)
    return state


_BLOCK = r"classifier\.blocks\.(\d+)\."

register_layout(
    "cct",
    Layout(
        name="SHI-Labs/Compact-Transformers",
        marker=r"^tokenizer\.conv_layers\.0\.0",
        renames=(
            (r"tokenizer\.conv_layers\.(\d+)\.0\.(.*)", r"backbone.embed.convolutions.\1.\2"),
            (_BLOCK + r"pre_norm\.(.*)", r"backbone.stages.0.blocks.\1.branches.0.norm.\2"),
            (_BLOCK + r"self_attn\.(.*)", r"backbone.stages.0.blocks.\1.branches.0.part.\2"),
            (_BLOCK + r"norm1\.(.*)", r"backbone.stages.0.blocks.\1.branches.0.post_norm.\2"),
            (_BLOCK + r"linear([12])\.(.*)", r"backbone.stages.0.blocks.\1.branches.1.part.fc\2.\3"),
            (r"classifier\.attention_pool\.(.*)", r"head.pool.score.\1"),
            (r"classifier\.norm\.(.*)", r"head.norm.\1"),
            (r"classifier\.fc\.(.*)", r"head.linear.\1"),
        ),
        convert=_entry_names,
    ),
)


@candidate("image-classification", "cct", order=40, first={"depth": 2})
def _for_pictures(shape: PictureShape, width: int, depth: int) -> ChainSpec:
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
        **fitted(shape),
    )

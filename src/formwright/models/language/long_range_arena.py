"""The Long Range Arena's encoder: one skeleton for its tasks, with any of its mixers.

Ids, a class token of zeros (or none), sine or learned positions, pre-norm blocks without biases in attention, a norm,
pooling and a hidden layer before the scores; for retrieval, one encoder for both documents.

Source: Long Range Arena, arXiv 2011.04006; sizes are those of the authors' configurations for the Transformer. Without
dropout.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from formwright.errors import UnknownNameError, UserError
from formwright.models import register_family
from formwright.models.topologies.pair import PairSpec
from formwright.models.vision.common import drop_path_rates
from formwright.nn.parts import PARTS
from formwright.nn.specification import BlockSpec, BranchSpec, ChainSpec, PartSpec, StageSpec, TokenInput, part

_NORM = part("layer_norm")

#: The mixers of the arena and those that may be compared with them, by the names of its tables.
ARENA_MIXERS: Mapping[str, PartSpec] = MappingProxyType(
    {
        "full": part("attention", bias=False),
        "local": part("local_attention", block=64),
        "sparse": part("fixed_attention", block=128, summary=32),
        "strided": part("strided_attention", stride=64),
        "longformer": part("longformer_attention", window=512),
        "linformer": part("linformer_attention", rank=32),
        "reformer": part("lsh_attention", chunk=64, buckets=32),
        "sinkhorn": part("sinkhorn_attention", block=64),
        "synthesizer": part("random_synthesizer", rank=32),
        "bigbird": part("bigbird_attention", block=64),
        "linear": part("linear_attention"),
        "performer": part("performer_attention", features=256),
        "cosformer": part("cosformer_attention"),
        "combiner": part("combiner_fixed_attention", segment=64),
    }
)


def arena_mixer(mixer: str | PartSpec, heads: int, length: int) -> PartSpec:
    """The part that a name of :data:`ARENA_MIXERS` stands for, or the given one, for sequences of a length.

    Raises:
        UnknownNameError: there is no such mixer; the nearest names are suggested.
    """
    if isinstance(mixer, str):
        if mixer not in ARENA_MIXERS:
            raise UnknownNameError("mixer of the arena", mixer, ARENA_MIXERS)
        mixer = ARENA_MIXERS[mixer]
    accepted = inspect.signature(PARTS[mixer.name]).parameters
    defaults = {"heads": heads, "length": length}
    return mixer.with_options(
        **{key: value for key, value in defaults.items() if key in accepted and key not in mixer.options}
    )


def long_range_arena(
    *,
    name: str = "lra",
    dim: int,
    depth: int,
    heads: int,
    hidden: int,
    head_dim: int | None = None,
    mixer: str | PartSpec = "full",
    class_token: bool = False,
    learned_positions: bool = False,
    pairs: bool = False,
    drop_path: float = 0.0,
    vocabulary: int,
    length: int,
    padding: int | None = 0,
    classes: int,
) -> ChainSpec | PairSpec:
    """An encoder of the arena.

    Args:
        dim: channels of a token.
        depth: number of blocks.
        heads: attention heads.
        hidden: width of the MLPs, and of the hidden layer before the scores.
        head_dim: channels of a head of full attention, where it is not ``dim // heads``.
        mixer: a name of :data:`ARENA_MIXERS` or a part.
        class_token: whether a class token is put in front and read, instead of the mean of all tokens.
        learned_positions: whether the position table is learned.
        pairs: whether two texts of half the length each are compared, inputs ``first`` and ``second``.
        drop_path: rate of stochastic depth in the last block.
        vocabulary: number of token ids.
        length: ids of a row, or of both texts together; shorter ones are padded.
        padding: the id that is no token.

    Raises:
        UserError: pairs are of an odd length, or there is no such mixer.
    """
    if pairs and length % 2:
        raise UserError(f"Two texts of equal length have an even number of ids together, not {length}; pad one.")
    prefix = int(class_token)
    tokens = length // 2 if pairs else length
    chosen = arena_mixer(mixer, heads, tokens + prefix)
    if head_dim is not None and chosen.name == "attention":
        chosen = chosen.with_options(head_dim=head_dim)
    mlp = part("mlp", hidden=hidden)
    blocks = tuple(
        BlockSpec((BranchSpec(chosen, norm=_NORM, drop_path=rate), BranchSpec(mlp, norm=_NORM, drop_path=rate)))
        for rate in drop_path_rates(drop_path, [depth])[0]
    )
    positions = part("position_table" if learned_positions else "sine_positions", prefix=prefix)
    entry = [part("class_token", std=0.0)] if class_token else []
    pool = part("class_token_pool" if class_token else "mean_pool")
    shared: dict[str, Any] = {
        "family": "lra",
        "name": name,
        "task": "text-classification",
        "input": TokenInput(vocabulary, tokens, padding),
        "classes": classes,
        "embed": part("token_embedding", std=1.0),
        "stages": (StageSpec(dim, blocks, entry=(*entry, positions)),),
    }
    if pairs:
        return PairSpec(**shared, head=part("pair_classifier", hidden=hidden, norm=_NORM, pool=pool))
    return ChainSpec(**shared, head=part("hidden_classifier", hidden=hidden, norm=_NORM, pool=pool))


#: The configurations of the authors' Transformer, by task.
PAPER: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "listops": {
            "dim": 512,
            "depth": 4,
            "heads": 8,
            "hidden": 1024,
            "class_token": True,
            "vocabulary": 17,
            "length": 2000,
            "classes": 10,
        },
        "text": {
            "dim": 256,
            "depth": 4,
            "heads": 4,
            "hidden": 1024,
            "class_token": True,
            "vocabulary": 257,
            "length": 1000,
            "classes": 2,
        },
        "retrieval": {
            "dim": 128,
            "depth": 4,
            "heads": 4,
            "hidden": 512,
            "class_token": True,
            "pairs": True,
            "vocabulary": 257,
            "length": 8000,
            "classes": 2,
        },
        "image": {
            "dim": 128,
            "depth": 1,
            "heads": 8,
            "head_dim": 8,
            "hidden": 128,
            "class_token": True,
            "learned_positions": True,
            "vocabulary": 256,
            "length": 1024,
            "padding": None,
            "classes": 10,
        },
        "pathfinder": {
            "dim": 32,
            "depth": 4,
            "heads": 4,
            "head_dim": 4,
            "hidden": 32,
            "vocabulary": 256,
            "length": 1024,
            "padding": None,
            "classes": 2,
        },
    }
)

register_family(
    long_range_arena,
    {f"lra_{task}": options for task, options in PAPER.items()},
    family="lra",
    task="text-classification",
)

"""Llama and what has its configuration, such as TinyLlama and SmolLM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from formwright.errors import UserError
from formwright.models.configurations.kind import Described, Head, Kind, register_kind, with_features
from formwright.models.language.llama import llama
from formwright.models.language.transformer import with_channel_mixer
from formwright.nn.specification import ChainSpec, part

LANGUAGE, TEXTS = "language-modelling", "text-classification"


def _specification(described: Described) -> ChainSpec:
    options = described.options
    specification: ChainSpec = llama(
        name=described.name,
        dim=options["hidden_size"],
        depth=options["num_hidden_layers"],
        heads=options["num_attention_heads"],
        hidden=options["intermediate_size"],
        kv_heads=options["num_key_value_heads"],
        head_dim=options["head_dim"],
        norm_eps=options["rms_norm_eps"],
        rotary=_rotary(described),
        vocabulary=options["vocab_size"],
        length=options["max_position_embeddings"],
        padding=decoder_padding(described),
        tied=options["tie_word_embeddings"],
        classes=described.classes if described.task == TEXTS else None,
    )
    mlp = part("glu", hidden=options["intermediate_size"], activation=described.activation("hidden_act"))
    return without_head(with_channel_mixer(specification, mlp), described)


def _rotary(described: Described) -> dict[str, Any]:
    """Options of rotary positions, from ``rope_parameters`` or what came before it.

    Raises:
        UserError: positions are stretched in a way that we do not have.
    """
    rope: Mapping[str, Any] = described.options["rope_parameters"] or described.options["rope_scaling"] or {}
    base = float(rope.get("rope_theta") or described.options["rope_theta"])
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        known = {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
        scaling: dict[str, float] | None = None
    elif kind == "linear":
        known = {"rope_type", "type", "rope_theta", "factor", "partial_rotary_factor"}
        scaling = {"factor": float(rope["factor"])}
    elif kind == "llama3":
        names = {
            "factor": "factor",
            "low_frequency_factor": "low_freq_factor",
            "high_frequency_factor": "high_freq_factor",
            "original_length": "original_max_position_embeddings",
        }
        known = {"rope_type", "type", "rope_theta", "partial_rotary_factor", *names.values()}
        scaling = {ours: float(rope[theirs]) for ours, theirs in names.items()}
    else:
        raise UserError(
            f"{described.name} stretches its rotary positions by {kind!r}, which Formwright does not have; known: "
            "default, linear, llama3."
        )
    unknown = set(rope) - known
    if unknown or rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise UserError(
            f"{described.name} has rotary positions with {', '.join(sorted(unknown)) or 'partial_rotary_factor'}, "
            "which Formwright does not have for Llama: choose another checkpoint."
        )
    return {"base": base} if scaling is None else {"base": base, "scaling": scaling}


def decoder_padding(described: Described) -> int | None:
    """The id of padding, unless it is that of a token which begins or ends texts."""
    padding, ends = described.identifier("pad_token_id"), described.options["eos_token_id"]
    if described.task == TEXTS:  # the last token before the padding is the one that is asked
        return padding
    tokens = {described.options["bos_token_id"], *(ends if isinstance(ends, list | tuple) else [ends])}
    return None if padding in tokens else padding


def without_head(specification: ChainSpec, described: Described) -> ChainSpec:
    """The specification, with its normed tokens as what it answers if it has no scores."""
    if described.task != "features":
        return specification
    return with_features(specification, norm=specification.head.options["norm"])


register_kind(
    Kind(
        name="llama",
        build=_specification,
        heads=(
            Head(("LlamaForSequenceClassification",), TEXTS, "score."),
            Head(("LlamaModel",), "features"),
            Head(("LlamaForCausalLM", "LLaMAForCausalLM"), LANGUAGE),
        ),
        read={
            "vocab_size": 32000,
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": None,
            "hidden_act": "silu",
            "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-6,
            "pad_token_id": None,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "tie_word_embeddings": False,
            "rope_parameters": None,
            "rope_scaling": None,
            "rope_theta": 10000.0,
            "head_dim": None,
        },
        fixed={"attention_bias": False, "mlp_bias": False},
        unused=(
            "pretraining_tp",  # how the products were cut for several devices; the sum is the same
            "attention_dropout",
            "initializer_range",
            "use_cache",
        ),
    )
)

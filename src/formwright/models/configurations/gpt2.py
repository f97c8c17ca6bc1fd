"""GPT-2 and DistilGPT-2."""

from __future__ import annotations

from formwright.models.configurations.kind import Described, Head, Kind, register_kind
from formwright.models.configurations.llama import LANGUAGE, TEXTS, decoder_padding, without_head
from formwright.models.language.gpt2 import gpt2
from formwright.nn.specification import ChainSpec


def _specification(described: Described) -> ChainSpec:
    options = described.options
    specification: ChainSpec = gpt2(
        name=described.name,
        dim=options["n_embd"],
        depth=options["n_layer"],
        heads=options["n_head"],
        hidden=options["n_inner"],
        activation=described.activation("activation_function"),
        norm_eps=options["layer_norm_epsilon"],
        vocabulary=options["vocab_size"],
        length=options["n_positions"],
        padding=decoder_padding(described),
        tied=options["tie_word_embeddings"],
        classes=described.classes if described.task == TEXTS else None,
    )
    return without_head(specification, described)


register_kind(
    Kind(
        name="gpt2",
        build=_specification,
        heads=(
            Head(("GPT2ForSequenceClassification",), TEXTS, "score."),
            Head(("GPT2Model",), "features"),
            Head(("GPT2LMHeadModel",), LANGUAGE),
        ),
        read={
            "vocab_size": 50257,
            "n_positions": 1024,
            "n_embd": 768,
            "n_layer": 12,
            "n_head": 12,
            "n_inner": None,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5,
            "pad_token_id": None,
            "bos_token_id": 50256,
            "eos_token_id": 50256,
            "tie_word_embeddings": True,
        },
        fixed={"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False},
        unused=(
            "reorder_and_upcast_attn",  # the type in which half precision computes a product
            "resid_pdrop",
            "embd_pdrop",
            "attn_pdrop",
            "initializer_range",
            "summary_type",
            "summary_use_proj",
            "summary_activation",
            "summary_proj_to_labels",
            "summary_first_dropout",
            "use_cache",
        ),
        aliases={
            "hidden_size": "n_embd",
            "max_position_embeddings": "n_positions",
            "num_attention_heads": "n_head",
            "num_hidden_layers": "n_layer",
        },
    )
)

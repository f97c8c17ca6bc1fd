"""Mamba."""

from __future__ import annotations

from formwright.models.configurations.kind import Described, Head, Kind, register_kind
from formwright.models.configurations.llama import LANGUAGE, decoder_padding, without_head
from formwright.models.language.mamba import mamba
from formwright.nn.specification import ChainSpec


def _specification(described: Described) -> ChainSpec:
    options = described.options
    rank = options["time_step_rank"]
    specification = mamba(
        name=described.name,
        dim=options["hidden_size"],
        depth=options["num_hidden_layers"],
        states=options["state_size"],
        expand=float(options["expand"]),
        kernel=options["conv_kernel"],
        rank=None if rank == "auto" else rank,
        norm_eps=options["layer_norm_epsilon"],
        tied=options["tie_word_embeddings"],
        vocabulary=options["vocab_size"],
        padding=decoder_padding(described),
    )
    return without_head(specification, described)


register_kind(
    Kind(
        name="mamba",
        build=_specification,
        heads=(
            Head(("MambaModel",), "features"),
            Head(("MambaForCausalLM",), LANGUAGE),
        ),
        read={
            "vocab_size": 50280,
            "hidden_size": 768,
            "state_size": 16,
            "num_hidden_layers": 32,
            "layer_norm_epsilon": 1e-5,
            "pad_token_id": 0,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "expand": 2,
            "conv_kernel": 4,
            "time_step_rank": "auto",
            "tie_word_embeddings": True,
        },
        fixed={"use_bias": False, "use_conv_bias": True, "hidden_act": "silu"},
        unused=(
            "initializer_range",
            "residual_in_fp32",  # the type in which half precision keeps the sum of the branches
            "time_step_scale",
            "time_step_min",
            "time_step_max",
            "time_step_init_scheme",
            "time_step_floor",
            "rescale_prenorm_residual",
            "use_cache",
            "use_mambapy",
            "use_associative_scan",
        ),
    )
)

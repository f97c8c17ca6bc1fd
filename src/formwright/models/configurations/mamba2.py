"""Mamba-2."""

from __future__ import annotations

from formwright.errors import UserError
from formwright.models.configurations.kind import Described, Head, Kind, register_kind
from formwright.models.configurations.llama import LANGUAGE, decoder_padding, without_head
from formwright.models.language.mamba2 import mamba2
from formwright.nn.specification import ChainSpec


def _specification(described: Described) -> ChainSpec:
    options = described.options
    # JSON has no infinity, so transformers writes it as an object.
    limits = [each["__float__"] if isinstance(each, dict) else each for each in options["time_step_limit"]]
    if [float(each) for each in limits] != [0.0, float("inf")]:
        raise UserError(
            f"{described.name} keeps its steps within time_step_limit = {limits}, and Formwright has Mamba-2 without "
            "such limits: choose another checkpoint."
        )
    hidden = options["expand"] * options["hidden_size"]
    if options["num_heads"] * options["head_dim"] != hidden:
        raise UserError(
            f"{described.name} has {options['num_heads']} heads of {options['head_dim']} for {hidden} channels "
            "(expand * hidden_size), which do not agree; correct its config.json."
        )
    specification = mamba2(
        name=described.name,
        dim=options["hidden_size"],
        depth=options["num_hidden_layers"],
        states=options["state_size"],
        head_dim=options["head_dim"],
        groups=options["n_groups"],
        expand=float(options["expand"]),
        kernel=options["conv_kernel"],
        tied=options["tie_word_embeddings"],
        vocabulary=options["vocab_size"],
        padding=decoder_padding(described),
    )
    return without_head(specification, described)


register_kind(
    Kind(
        name="mamba2",
        build=_specification,
        heads=(
            Head(("Mamba2Model",), "features"),
            Head(("Mamba2ForCausalLM",), LANGUAGE),
        ),
        read={
            "num_heads": 128,
            "head_dim": 64,
            "vocab_size": 32768,
            "hidden_size": 4096,
            "state_size": 128,
            "num_hidden_layers": 64,
            "pad_token_id": 1,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "expand": 2,
            "conv_kernel": 4,
            "n_groups": 8,
            "time_step_limit": (0.0, float("inf")),
            "tie_word_embeddings": False,
        },
        fixed={"use_bias": False, "use_conv_bias": True, "hidden_act": "silu", "layer_norm_epsilon": 1e-5},
        unused=(
            "initializer_range",
            "residual_in_fp32",  # the type in which half precision keeps the sum of the branches
            "time_step_rank",
            "time_step_min",
            "time_step_max",
            "time_step_floor",
            "rescale_prenorm_residual",
            "use_cache",
            "chunk_size",
        ),
    )
)

"""GTrXL: Transformer-XL made stable for reinforcement learning, and what its paper compares it with.

TrXL norms after each sum. TrXL-I moves the norms to the branches' inputs, so that the input reaches the output
unchanged, and lets each branch end in a ReLU. GTrXL has gates instead of TrXL-I's sums.

Source: Stabilizing Transformers for Reinforcement Learning, arXiv 1910.06764, which has no released code.
"""

from __future__ import annotations

import torch

from formwright.models import Network, register_family
from formwright.models.checkpoints import Layout, State, register_layout
from formwright.nn.specification import BlockSpec, BranchSpec, ChainSpec, PartSpec, StageSpec, VectorInput, part

_NORM = part("layer_norm")
_RELU = part("activation")


def gtrxl(
    *,
    name: str = "gtrxl",
    dim: int,
    depth: int,
    heads: int,
    head_dim: int,
    memory: int,
    hidden: int | None = None,
    gate: PartSpec | None = part("gru_gate"),  # noqa: B008
    reordered: bool = True,
    channels: int = 256,
    length: int = 95,
    actions: int = 15,
) -> ChainSpec:
    """A policy that remembers: scores of the actions at every step, from vectors of observations.

    Args:
        dim: channels of a token.
        depth: number of blocks.
        heads: attention heads.
        head_dim: channels of a head.
        memory: how many steps before itself each layer sees at every step.
        hidden: hidden width of the MLP; four times ``dim`` if unset.
        gate: what joins each branch to its input; a sum if unset.
        reordered: norms before the branches, which end in a ReLU (TrXL-I); else after the sums (TrXL).
        channels: numbers of an observation.
        length: steps of a segment.
        actions: number of actions.
    """
    parts = (
        part("relative_attention", heads=heads, head_dim=head_dim, window=memory + 1),
        part("mlp", hidden=hidden or 4 * dim, activation="relu"),
    )
    branches = tuple(
        BranchSpec(part("chain", parts=(each, _RELU)), norm=_NORM, gate=gate)
        if reordered
        else BranchSpec(each, post_norm=_NORM, gate=gate)
        for each in parts
    )
    return ChainSpec(
        family="gtrxl",
        name=name,
        task="behaviour-cloning",
        input=VectorInput(channels, length),
        classes=actions,
        embed=part("linear_embedding"),
        stages=(StageSpec(dim, (BlockSpec(branches),) * depth),),
        head=part("token_scores", bias=True),
        initialization="fan_in",  # no norm enlarges what a small start would leave small
    )


_DMLAB = {"dim": 256, "depth": 12, "heads": 8, "head_dim": 64, "memory": 512}
_GATES = {
    "input": part("input_gate"),
    "output": part("output_gate"),
    "highway": part("highway_gate"),
    "sigmoid_tanh": part("sigmoid_tanh_gate"),
}

register_family(
    gtrxl,
    {
        "gtrxl_dmlab": _DMLAB,
        "gtrxl_thin_dmlab": {**_DMLAB, "dim": 128, "heads": 4},
        **{f"gtrxl_{name}_dmlab": {**_DMLAB, "gate": gate} for name, gate in _GATES.items()},
        "trxl_i_dmlab": {**_DMLAB, "gate": None},
        "trxl_dmlab": {**_DMLAB, "gate": None, "reordered": False},
    },
    family="gtrxl",
    task="behaviour-cloning",
)


def _fuse(state: State, model: Network) -> State:
    """Queries stand before keys and values; gates are named by the paper's letters."""
    for name in [name for name in state if name.endswith(".q.weight")]:
        path = name.removesuffix(".q.weight")
        state[f"{path}.qkv.weight"] = torch.cat([state.pop(name), state.pop(f"{path}.kv.weight")])
    return state


_BLOCK = r"stack\.layers\.(\d+)\."
_OURS = r"backbone.stages.0.blocks.\1.branches."
_GATE = {name: f"{name[0].lower()}_{name[1]}" for name in ("Wr", "Ur", "Wz", "Uz", "Wg", "Ug")}

register_layout(
    "gtrxl",
    Layout(
        name="DI-engine",
        marker=r"^stack\.layers\.0\.attention\.attention_kv",
        renames=(
            (_BLOCK + r"layernorm1\.(.*)", _OURS + r"0.norm.\2"),
            (_BLOCK + r"layernorm2\.(.*)", _OURS + r"1.norm.\2"),
            (_BLOCK + r"attention\.attention_(q|kv)\.0\.weight", _OURS + r"0.part.parts.0.\2.weight"),
            (_BLOCK + r"attention\.project\.0\.weight", _OURS + r"0.part.parts.0.proj.weight"),
            (_BLOCK + r"attention\.project_pos\.0\.weight", _OURS + r"0.part.parts.0.distance.weight"),
            (_BLOCK + r"u", _OURS + r"0.part.parts.0.content_bias"),
            (_BLOCK + r"v", _OURS + r"0.part.parts.0.distance_bias"),
            (_BLOCK + r"mlp\.0\.0\.(.*)", _OURS + r"1.part.parts.0.fc1.\2"),
            (_BLOCK + r"mlp\.2\.0\.(.*)", _OURS + r"1.part.parts.0.fc2.\2"),
            *(
                (_BLOCK + rf"gate{gate}\.{theirs}\.weight", _OURS + rf"{gate - 1}.gate.{ours}.weight")
                for gate in (1, 2)
                for theirs, ours in _GATE.items()
            ),
            (_BLOCK + r"gate1\.bg", _OURS + r"0.gate.bias"),
            (_BLOCK + r"gate2\.bg", _OURS + r"1.gate.bias"),
            (r"embedding\.(.*)", r"backbone.embed.linear.\1"),
            (r"policy\.(.*)", r"head.linear.\1"),
        ),
        convert=_fuse,
    ),
)

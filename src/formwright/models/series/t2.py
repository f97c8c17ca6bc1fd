"""t2, the time-series transformer: a small encoder that tells what a light curve is of.

The light curve comes as the mean of a Gaussian process on a regular grid (:mod:`formwright.data.gaussian_process`), one
channel a band. Numbers that are known of the object, such as the redshift of its host, are further channels with one
value for all steps, or further steps (:func:`formwright.data.light_curves.append_features`). The head is a plain mean
over time and a linear layer, so that the score of a class is a mean over the steps
(:func:`formwright.inference.explanation.class_activation`).

Source: Paying Attention to Astronomical Transients: Introducing the Time-series Transformer for Photometric
Classification, arXiv 2105.06178. Equal to the authors' code, whose model ends in a softmax; this one gives logits.
"""

from __future__ import annotations

from typing import Literal

import torch

from formwright.errors import UserError
from formwright.models import Network, register_family
from formwright.models.checkpoints import Layout, State, register_layout
from formwright.nn.specification import BlockSpec, BranchSpec, ChainSpec, SeriesInput, StageSpec, part

_NORM = part("layer_norm", eps=1e-6)


def t2(
    *,
    name: str = "t2",
    bands: int = 6,
    features: int = 0,
    features_along: Literal["channels", "steps"] = "channels",
    dim: int = 32,
    heads: int = 16,
    hidden: int = 128,
    depth: int = 1,
    dropout: float = 0.1,
    length: int = 100,
    classes: int = 14,
) -> ChainSpec:
    """A time-series transformer that classifies.

    Args:
        bands: channels of the light curve.
        features: how many numbers that are known of the object come with the light curve.
        features_along: whether they come as further channels (the authors' "M") or as further steps (their "L").
        dim: channels of a token.
        heads: attention heads; must divide ``dim``.
        hidden: hidden width of the MLP.
        depth: number of blocks.
        dropout: share of values dropped in training, at the end of every branch and of the pooled vector.
        length: steps of the grid.
        classes: number of classes.

    Raises:
        UserError: ``features_along`` is neither channels nor steps.
    """
    if features_along not in ("channels", "steps"):
        raise UserError(f"Features come along channels or steps, got {features_along!r}.")
    as_steps = features if features_along == "steps" else 0
    attention = part("attention", heads=heads, qkv_bias=True, dropout=dropout)
    mlp = part("chain", parts=(part("mlp", hidden=hidden, activation="relu"), part("dropout", rate=dropout)))
    block = BlockSpec((BranchSpec(attention, post_norm=_NORM), BranchSpec(mlp, post_norm=_NORM)))
    return ChainSpec(
        family="t2",
        name=name,
        task="series-classification",
        input=SeriesInput(variates=bands + features - as_steps, length=length + as_steps),
        classes=classes,
        embed=part("step_embedding", activation="relu"),
        stages=(StageSpec(dim=dim, blocks=(block,) * depth),),
        head=part("classifier", dropout=dropout),
    )


register_family(
    t2,
    {
        "t2_plasticc": {},
        "t2_plasticc_z": {"features": 2},
        "t2_fink": {"bands": 2},
    },
    family="t2",
    task="series-classification",
)


def _from_keras(state: State, model: Network) -> State:
    """Kernels are turned; queries, keys and values become one matrix."""
    state = {
        name.replace(".kernel", ".weight").replace(".gamma", ".weight").replace(".beta", ".bias"): tensor.permute(
            *reversed(range(tensor.ndim))
        )
        for name, tensor in state.items()
    }
    for index in range(len(model.specification.stages[0].blocks)):
        own = f"backbone.stages.0.blocks.{index}.branches.0.part"
        for leaf in ("weight", "bias"):
            parts = [state.pop(f"{own}.{which}.{leaf}") for which in ("query_dense", "key_dense", "value_dense")]
            state[f"{own}.qkv.{leaf}"] = torch.cat(parts)
    return state


_BLOCK = r"backbone.stages.0.blocks.\1.branches"

register_layout(
    "t2",
    Layout(
        name="tallamjr/astronet",
        marker=r"^embedding\.conv1d\.",
        renames=(
            (r"embedding\.conv1d\.(.*)", r"backbone.embed.linear.\1"),
            (r"encoder\.(\d+)\.att\.combine_heads\.(.*)", _BLOCK + r".0.part.proj.\2"),
            (r"encoder\.(\d+)\.att\.(.*)", _BLOCK + r".0.part.\2"),
            (r"encoder\.(\d+)\.layernorm1\.(.*)", _BLOCK + r".0.post_norm.\2"),
            (r"encoder\.(\d+)\.ffn\.0\.(.*)", _BLOCK + r".1.part.parts.0.fc1.\2"),
            (r"encoder\.(\d+)\.ffn\.1\.(.*)", _BLOCK + r".1.part.parts.0.fc2.\2"),
            (r"encoder\.(\d+)\.layernorm2\.(.*)", _BLOCK + r".1.post_norm.\2"),
            (r"classifier\.(.*)", r"head.linear.\1"),
        ),
        convert=_from_keras,
    ),
)

"""Mixers beside other people's: the figures of a reference's attention layer, and our part with the same weights.

See :mod:`formwright.catalog.reference` for how weights and figures come about. What a reference leaves to another
module (the output projection) is the identity here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.reference import (
    FLOAT32_TOLERANCE,
    FLOAT64_TOLERANCE,
    Figures,
    fill,
    images,
    reference_figures,
    sample,
)
from formwright.nn import Part, build_part, part
from formwright.reporting import Reporter

State = dict[str, Tensor]


def tolerances(figures: Figures) -> dict[torch.dtype, float]:
    """How near ours must be; in float64 only where the reference computes all in it (some have a float32 softmax)."""
    found = {torch.float32: FLOAT32_TOLERANCE}
    return found if figures["dtype"] == "float32" else {torch.float64: FLOAT64_TOLERANCE, **found}


def _flax(kernel: Tensor, outputs: int) -> Tensor:
    """A ``DenseGeneral`` kernel as a dense layer's weight: its last ``outputs`` axes are what comes out."""
    split = kernel.ndim - outputs
    return kernel.flatten(split).flatten(0, split - 1).T


def combiner_state(theirs: State) -> State:
    """The authors' Combiner layers."""
    inputs = [_flax(theirs[f"{name}.kernel"], 2) for name in ("query", "key", "value")]
    dense = [theirs[name] for name in sorted(name for name in theirs if name.startswith("DenseGeneral"))]
    ours = {"inputs.weight": torch.cat(inputs), "output.weight": _flax(dense[-1], 1)}
    if len(dense) == 3:
        ours |= {"row_output.weight": _flax(dense[0], 1), "row_key.weight": _flax(dense[1], 2)}
        ours |= {"row_norm.weight": theirs["LayerNorm_0.scale"], "row_norm.bias": theirs["LayerNorm_0.bias"]}
    return ours


def transformers_state(theirs: State) -> State:
    """Self-attention of transformers' Longformer, BigBird and Reformer, which have no projection of the output."""
    if "query_key.weight" in theirs:
        inputs = [theirs["query_key.weight"], theirs["value.weight"]]
    else:
        inputs = [theirs[f"{name}.weight"] for name in ("query", "key", "value")]
    ours = {"inputs.weight": torch.cat(inputs), "output.weight": torch.eye(len(inputs[0]), dtype=torch.float64)}
    if "rotations" in theirs:
        ours["rotations"] = theirs["rotations"]
    if "query_global.weight" in theirs:
        ours["whole.weight"] = torch.cat([theirs[f"{name}_global.weight"] for name in ("query", "key", "value")])
    return ours


def linformer_state(theirs: State) -> State:
    """The package ``linformer``, with one mixture for keys and values."""
    inputs = [theirs[f"to_{name}.weight"] for name in ("q", "k", "v")]
    return {
        "inputs.weight": torch.cat(inputs),
        "output.weight": theirs["to_out.weight"],
        "mixtures": theirs["proj_k"],
    }


def mixer_difference(name: str, figures: Figures, convert: Callable[[State], State], dtype: torch.dtype) -> float:
    """The largest difference of our part's output from the reference's, over the standard deviation of the latter."""
    theirs = {leaf: torch.from_numpy(fill(leaf, shape)) for leaf, shape, _ in figures["layout"]}
    x = torch.from_numpy(images(figures["input_shape"], figures["input_seed"]))
    mixer: Part = build_part(part(name.partition(":")[0], **figures["options"]), x.shape[-1]).double().eval()
    state = convert(theirs)
    missing, unknown = mixer.load_state_dict(state, strict=False)
    assert not unknown
    assert all(leaf.startswith("whole.") for leaf in missing), missing  # where there are no global tokens
    with torch.inference_mode():
        y = mixer.to(dtype)(x.to(dtype))
    if list(y.shape) != figures["output_shape"]:
        return float("inf")
    return float(np.abs(np.array(sample(y.double().numpy())) - figures["values"]).max() / figures["std"])


def mixer_claims(system: str, whose: Mapping[str, str], convert: Mapping[str, Callable[[State], State]]) -> list[Claim]:
    """That a system's mixers give a reference's outputs, by the name of the part.

    Args:
        system: the name of its reference figures.
        whose: whose code the figures of a part come from, as a person would say it.
        convert: how the reference's weights become ours.
    """

    def run(name: str, reporter: Reporter) -> ClaimResult:
        figures = reference_figures(system)["modules"][name]
        key = name.partition(":")[0]
        limits = tolerances(figures)
        differences = {dtype: mixer_difference(name, figures, convert[key], dtype) for dtype in limits}
        measured = ", ".join(
            f"{value:.1e} in {str(dtype).removeprefix('torch.')}" for dtype, value in differences.items()
        )
        return ClaimResult(measured, all(value <= limits[dtype] for dtype, value in differences.items()))

    return [
        Claim(
            id=f"outputs:{name.replace('_', '-')}",
            kind="equality",
            statement=f"{name.partition(':')[0]} gives the outputs of {whose[name.partition(':')[0]]} with the same "
            f"weights (at most {FLOAT64_TOLERANCE:g} in float64 and {FLOAT32_TOLERANCE:g} in float32 of their spread)",
            published="equal",
            run=lambda reporter, name=name: run(name, reporter),  # type: ignore[misc]
        )
        for name in reference_figures(system)["modules"]
    ]

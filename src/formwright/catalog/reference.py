"""Equality with other people's code, kept as figures.

A reference model (the authors' code, or an independent package) was run once with weights from :func:`fill`; its
parameter names and shapes, its size and a few of its outputs stand in ``golden/ID.json``. The same rule fills our model
through its checkpoint converter, and the outputs are compared. Nothing of the reference's code is needed or kept.
The figures are part of the package, so that whoever installed it can verify them.

The values depend on a tensor's name and shape alone. ``numpy.random.RandomState`` is used because its streams are
frozen across versions of NumPy. The scales keep activations of order one through deep networks, and nothing is left at
an initialisation (norm weights of one, LayerScale of 1e-6, zero biases) that would hide a difference.
"""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from formwright.models import Network, create_model, load_checkpoint, model_specification
from formwright.nn.specification import NetworkSpec
from formwright.nn.student_mixture import StudentMixture

SAMPLES = 64
FLOAT64_TOLERANCE, FLOAT32_TOLERANCE = 1e-9, 1e-4
Values = NDArray[np.float64]
Figures = dict[str, Any]


def fill(name: str, shape: Sequence[int]) -> Values:
    """Values of the tensor ``name`` of ``shape`` in the reference's own layout."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    shape = tuple(shape)
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "running_var":
        return random.uniform(0.5, 1.5, shape)
    if leaf == "running_mean":
        return 0.1 * random.standard_normal(shape)
    if "pos" in leaf or "token" in leaf:  # position tables, class tokens
        return 0.2 * random.standard_normal(shape)
    if "bias" in leaf:  # vectors, and tables of attention biases
        return (0.1 if len(shape) < 2 else 0.5) * random.standard_normal(shape)
    if sum(size > 1 for size in shape) < 2:  # norm weights, LayerScale, ResScale, activation scales
        return random.uniform(0.5, 1.5, shape)
    fan_in = int(np.prod(shape[1:]))
    return random.standard_normal(shape) / np.sqrt(fan_in)


def images(shape: Sequence[int], seed: int = 0) -> Values:
    """The input: standard normal values, images ``(batch, channels, height, width)`` or series."""
    return np.random.RandomState(seed).standard_normal(tuple(shape))


def token_ids(shape: Sequence[int], vocabulary: int, seed: int = 0) -> NDArray[np.int64]:
    """The input of a language model: ids below ``vocabulary``, ``(batch, time)``."""
    return np.random.RandomState(seed).randint(vocabulary, size=tuple(shape)).astype(np.int64)


def sample(output: NDArray[Any]) -> list[float]:
    """64 values at evenly spaced places of the flattened output."""
    flat = np.asarray(output, dtype=np.float64).reshape(-1)
    return [float(value) for value in flat[np.linspace(0, flat.size - 1, SAMPLES).astype(int)]]


def reference_systems() -> list[str]:
    """Systems that there are reference figures of."""
    return sorted(entry.name.removesuffix(".json") for entry in _golden().iterdir() if entry.name.endswith(".json"))


@functools.cache
def reference_figures(system: str) -> Figures:
    """All that is kept of a system's reference: its variants, and the outputs of what is no model by itself."""
    return json.loads(_golden().joinpath(f"{system}.json").read_text())


def reference_variants(system: str) -> dict[str, Figures]:
    """The figures of a system's variants; what follows a colon in a name sets apart other options of one variant."""
    return reference_figures(system)["variants"]


def _golden() -> Traversable:
    return files("formwright.catalog").joinpath("golden")


def reference_specification(variant: str, figures: Figures, **changes: Any) -> NetworkSpec:
    return model_specification(variant.partition(":")[0], **(figures.get("changes", {}) | changes))


def reference_state(
    layout: Sequence[Sequence[Any]], shapes: Mapping[str, Sequence[int]] | None = None, *, rounded: bool = False
) -> dict[str, Tensor]:
    """The reference's weights, float64; an output at another input size may have tables of other ``shapes``.

    ``rounded``: to float32 and back, as they were when some of the outputs were recorded.
    """
    own = {name: tuple(shape) for name, shape, kind in layout if "float" in kind}
    other = {name: tuple(shape) for name, shape in (shapes or {}).items() if tuple(shape) != own.get(name)}
    state = _filled(tuple(own.items())) | {name: torch.from_numpy(fill(name, shape)) for name, shape in other.items()}
    return {name: tensor.float().double() for name, tensor in state.items()} if rounded else state


@functools.lru_cache(maxsize=1)  # outputs of one variant at several sizes are compared one after the other
def _filled(shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(fill(name, shape)) for name, shape in shapes}


def comparable_outputs(figures: Figures) -> list[Figures]:
    """Outputs at some input size; those of other constructor options are compared in the tests of their family."""
    return [output for output in figures.get("outputs", []) if set(output.get("build", {})) <= {"img_size"}]


def tolerances(output: Figures) -> dict[torch.dtype, float]:
    """How near ours must be, over the standard deviation of the reference's output, in what we compute in.

    In float64 only where the reference computes in it. In float32 only where the reference's own float32 run is near
    its float64 run: the softmax of some, with weights that were filled by the rule, is so sharp that it is not.
    """
    found = {} if output.get("dtype") == "float32" else {torch.float64: FLOAT64_TOLERANCE}
    if output.get("float32_difference", 0) <= FLOAT32_TOLERANCE / 10 * output["std"]:
        found[torch.float32] = FLOAT32_TOLERANCE
    return found


def output_differences(
    variant: str, figures: Figures, output: Figures, dtypes: Iterable[torch.dtype], *, layout: str = "layout"
) -> dict[torch.dtype, float]:
    """The largest difference of our outputs from the reference's, over the standard deviation of the latter.

    Args:
        variant: its name in the figures.
        figures: all figures of the variant.
        output: the one among its outputs to compare with.
        dtypes: what our model computes in.
        layout: whose parameter names the output was made with.

    Returns:
        The difference for each of ``dtypes``; infinite where the shapes differ.
    """
    shape = output.get("input_shape", ())
    options = ({"image_size": tuple(shape[2:])} if len(shape) == 4 else {}) | output.get("changes", {})
    model = create_model(reference_specification(variant, figures, **options)).double().eval()
    load_checkpoint(model, reference_state(figures[layout], output.get("shapes"), rounded=output.get("rounded", False)))
    differences = {}
    for dtype in sorted(dtypes, key=str, reverse=True):  # float64 first: rounding to float32 cannot be undone
        with torch.inference_mode():
            result = _answer(model.to(dtype), output, dtype)
        differences[dtype] = float("inf")
        if list(result.shape) == output["output_shape"]:
            ours = np.array(sample(result.double().numpy()))
            differences[dtype] = float(np.abs(ours - output["values"]).max() / output["std"])
    return differences


def _answer(model: Network, output: Figures, dtype: torch.dtype) -> Tensor:
    """What our model gives for the input that an output was recorded for."""
    if "packed_series" in output:
        return _likelihood_and_mean(model, output["packed_series"], dtype)
    shape, seed, vocabulary = output["input_shape"], output["input_seed"], output.get("vocabulary")
    further = {name: torch.tensor(values) for name, values in output.get("inputs", {}).items()}
    if vocabulary is not None:
        return model(torch.from_numpy(token_ids(shape, vocabulary, seed)), **further)
    x = torch.from_numpy(images(shape, seed)) * output.get("input_scale", 1.0) + output.get("input_shift", 0.0)
    return model(x.to(dtype), **further)


def _likelihood_and_mean(model: Network, given: Figures, dtype: torch.dtype) -> Tensor:
    """Of a distribution for each point of packed rows with gaps: how unlikely other values are, and the mean."""
    series, label = (
        (torch.from_numpy(images(given["shape"], given[seed])) * given["scale"] + given["shift"]).to(dtype)
        for seed in ("series_seed", "label_seed")
    )
    observed = torch.ones(given["shape"], dtype=torch.bool)
    for row, place, first, last in given["unobserved"]:
        observed[row, place, first:last] = False
    places = (torch.tensor(given[name]) for name in ("predicted", "sample", "time"))
    predicted, sequence, time = places
    values = torch.where(observed, series, 0.0)
    mixture = StudentMixture(**model(values, observed, predicted.bool(), sequence, time))
    real = sequence > 0
    return torch.stack([-mixture.log_probability(label)[real], mixture.mean[real]])

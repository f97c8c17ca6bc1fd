"""A trained model becomes one of integers, with no training: scales are chosen by what is rounded least."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import nn

from formwright.batch import Batch
from formwright.compression.quantization.observers import Observer, observe
from formwright.deployment.ranges import FACTORS, METHODS
from formwright.errors import UnknownNameError, UserError
from formwright.models import Network
from formwright.nn.edits import module_at, quantisable_layers, quantise_layers, tap_quantiser
from formwright.nn.layers import Quantised, Quantiser
from formwright.nn.taps import matching_points

M = TypeVar("M", bound=Network)


def quantise(
    model: M,
    calibration: Iterable[Batch] | None = None,
    *,
    bits: int = 8,
    layers: str | Iterable[str] = "*",
    granularity: str = "channel",
    group: int = 32,
    symmetric: bool = True,
    learned: bool = False,
    activations: int | Mapping[str, Any] | None = None,
    taps: str | Iterable[str] = (),
    method: str = "least squares",
) -> M:
    """A copy of ``model`` whose dense and convolutional layers have weights of few bits, and if asked what comes in.

    The copy computes what integers would, in floating point; it can be trained on (gradients pass the rounding), cut,
    saved and reloaded. Exported, weights of 8 and 4 bits are stored as such integers. Fold norms before
    (:func:`formwright.compression.fold`): a quantised layer takes none in. Calling it again for other ``layers`` gives
    these other bits.

    >>> smaller = quantise(model, bits=4, granularity="group")                      # doctest: +SKIP
    >>> faster = quantise(model, batches, bits=8, activations=8)                    # doctest: +SKIP

    Args:
        model: any model of the frame.
        calibration: some batches like those of the training, where activations or taps are rounded.
        bits: of a weight, 2 to 8.
        layers: paths of layers, or patterns of them.
        granularity, group, symmetric, learned: see :class:`~formwright.nn.layers.Quantised`.
        activations: bits of what comes into these layers, or the options ``bits``, ``granularity`` and ``symmetric``.
        taps: paths or patterns of values inside parts (``*:queries``) that are rounded like the activations.
        method: how scales are chosen: ``extremes`` (nothing is clipped), ``percentile 99.99`` (of activations; weights
            are not clipped), or ``least squares`` (the least squared error).

    Raises:
        UserError: a pattern names nothing, an option is out of range, or the calibration is missing or of no use.
    """
    if method not in METHODS:
        raise UnknownNameError("method of choosing ranges", method, METHODS)
    rounding = {"bits": activations} if isinstance(activations, int) else activations
    patterns, tapped = ([each] if isinstance(each, str) else list(each) for each in (layers, taps))
    if tapped and rounding is None:
        raise UserError("Say with activations to how many bits the values of taps are rounded.")
    quantised = copy.deepcopy(model)
    options = {"bits": bits, "granularity": granularity, "symmetric": symmetric}
    options |= {"group": group} if granularity == "group" else {}
    options |= {"learned": True} if learned else {}
    options |= {"activations": dict(rounding)} if rounding is not None else {}
    paths = {path: None for pattern in patterns for path in quantisable_layers(quantised, pattern)}
    edits = [quantise_layers(quantised, pattern, **options) for pattern in patterns]
    quantisers: dict[str, tuple[Quantiser, int | None]] = {}
    for path in paths:
        layer = module_at(quantised, path)
        assert isinstance(layer, Quantised)
        if method == "least squares":
            fit_weight(layer)
        if layer.input_quantiser is not None:
            axis = layer.input_axis if layer.input_quantiser.scale.ndim else None
            quantisers[f"{path}:input"] = layer.input_quantiser, axis
    if rounding is not None and tapped:
        whole = {name: value for name, value in rounding.items() if name != "granularity"}
        for point in matching_points(model, tapped):
            edits.append(quantise_layers(quantised, point, **whole))
            quantisers[point] = tap_quantiser(quantised, point), None
    if quantisers:
        _calibrate(model, quantisers, calibration, method)
    quantised.record_edits(edits)
    return quantised


def _calibrate(
    model: nn.Module,
    quantisers: Mapping[str, tuple[Quantiser, int | None]],
    calibration: Iterable[Batch] | None,
    method: str,
) -> None:
    """Let quantisers reach as far as the values of ``model``, which rounds nothing, at their taps ask for."""
    observers = {
        point: Observer(axis, quantiser.symmetric, 2 * quantiser.most if quantiser.symmetric else quantiser.most)
        for point, (quantiser, axis) in quantisers.items()
    }
    observe(model, observers, calibration or ())
    for point, (quantiser, _) in quantisers.items():
        quantiser.reach(*observers[point].range(method))


@torch.no_grad()
def fit_weight(layer: Quantised) -> None:
    """Choose the scales of a layer's weight, each as the shrunk range with the least squared error."""
    quantiser, weight = layer.weight_quantiser, layer.weight
    low, high = (quantiser.gather(weight, end) for end in ("amin", "amax"))
    least = torch.full_like(quantiser.scale, torch.inf)
    best = torch.ones_like(quantiser.scale)
    for factor in FACTORS.tolist():
        quantiser.reach(factor * low, factor * high)
        error = quantiser.gather((quantiser(weight) - weight).square(), "sum")
        best = torch.where(error < least, factor, best)
        least = torch.minimum(error, least)
    quantiser.reach(best * low, best * high)


def deployed_forms(model: nn.Module) -> str:
    """How an exported model holds the weights of quantised layers, in a sentence for whoever reads of them.

    >>> deployed_forms(quantise(model, bits=6))                                     # doctest: +SKIP
    'The weights of 9 layers are rounded to 6 bits and stored as the float32 numbers that simulate them.'
    """
    counts = Counter((m.deployed_form, m.weight_quantiser.bits) for m in model.modules() if isinstance(m, Quantised))
    if not counts:
        return "No layer is quantised."
    said = {"int8": "stored as 8-bit integers", "int4": "stored as 4-bit integers, two to a byte"}
    clauses = [
        f"the weights of {count} {'layer' if count == 1 else 'layers'} are "
        + said.get(form, f"rounded to {bits} bits and stored as the float32 numbers that simulate them")
        for (form, bits), count in sorted(counts.items())
    ]
    sentence = "; ".join(clauses)
    return f"{sentence[0].upper()}{sentence[1:]}."

"""Layers and values become integers of few bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from formwright.errors import UserError
from formwright.nn.edits.axes import module_at
from formwright.nn.edits.layers import replace_layer
from formwright.nn.layers import PLAIN, Quantiser
from formwright.nn.parts import Part
from formwright.nn.specification import EditSpec

_WILD = frozenset("*?[")


def quantise(model: nn.Module, target: str, options: Mapping[str, Any]) -> None:
    """Round the weights of the plain layers ``target`` to integers of few bits, or the values of a tap.

    ``target`` is the path of a layer, or a pattern of paths (``*``, ``?`` and ``[...]`` as in file names), with the
    options of :class:`~formwright.nn.layers.Quantised`; or a part's own tap, ``path:name``, with the ``bits`` of a
    value and whether it is ``symmetric`` (false if unset).

    Raises:
        UserError: nothing is there to be rounded, or an option is unknown or unsuited.
    """
    if ":" in target:
        _quantise_tap(model, target, **options)
        return
    for path in quantisable_layers(model, target):
        replace_layer(model, path, "quantised", **options)


def quantise_layers(model: nn.Module, target: str, **options: Any) -> EditSpec:
    """:func:`quantise`, and the edit that replays it from shapes."""
    quantise(model, target, options)
    return EditSpec("quantise", target, options)


def quantisable_layers(model: nn.Module, target: str) -> list[str]:
    """The plain layers that a path or a pattern names, in the order of the model.

    A pattern passes over convolutions whose padding is not zero, which cannot be replaced.

    Raises:
        UserError: there are none.
    """
    if not _WILD & set(target):
        return [target]
    layers = [path for path, _ in _plain_layers(model)]
    found = [path for path in layers if fnmatchcase(path, target)]
    if not found:
        shown = ", ".join(layers[:3]) or "none"
        raise UserError(f"No plain layer is called {target!r}; the model has {len(layers)}: {shown}, ...")
    return found


def _plain_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for path, module in model.named_modules():
        if isinstance(module, PLAIN) and getattr(module, "padding_mode", "zeros") == "zeros":
            yield path, module


def _quantise_tap(model: nn.Module, target: str, *, bits: int, symmetric: bool = False) -> None:
    path, _, name = target.rpartition(":")
    part = module_at(model, path)
    if not isinstance(part, Part) or name not in part.taps:
        raise UserError(
            f"{target!r} is no tap of a part, so that no value there can be rounded; tap_points(model) of "
            "formwright.nn.taps lists them, and what a layer is given is rounded by its option activations."
        )
    like = next(part.parameters(), torch.empty(0)).detach()
    quantiser = Quantiser(bits, symmetric=symmetric, like=like)
    part.add_module(_module_of(name), quantiser)
    part.listen(name, quantiser)


def tap_quantiser(model: nn.Module, target: str) -> Quantiser:
    """What rounds the values of the tap ``target``, ``path:name``, since :func:`quantise`."""
    path, _, name = target.rpartition(":")
    quantiser = module_at(model, path).get_submodule(_module_of(name))
    assert isinstance(quantiser, Quantiser)
    return quantiser


def _module_of(tap: str) -> str:
    return f"quantised_{tap.replace('.', '_')}"

"""Layers take the place of plain ones."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from formwright.errors import UnknownNameError, UserError
from formwright.nn.edits.axes import module_at
from formwright.nn.layers import LAYERS, Form, Layer
from formwright.nn.specification import EditSpec


def set_module(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put ``module`` where the one called ``path`` is."""
    parent, _, name = path.rpartition(".")
    setattr(module_at(model, parent), name, module)


def build_layer(name: str, layer: nn.Module, options: Mapping[str, Any], where: str) -> Layer:
    """The layer of :data:`~formwright.nn.layers.LAYERS` that takes the place of ``layer``, which is called ``where``.

    Raises:
        UserError: ``layer`` is no plain layer, no layer has this name, or an option is unknown or unsuited.
    """
    constructor = LAYERS[name]
    try:
        Form.of(layer)
        known = list(inspect.signature(constructor).parameters)[1:]
        unknown = [option for option in options if option not in known]
        if unknown:
            raise UserError(f"A layer {name!r} has no option {unknown[0]!r}; its options are: {', '.join(known)}.")
        return constructor(layer, **options)
    except UserError as error:
        raise UserError(f"{where!r} cannot become a layer {name!r}: {error}") from None
    except (TypeError, ValueError) as error:
        raise UserError(f"{where!r} cannot become a layer {name!r}: {error}.") from None


def replace_layer(model: nn.Module, target: str, name: str, **options: Any) -> None:
    """Put the layer ``name`` of :data:`~formwright.nn.layers.LAYERS` in the place of the plain layer ``target``.

    Raises:
        UserError: there is no plain layer there, or the layer cannot take its place.
    """
    layer = module_at(model, target)
    set_module(model, target, build_layer(name, layer, options, target).train(layer.training))


def factorise(model: nn.Module, target: str, options: Mapping[str, Any]) -> None:
    """Make the layer ``target`` one of low rank, from shapes alone; option: ``rank``.

    Its weights are zero, because those that follow are factorised already: :func:`factorise_layer` takes those of the
    layer.
    """
    layer = module_at(model, target)
    device = next(layer.parameters(), torch.empty(0)).device
    empty = build_layer("low_rank", copy.deepcopy(layer).to("meta"), {"rank": options["rank"]}, target)
    empty = empty.to_empty(device=device)
    for parameter in empty.parameters():
        nn.init.zeros_(parameter)
    set_module(model, target, empty)


def factorise_layer(model: nn.Module, target: str, rank: int) -> EditSpec:
    """Put the nearest product through ``rank`` channels in the place of the layer ``target``.

    Returns:
        The edit that replays it from shapes.

    Raises:
        UserError: there is no plain layer there, or the rank is above its smaller side.
    """
    replace_layer(model, target, "low_rank", rank=rank)
    return EditSpec("factorise", target, {"rank": rank})


def adapt(model: nn.Module, target: str, options: Mapping[str, Any]) -> None:
    """Freeze the layer ``target`` and put what learns beside it; options: ``by`` (``lora``, ``affine``) and its own."""
    own = {name: value for name, value in options.items() if name != "by"}
    if options["by"] not in ADAPTERS:
        raise UnknownNameError("adapter", options["by"], ADAPTERS)
    replace_layer(model, target, options["by"], **own)


#: Layers that leave the weights as they are and learn beside them.
ADAPTERS = ("affine", "lora")


def adapt_layer(model: nn.Module, target: str, by: str, **options: Any) -> EditSpec:
    """Put an adapter ``by`` (of :data:`ADAPTERS`) around the layer ``target``, whose own weights are frozen.

    Returns:
        The edit that replays it.

    Raises:
        UserError: there is no plain layer there, no such adapter, or an option is unknown or unsuited.
    """
    adapt(model, target, {"by": by, **options})
    return EditSpec("adapt", target, {"by": by, **options})

"""Entries of an axis: some are kept, zeros are appended, or all are put into another order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.edits.axes import module_at, named_axes, tensor_at
from formwright.nn.layers.plain import refresh_sizes
from formwright.nn.part import Axis, Part
from formwright.nn.specification import EditSpec


def keep(model: nn.Module, target: str, options: Mapping[str, Any]) -> None:
    """Keep some entries of a part's axis and cut the others out of every tensor that has it.

    Options: ``axis`` (its name) and ``kept`` (how many; the first ones when replayed, because the weights that follow
    are already cut). Called through :func:`keep_entries` when the choice matters.
    """
    keep_entries(model, target, options["axis"], range(options["kept"]))


def keep_entries(model: nn.Module, target: str, axis: str, entries: Sequence[int]) -> EditSpec:
    """Cut the part ``target`` down to ``entries`` of ``axis`` (``hidden``, ``heads``), physically.

    Returns:
        The edit that replays it from shapes.

    Raises:
        UserError: the part has no such axis, or nothing or too much would be kept, or a layer in it cannot be cut.
    """
    part = _part_with(model, target, axis, "cut")
    size = int(getattr(part, part.resizable[axis]))
    entries = sorted(entries)
    if not entries or entries[0] < 0 or entries[-1] >= size or len(set(entries)) < len(entries):
        wanted = ", ".join(map(str, entries)) or "none"
        raise UserError(f"{target!r} has {size} entries on its axis {axis!r}, numbered from 0; cannot keep {wanted}.")
    select_entries(part, axis, size, entries)
    setattr(part, part.resizable[axis], len(entries))
    return EditSpec("keep", target, {"axis": axis, "kept": len(entries)})


def permute_entries(model: nn.Module, target: str, axis: str, order: Sequence[int]) -> None:
    """Put the entries of ``axis`` of the part ``target`` into another order; what the part computes stays the same.

    No edit records it, as no shape changes.

    Args:
        order: the entry that comes first, the second, and so on: each once.

    Raises:
        UserError: the part has no such axis, or ``order`` does not name each entry once.
    """
    part = _part_with(model, target, axis, "permuted")
    size = int(getattr(part, part.resizable[axis]))
    check_order(order, size, f"{target!r}, axis {axis!r}")
    select_entries(part, axis, size, order)


def check_order(order: Sequence[int], size: int, where: str) -> None:
    """Refuse what is no order of ``size`` entries.

    Raises:
        UserError: an entry is missing, named twice or not there.
    """
    if sorted(order) != list(range(size)):
        raise UserError(f"An order names each of the {size} entries of {where} once, from 0 to {size - 1}.")


def extend(model: nn.Module, target: str, options: Mapping[str, Any]) -> None:
    """Append entries to a part's axis; options: ``axis`` (its name) and ``added`` (how many)."""
    extend_entries(model, target, options["axis"], options["added"])


@torch.no_grad()
def extend_entries(model: nn.Module, target: str, axis: str, added: int) -> EditSpec:
    """Append ``added`` entries of zeros to the axis (``tokens``, ``hidden``, ``heads``) of the part ``target``.

    Returns:
        The edit that replays it from shapes.

    Raises:
        UserError: the part has no such axis, or nothing would be added.
    """
    part = _part_with(model, target, axis, "extended")
    if added < 1:
        raise UserError(
            f"At least one entry is appended to {axis!r} of {target!r}, got {added}; to cut some, keep fewer."
        )
    size = int(getattr(part, part.resizable[axis]))
    for name, dimension, named in list(named_axes(part, axis)):
        tensor = tensor_at(part, name)
        layout = (named.repeats, size, named.block)
        entries = tensor.reshape(*tensor.shape[:dimension], *layout, *tensor.shape[dimension + 1 :])
        shape = list(entries.shape)
        shape[dimension + 1] = added
        tensor = torch.cat([entries, entries.new_zeros(shape)], dim=dimension + 1)
        replace_tensor(part, name, tensor.flatten(dimension, dimension + 2))
    setattr(part, part.resizable[axis], size + added)
    for module in part.modules():
        refresh_sizes(module)
    return EditSpec("extend", target, {"axis": axis, "added": added})


@torch.no_grad()
def select_entries(part: Part, axis: str, size: int, entries: Sequence[int]) -> None:
    """Keep ``entries`` of an axis of ``size`` entries, in their order, in every tensor of the part that has it."""
    for name, dimension, named in list(named_axes(part, axis)):
        tensor = tensor_at(part, name)
        rows = rows_of(named, size, entries).to(tensor.device)
        replace_tensor(part, name, tensor.index_select(dimension, rows))
    for module in part.modules():
        refresh_sizes(module)


def rows_of(axis: Axis, size: int, entries: Sequence[int]) -> Tensor:
    """Indices of entries in a dimension laid out as ``(repeats, size, block)``."""
    index = torch.arange(axis.repeats * size * axis.block).view(axis.repeats, size, axis.block)
    return index[:, list(entries)].reshape(-1)


def replace_tensor(part: nn.Module, name: str, value: Tensor) -> None:
    """Put ``value`` in the place of a parameter or a buffer."""
    path, _, leaf = name.rpartition(".")
    owner = part.get_submodule(path)
    old = owner._parameters.get(leaf)
    if old is None:
        owner._buffers[leaf] = value.contiguous()
    else:
        owner._parameters[leaf] = nn.Parameter(value.contiguous(), requires_grad=old.requires_grad)


def _part_with(model: nn.Module, target: str, axis: str, verb: str) -> Part:
    part = module_at(model, target)
    if not isinstance(part, Part) or axis not in part.resizable:
        raise UserError(f"{target!r} has no axis {axis!r} that can be {verb}.")
    return part

"""Entries of an axis: some are kept, zeros are appended, or all are put into another order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.edits.axes import module_at, named_axes, sharers, size_of, tensor_at, width_at, width_axes
from formwright.nn.layers.plain import refresh_sizes
from formwright.nn.parts import CONDITION, INCOMING, MEMORY, RESIDUAL, Axis, Part
from formwright.nn.specification import EditSpec

#: Where modules keep the number of their channels, if they do.
_RECORDS = {RESIDUAL.name: "dim", INCOMING.name: "in_dim", MEMORY.name: "memory_dim", CONDITION.name: "condition_dim"}


@dataclass(frozen=True)
class Found:
    """An axis of a part, or a width of a network, in the tensors of a module.

    Attributes:
        holder: the part or the network.
        members: paths below it, and which axis of each this is.
        axes: the tensors that have it, by name below the holder, with dimension and layout.
        size: the number of entries.
    """

    holder: nn.Module
    members: tuple[tuple[str, str], ...]
    axes: list[tuple[str, int, Axis]]
    size: int


def find_axis(model: nn.Module, target: str, axis: str, verb: str = "cut") -> Found:
    """The axis of the part ``target``, or the width of the network that ``target`` shares.

    Raises:
        UserError: there is no such axis, or it cannot be cut or permuted.
    """
    module = module_at(model, target)
    if isinstance(module, Part) and axis in module.resizable:
        size = int(getattr(module, module.resizable[axis]))
        return Found(module, (("", axis),), list(named_axes(module, axis)), size)
    width = width_at(model, target, axis)
    if width is None:
        raise UserError(f"{target!r} has no axis {axis!r} that can be {verb}.")
    axes = width_axes(model, width)
    return Found(model, width.members, axes, size_of(model, axes))


def keep(model: nn.Module, target: str, options: Mapping[str, Any]) -> None:
    """Keep some entries of an axis and cut the others out of every tensor that has it.

    Options: ``axis`` (its name) and ``kept`` (how many; the first ones when replayed, because the weights that follow
    are already cut). Called through :func:`keep_entries` when the choice matters.
    """
    keep_entries(model, target, options["axis"], range(_whole(options["kept"])))


def keep_entries(model: nn.Module, target: str, axis: str, entries: Sequence[int]) -> EditSpec:
    """Cut an axis of ``target`` down to ``entries``, physically: ``hidden`` or ``heads`` of a part, or ``residual``.

    ``residual`` are the channels of the tokens at a stage (or another member of a width of the network), which are cut
    in all that reads them or adds to them.

    Returns:
        The edit that replays it from shapes.

    Raises:
        UserError: there is no such axis, or nothing or too much would be kept, or something cannot be cut.
    """
    found = find_axis(model, target, axis)
    entries = sorted(entries)
    if not entries or entries[0] < 0 or entries[-1] >= found.size or len(set(entries)) < len(entries):
        wanted = ", ".join(map(str, entries[:8])) or "none"
        wanted += f" and {len(entries) - 8} more" if len(entries) > 8 else ""
        raise UserError(
            f"{target!r} has {found.size} entries on its axis {axis!r}, numbered from 0; cannot keep {wanted}."
        )
    _select(found, entries)
    return EditSpec("keep", target, {"axis": axis, "kept": len(entries)})


def permute_entries(model: nn.Module, target: str, axis: str, order: Sequence[int]) -> EditSpec:
    """Put the entries of an axis of ``target`` into another order; what is computed stays the same.

    Args:
        order: the entry that comes first, the second, and so on: each once.

    Returns:
        The edit that replays it from shapes: all entries are kept.

    Raises:
        UserError: there is no such axis, it cannot be permuted, or ``order`` does not name each entry once.
    """
    found = find_axis(model, target, axis, "permuted")
    if sorted(order) != list(range(found.size)):
        raise UserError(
            f"An order names each of the {found.size} entries on the axis {axis!r} of {target!r} once, from 0 to "
            f"{found.size - 1}."
        )
    _select(found, order)
    return EditSpec("keep", target, {"axis": axis, "kept": found.size})


def extend(model: nn.Module, target: str, options: Mapping[str, Any]) -> None:
    """Append entries to a part's axis; options: ``axis`` (its name) and ``added`` (how many)."""
    extend_entries(model, target, options["axis"], _whole(options["added"]))


@torch.no_grad()
def extend_entries(model: nn.Module, target: str, axis: str, added: int) -> EditSpec:
    """Append ``added`` entries of zeros to the axis (``tokens``, ``hidden``, ``heads``) of the part ``target``.

    Returns:
        The edit that replays it from shapes.

    Raises:
        UserError: the part has no such axis, or nothing would be added.
    """
    part = module_at(model, target)
    if not isinstance(part, Part) or axis not in part.resizable:
        raise UserError(f"{target!r} has no axis {axis!r} that can be extended.")
    if added < 1:
        raise UserError(
            f"At least one entry is appended to {axis!r} of {target!r}, got {added}; to cut some, keep fewer."
        )
    found = find_axis(model, target, axis)
    for name, dimension, named in found.axes:
        tensor = tensor_at(part, name)
        layout = (named.repeats, found.size, named.block)
        entries = tensor.reshape(*tensor.shape[:dimension], *layout, *tensor.shape[dimension + 1 :])
        shape = list(entries.shape)
        shape[dimension + 1] = added
        tensor = torch.cat([entries, entries.new_zeros(shape)], dim=dimension + 1)
        replace_tensor(part, name, tensor.flatten(dimension, dimension + 2))
    record_size(found, found.size + added)
    return EditSpec("extend", target, {"axis": axis, "added": added})


def _whole(number: object) -> int:
    if isinstance(number, bool) or not isinstance(number, int):
        raise UserError(f"How many entries an edit keeps or appends is a whole number, got {number!r}.")
    return number


@torch.no_grad()
def _select(found: Found, entries: Sequence[int]) -> None:
    """Keep ``entries``, in their order, in every tensor."""
    for name, dimension, axis in found.axes:
        tensor = tensor_at(found.holder, name)
        rows = rows_of(axis, found.size, entries, tensor.shape[dimension]).to(tensor.device)
        replace_tensor(found.holder, name, tensor.index_select(dimension, rows))
    record_size(found, len(entries))


def rows_of(axis: Axis, size: int, entries: Iterable[int], length: int) -> Tensor:
    """Indices of entries in a dimension of ``length``, and of all that are no entries of the axis."""
    first, count = axis.before, axis.repeats * size * axis.block
    index = torch.arange(first, first + count).view(axis.repeats, size, axis.block)
    own = index[:, list(entries)].reshape(-1)
    return torch.cat([torch.arange(first), own, torch.arange(first + count, length)])


def replace_tensor(holder: nn.Module, name: str, value: Tensor) -> None:
    """Put ``value`` in the place of a parameter or a buffer.

    A buffer is saved from now on, as its values no longer follow from the sizes. A kernel that lies in channels-last
    memory stays there.
    """
    path, _, leaf = name.rpartition(".")
    owner = holder.get_submodule(path)
    old = owner._parameters.get(leaf)
    if old is None:
        owner._buffers[leaf] = value.contiguous()
        owner._non_persistent_buffers_set.discard(leaf)
    else:
        channels_last = old.ndim == 4 and old.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        value = value.contiguous(memory_format=layout)
        owner._parameters[leaf] = nn.Parameter(value, requires_grad=old.requires_grad)


def record_size(found: Found, size: int) -> None:
    """Make what modules record of their sizes agree with their tensors again."""
    for path, name in found.members:
        for _, module, own, lies in sharers(module_at(found.holder, path), Axis(name)):
            records = {**_RECORDS, **module.resizable} if isinstance(module, Part) else _RECORDS
            attribute = records.get(own.name)
            if attribute is not None and hasattr(module, attribute):
                setattr(module, attribute, size * lies.repeats * lies.block)
    for name, _, _ in found.axes:
        refresh_sizes(found.holder.get_submodule(name.rpartition(".")[0]))

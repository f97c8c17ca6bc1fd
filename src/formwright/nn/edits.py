"""The closed set of changes to a built model, replayed from shapes when it is loaded.

A compressor decides *what* changes and records it as an :class:`~formwright.nn.specification.EditSpec`; the functions
here know *how*. ``from_pretrained`` builds the base model, replays its edits, and loads the weights into what results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from formwright.errors import UnknownNameError, UserError
from formwright.nn.norm_conversion import replace_norms
from formwright.nn.part import Axis, Part
from formwright.nn.specification import EditSpec

Edit = Callable[[nn.Module, str, Mapping[str, Any]], None]


def module_at(model: nn.Module, path: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError:
        raise UserError(f"The model has no module {path!r}; the edits were made to another model.") from None


def keep(model: nn.Module, target: str, options: Mapping[str, Any]) -> None:
    """Keep some entries of a part's axis and cut the others out of every tensor that has it.

    Options: ``axis`` (its name) and ``kept`` (how many; the first ones when replayed, because the weights that follow
    are already cut). Called through :func:`keep_entries` when the choice matters.
    """
    keep_entries(model, target, options["axis"], range(options["kept"]))


@torch.no_grad()
def keep_entries(model: nn.Module, target: str, axis: str, entries: Sequence[int]) -> EditSpec:
    """Cut the part ``target`` down to ``entries`` of ``axis`` (``hidden``, ``heads``), physically.

    Returns:
        The edit that replays it from shapes.

    Raises:
        UserError: the part has no such axis, or nothing or too much would be kept.
    """
    part = module_at(model, target)
    if not isinstance(part, Part) or axis not in part.resizable:
        raise UserError(f"{target!r} has no axis {axis!r} that can be cut.")
    size = int(getattr(part, part.resizable[axis]))
    entries = sorted(entries)
    if not entries or entries[0] < 0 or entries[-1] >= size or len(set(entries)) < len(entries):
        wanted = ", ".join(map(str, entries)) or "none"
        raise UserError(f"{target!r} has {size} entries on its axis {axis!r}, numbered from 0; cannot keep {wanted}.")
    tensors = {**dict(part.named_parameters()), **dict(part.named_buffers())}
    for name, named_axes in part.axes().items():
        if name not in tensors:
            continue
        tensor = tensors[name]
        for dimension, named in enumerate(named_axes):
            if named is not None and named.name == axis:
                tensor = tensor.index_select(dimension, _rows(named, size, entries).to(tensor.device))
        _replace_tensor(part, name, tensor)
    setattr(part, part.resizable[axis], len(entries))
    for module in part.modules():
        _refresh_sizes(module)
    return EditSpec("keep", target, {"axis": axis, "kept": len(entries)})


def _rows(axis: Axis, size: int, entries: Sequence[int]) -> torch.Tensor:
    """Indices of the kept entries in a dimension laid out as ``(repeats, size, block)``."""
    index = torch.arange(axis.repeats * size * axis.block).view(axis.repeats, size, axis.block)
    return index[:, list(entries)].reshape(-1)


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
    part = module_at(model, target)
    if not isinstance(part, Part) or axis not in part.resizable:
        raise UserError(f"{target!r} has no axis {axis!r} that can be extended.")
    if added < 1:
        raise UserError(
            f"At least one entry is appended to {axis!r} of {target!r}, got {added}; to cut some, keep fewer."
        )
    size = int(getattr(part, part.resizable[axis]))
    tensors = {**dict(part.named_parameters()), **dict(part.named_buffers())}
    for name, named_axes in part.axes().items():
        if name not in tensors:
            continue
        tensor = tensors[name]
        for dimension, named in enumerate(named_axes):
            if named is not None and named.name == axis:
                layout = (named.repeats, size, named.block)
                entries = tensor.reshape(*tensor.shape[:dimension], *layout, *tensor.shape[dimension + 1 :])
                shape = list(entries.shape)
                shape[dimension + 1] = added
                tensor = torch.cat([entries, entries.new_zeros(shape)], dim=dimension + 1)
                tensor = tensor.flatten(dimension, dimension + 2)
        _replace_tensor(part, name, tensor)
    setattr(part, part.resizable[axis], size + added)
    for module in part.modules():
        _refresh_sizes(module)
    return EditSpec("extend", target, {"axis": axis, "added": added})


def _replace_tensor(part: nn.Module, name: str, value: torch.Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    owner = part.get_submodule(path)
    if leaf in owner._parameters:
        old = owner._parameters[leaf]
        assert old is not None
        owner._parameters[leaf] = nn.Parameter(value.contiguous(), requires_grad=old.requires_grad)
    else:
        owner._buffers[leaf] = value.contiguous()


def _refresh_sizes(module: nn.Module) -> None:
    """Make a layer's own record of its sizes agree with its tensors again."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        depthwise = module.groups == module.out_channels and module.groups > 1
        module.out_channels = module.weight.shape[0]
        if depthwise:
            module.groups = module.out_channels
        module.in_channels = module.weight.shape[1] * module.groups
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
        module.num_features = module.weight.shape[0]


def fold(model: nn.Module, target: str, options: Mapping[str, Any]) -> None:
    """Fold norms and parallel branches of inference into the convolutions beside them, everywhere below ``target``."""
    for module in list(module_at(model, target).modules()):
        own_fold = getattr(module, "fold", None)
        if callable(own_fold):
            own_fold()


EDITS: dict[str, Edit] = {"keep": keep, "extend": extend, "fold": fold, "replace_norms": replace_norms}


def apply_edits(model: nn.Module, edits: Sequence[EditSpec]) -> None:
    """Replay recorded edits on a freshly built model.

    Raises:
        UserError: an edit is unknown or does not fit the model.
    """
    for edit in edits:
        if edit.name not in EDITS:
            raise UnknownNameError("edit", edit.name, EDITS)
        try:
            EDITS[edit.name](model, edit.target, edit.options)
        except KeyError as missing:
            raise UserError(f"The edit {edit.name!r} of {edit.target!r} lacks its option {missing}.") from None

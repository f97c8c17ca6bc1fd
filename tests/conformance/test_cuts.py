"""Named axes are what they say, and cutting one gives the part that zeroing its entries would give."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from formwright.nn import Axis, Part
from formwright.nn.edits import apply_edits, extend_entries, keep_entries, named_axes, tensor_at
from formwright.nn.specification import EditSpec
from tests.conformance.instances import Case, build, call, cases, tokens


def parts_in(module: Part) -> Iterator[tuple[str, Part]]:
    for path, inner in module.named_modules():
        if isinstance(inner, Part):
            yield path, inner


def indices_of(axis: Axis, size: int, entries: list[int]) -> list[int]:
    """Places of entries in a dimension laid out as (repeats, size, block), written as three loops."""
    return [
        (repeat * size + entry) * axis.block + place
        for repeat in range(axis.repeats)
        for entry in entries
        for place in range(axis.block)
    ]


@torch.no_grad()
def zero_entries(part: Part, name: str, size: int, entries: list[int]) -> None:
    for tensor_name, dimension, axis in named_axes(part, name):
        tensor_at(part, tensor_name).index_fill_(dimension, torch.tensor(indices_of(axis, size, entries)), 0)


@pytest.mark.parametrize("case", cases(), ids=str)
def test_named_axes_are_those_of_real_tensors(case: Case) -> None:
    for _, part in parts_in(build(case, case.grids[0])):
        tensors = {**dict(part.named_parameters()), **dict(part.named_buffers())}
        named: set[str] = set()
        for name, axes in part.axes().items():
            if name not in tensors:
                owner, _, leaf = name.rpartition(".")
                assert getattr(part.get_submodule(owner), leaf, ...) is None, f"there is no tensor {name}"
                continue
            assert len(axes) == tensors[name].ndim, f"{name} has {tensors[name].ndim} dimensions"
            for length, axis in zip(tensors[name].shape, axes, strict=True):
                if axis is None:
                    continue
                named.add(axis.name)
                if axis.name in part.resizable:
                    size = getattr(part, part.resizable[axis.name])
                    assert length == axis.repeats * size * axis.block, f"{name} disagrees about {axis.name}"
        assert set(part.resizable) <= named, "an axis that can be cut belongs to some tensor"


def cuts() -> Iterator[Any]:
    for case in cases():
        try:
            part = build(case, case.grids[0])
        except pytest.fail.Exception:  # reported, with what to do, by every other check
            continue
        for path, inner in parts_in(part):
            for axis in inner.resizable:
                yield pytest.param(case, path, axis, id="-".join(filter(None, (str(case), path, axis))))


@pytest.mark.parametrize(("case", "path", "axis"), cuts())
def test_a_cut_part_is_smaller_and_does_what_a_zeroed_one_does(case: Case, path: str, axis: str) -> None:
    grid = case.grids[0]
    module = build(case, grid)
    holder = nn.ModuleDict({"part": module})
    target = f"part.{path}".rstrip(".")
    part = holder.get_submodule(target)
    assert isinstance(part, Part)
    size = getattr(part, part.resizable[axis])
    assert size > 1, "the suite needs a case with at least two entries: add one to TINY_PARTS"
    kept = [entry for entry in range(size) if entry % 2 or size == 2 * entry]
    zeroed = copy.deepcopy(holder)
    zero_entries(zeroed.get_submodule(target), axis, size, [entry for entry in range(size) if entry not in kept])
    x, context = tokens(case, grid)
    shape = call(module, x, context)[0].shape

    edit = keep_entries(holder, target, axis, kept)

    y = call(module, x, context)[0]
    assert y.shape == shape
    assert torch.isfinite(y).all()
    assert sum(p.numel() for p in part.parameters()) < sum(p.numel() for p in zeroed.get_submodule(target).parameters())
    if "cut" not in part.promises.exemptions:
        torch.testing.assert_close(y, call(zeroed["part"], x, context)[0], rtol=1e-9, atol=1e-9)

    replayed = nn.ModuleDict({"part": build(case, grid, seed=1)})
    apply_edits(replayed, [EditSpec(**dataclasses.asdict(edit))])
    replayed.load_state_dict(holder.state_dict())
    assert torch.equal(call(replayed["part"], x, context)[0], y)
    call(module.train(), x, context)[0].sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in part.parameters() if p.requires_grad)


@pytest.mark.parametrize(("case", "path", "axis"), cuts())
def test_a_part_with_entries_of_zeros_appended_does_what_it_did(case: Case, path: str, axis: str) -> None:
    grid = case.grids[0]
    module = build(case, grid)
    holder = nn.ModuleDict({"part": module})
    target = f"part.{path}".rstrip(".")
    part = holder.get_submodule(target)
    assert isinstance(part, Part)
    size = getattr(part, part.resizable[axis])
    x, context = tokens(case, grid)
    expected = call(module, x, context)[0]

    edit = extend_entries(holder, target, axis, 2)

    assert getattr(part, part.resizable[axis]) == size + 2
    y = call(module, x, context)[0]
    if "cut" not in part.promises.exemptions:
        torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)
    replayed = nn.ModuleDict({"part": build(case, grid, seed=1)})
    apply_edits(replayed, [EditSpec(**dataclasses.asdict(edit))])
    replayed.load_state_dict(holder.state_dict())
    assert torch.equal(call(replayed["part"], x, context)[0], y)

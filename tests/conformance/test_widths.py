"""The channels of the tokens, which all parts of a network share, are permuted and cut in every one of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from formwright.errors import UserError
from formwright.models import Network, empty_copy, from_pretrained
from formwright.nn import PARTS, Axis, Part
from formwright.nn.edits import factorise_layer, keep_entries, named_axes, permute_entries
from formwright.nn.edits.axes import sharers, size_of, tensor_at, width_at, width_axes, widths_of
from formwright.nn.edits.keeping import replace_tensor, rows_of
from formwright.nn.layers import PLAIN
from formwright.nn.specification import TokenInput, VectorInput
from tests.conformance.instances import (
    Case,
    answers,
    build,
    call,
    cases,
    exempt,
    named_inputs,
    smallest_variants,
    tokens,
    toy,
    toys,
)


def permute_part(part: Part, axis: str, order: list[int]) -> None:
    for name, dimension, lies in list(named_axes(part, axis)):
        tensor = tensor_at(part, name)
        rows = rows_of(lies, len(order), order, tensor.shape[dimension])
        replace_tensor(part, name, tensor.detach().index_select(dimension, rows))


def order_of(size: int, seed: int = 0) -> list[int]:
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed)).tolist()


@pytest.mark.parametrize("case", cases(), ids=str)
def test_a_part_whose_channels_are_permuted_permutes_its_result(case: Case) -> None:
    exempt(case, "residual")
    part = build(case, case.grids[0])
    parameters = inspect.signature(PARTS[case.name]).parameters
    second = list(parameters.values())[1:2]
    # Features have the channels of the tokens, though they stand where a classifier would.
    scores = case.name != "features" and any(p.kind is not p.KEYWORD_ONLY and p.name != "dim" for p in second)
    x, context = tokens(case, case.grids[0])
    y = call(part, x, context)[0]
    order, incoming = order_of(case.dim), order_of(case.in_dim, seed=1)
    if "in_dim" not in parameters:
        x = x[..., order]
    elif list(named_axes(part, "incoming")):  # otherwise it takes a model's input, whose channels stay
        permute_part(part, "incoming", incoming)
        x = x[..., incoming]
    permute_part(part, "residual", order)
    expected = y if scores else y[..., order]
    torch.testing.assert_close(call(part, x, context)[0], expected, rtol=1e-12, atol=1e-12)


def members() -> Iterator[Any]:
    """A network of each kind and family, and each of its widths."""
    for name in toys():
        try:
            model = toy(name)
        except pytest.fail.Exception:  # reported, with what to do, by every other check
            continue
        for width in widths_of(model):
            target, axis = width.members[-1]
            yield pytest.param(name, target, axis, id="-".join(filter(None, (name, target, axis))))


each_width = pytest.mark.parametrize(("name", "target", "axis"), list(members()))


def size_at(model: Network, target: str, axis: str) -> int:
    """The size of a width; skips where a part is exempt, with its reason."""
    width = width_at(model, target, axis)
    assert width is not None
    for path, name in width.members:
        for _, sharer, _, _ in sharers(model.get_submodule(path), Axis(name)):
            if isinstance(sharer, Part) and "residual" in sharer.promises.exemptions:
                pytest.skip(sharer.promises.exemptions["residual"])
    return size_of(model, width_axes(model, width))


@each_width
@pytest.mark.parametrize("factorised", [False, True], ids=["plain", "low-rank"])
def test_channels_in_another_order_change_nothing(name: str, target: str, axis: str, factorised: bool) -> None:
    model = toy(name)
    size = size_at(model, target, axis)
    for path, layer in list(model.named_modules()) if factorised else ():
        if isinstance(layer, PLAIN) and getattr(layer, "groups", 1) == 1:
            factorise_layer(model, path, min(2, len(layer.weight), layer.weight[0].numel()))
    with torch.no_grad():
        expected = answers(model)
        edit = permute_entries(model, target, axis, order_of(size))
        torch.testing.assert_close(answers(model), expected, rtol=1e-12, atol=1e-12)
    assert edit.options == {"axis": axis, "kept": size}


@each_width
def test_half_of_the_channels_run_learn_and_reload(name: str, target: str, axis: str, tmp_path: Path) -> None:
    model = toy(name).float()
    size = size_at(model, target, axis)
    before = model.parameter_count()
    model.record_edits([keep_entries(model, target, axis, range(1, size, 2))])
    assert size_at(model, target, axis) == size // 2
    assert model.parameter_count() < before
    assert empty_copy(model.specification).parameter_count() == model.parameter_count()
    scores = answers(model, torch.float32)
    model.save_pretrained(tmp_path)
    again = from_pretrained(tmp_path)
    for output, got in answers(again, torch.float32).items():
        assert torch.equal(got, scores[output])
    sum(score.square().mean() for score in scores.values() if score.is_floating_point()).backward()  # type: ignore[union-attr]
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def causal_chains() -> Iterator[str]:
    for kind in (TokenInput, VectorInput):
        for name in smallest_variants(kind):
            head = toy(name).head
            if isinstance(head, Part) and head.promises.causal:
                yield name


@pytest.mark.parametrize("name", causal_chains())
def test_a_stream_of_half_of_the_channels_gives_what_the_whole_gives(name: str) -> None:
    model = toy(name)
    width = widths_of(model)[0]
    size = size_at(model, *width.members[0])
    try:
        model.init_state(2, 12)
    except UserError as cannot:
        pytest.skip(str(cannot))
    keep_entries(model, *width.members[0], range(0, size, 2))
    x = named_inputs(model)["input"]
    pieces = []
    with torch.no_grad():
        state = model.init_state(2, x.shape[1])
        for piece in x.split(5, dim=1):
            y, state = model.stream(piece, state)
            pieces.append(y)
        torch.testing.assert_close(torch.cat(pieces, dim=1), model(x), rtol=1e-9, atol=1e-9)


def test_what_shares_no_width_is_said() -> None:
    model = toy("vit")
    with pytest.raises(UserError, match="'head' has no axis 'heads' that can be cut"):
        keep_entries(model, "head", "heads", [0])
    with pytest.raises(UserError, match="An order names each of the 32 entries on the axis 'residual' of 'head' once"):
        permute_entries(model, "head", "residual", [0, 1])
    with pytest.raises(UserError, match="has 32 entries on its axis 'residual', numbered from 0; cannot keep 40"):
        keep_entries(model, "backbone.stages.0", "residual", [40])
    with pytest.raises(UserError, match=r"because of '.*' \(CascadedGroupAttention\): each head takes channels"):
        keep_entries(toy("efficientvit"), "backbone.stages.0", "residual", [0])

"""The channels of the tokens, which all parts of a network share, are permuted and cut in every one of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from formwright.errors import UserError
from formwright.models import Model, empty_copy, from_pretrained
from formwright.nn import PARTS, Axis, Part
from formwright.nn.edits import factorise_layer, keep_entries, named_axes, permute_entries
from formwright.nn.edits.axes import sharers, size_of, tensor_at, width_at, width_axes, widths_of
from formwright.nn.edits.keep import replace_tensor, rows_of
from formwright.nn.layers import PLAIN
from formwright.nn.specification import ImageInput, SeriesInput, TokenInput, VectorInput
from tests.conformance.instances import Case, build, call, cases, exempt, inputs, smallest_variants, tiny_model, tokens

VARIANTS = {
    family: variant
    for kind in (ImageInput, TokenInput, SeriesInput, VectorInput)
    for family, variant in smallest_variants(kind).items()
}


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
    scores = any(p.kind is not p.KEYWORD_ONLY and p.name != "dim" for p in second)
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
    """A model of each family and each of its widths, but for those that a part cannot permute."""
    for family, variant in VARIANTS.items():
        try:
            model = tiny_model(family, variant)
        except pytest.fail.Exception:  # reported, with what to do, by every other check
            continue
        for width in widths_of(model):
            yield pytest.param(family, variant, *width.members[-1], id=f"{family}-{width.members[-1][0]}")


each_width = pytest.mark.parametrize(("family", "variant", "target", "axis"), list(members()))


def size_at(model: Model, target: str, axis: str) -> int:
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
def test_channels_in_another_order_change_nothing(
    family: str, variant: str, target: str, axis: str, factorised: bool
) -> None:
    model = tiny_model(family, variant)
    size = size_at(model, target, axis)
    for path, layer in list(model.named_modules()) if factorised else ():
        if isinstance(layer, PLAIN) and getattr(layer, "groups", 1) == 1:
            factorise_layer(model, path, min(2, len(layer.weight), layer.weight[0].numel()))
    x = inputs(model)
    with torch.no_grad():
        expected = model(x)
        edit = permute_entries(model, target, axis, order_of(size))
        torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)
    assert edit.options == {"axis": axis, "kept": size}


@each_width
def test_half_of_the_channels_run_learn_and_reload(
    family: str, variant: str, target: str, axis: str, tmp_path: Path
) -> None:
    model = tiny_model(family, variant).float()
    size = size_at(model, target, axis)
    before = model.parameter_count()
    model.record_edits([keep_entries(model, target, axis, range(1, size, 2))])
    assert size_at(model, target, axis) == size // 2
    assert model.parameter_count() < before
    assert empty_copy(model.specification).parameter_count() == model.parameter_count()
    x = inputs(model)
    x = x.float() if x.is_floating_point() else x
    scores = model(x)
    model.save_pretrained(tmp_path)
    again = from_pretrained(tmp_path)
    assert torch.equal(again(x), scores)
    scores.square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    if scores.ndim == 3 and family not in ("encoder", "itransformer", "linear_forecaster"):
        try:
            state = again.init_state(2, x.shape[1])
        except UserError:
            return
        pieces = []
        with torch.no_grad():
            for piece in x.split(5, dim=1):
                y, state = again.stream(piece, state)
                pieces.append(y)
        torch.testing.assert_close(torch.cat(pieces, dim=1), scores, rtol=1e-3, atol=1e-4)


def test_what_shares_no_width_is_said() -> None:
    model = tiny_model("vit", VARIANTS["vit"])
    with pytest.raises(UserError, match="'head' has no axis 'heads' that can be cut"):
        keep_entries(model, "head", "heads", [0])
    with pytest.raises(UserError, match="An order names each of the 32 entries on the axis 'residual' of 'head' once"):
        permute_entries(model, "head", "residual", [0, 1])
    with pytest.raises(UserError, match="has 32 entries on its axis 'residual', numbered from 0; cannot keep 40"):
        keep_entries(model, "backbone.stages.0", "residual", [40])
    with pytest.raises(UserError, match=r"because of '.*' \(CascadedGroupAttention\): each head takes channels"):
        keep_entries(tiny_model("efficientvit", VARIANTS["efficientvit"]), "backbone.stages.0", "residual", [0])

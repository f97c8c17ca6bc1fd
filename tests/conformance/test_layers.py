"""Every part runs, learns, is cut and reloads with any of its plain layers replaced."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from formwright.nn.edits import adapt_layer, apply_edits, factorise_layer, keep_entries, replace_layer
from formwright.nn.layers import PLAIN, Layer
from formwright.nn.specification import EditSpec, ImageInput, SeriesInput, TokenInput, VectorInput
from tests.conformance.instances import (
    Case,
    build,
    call,
    cases,
    inputs,
    randomise,
    smallest_variants,
    tiny_model,
    tokens,
)
from tests.conformance.test_cuts import parts_in

ALL_VARIANTS = {
    family: variant
    for kind in (ImageInput, TokenInput, SeriesInput, VectorInput)
    for family, variant in smallest_variants(kind).items()
}
KINDS = ("factorise", "lora", "affine")


def plain_layers(module: nn.Module) -> dict[str, nn.Module]:
    return {path: inner for path, inner in module.named_modules() if isinstance(inner, PLAIN)}


def replaceable(layer: nn.Module, kind: str) -> bool:
    return isinstance(layer, nn.Linear) or kind == "affine" or getattr(layer, "groups", 1) == 1


def replacements() -> Iterator[Any]:
    for case in cases():
        try:
            part = build(case, case.grids[0])
        except pytest.fail.Exception:  # reported, with what to do, by every other check
            continue
        for path, layer in plain_layers(part).items():
            for kind in KINDS:
                if replaceable(layer, kind):
                    yield pytest.param(case, path, kind, id=f"{case}-{path}-{kind}")


def replace(holder: nn.ModuleDict, path: str, kind: str) -> EditSpec:
    """Put a layer that computes the same in the place of a plain one."""
    layer = holder.get_submodule(path)
    assert isinstance(layer, PLAIN)
    if kind == "factorise":
        return factorise_layer(holder, path, min(len(layer.weight), layer.weight[0].numel()))
    return adapt_layer(holder, path, kind, **({"rank": 1} if kind == "lora" else {}))


@pytest.mark.parametrize(("case", "path", "kind"), replacements())
def test_a_part_with_a_replaced_layer(case: Case, path: str, kind: str) -> None:
    grid = case.grids[0]
    holder = nn.ModuleDict({"part": build(case, grid)})
    part = holder["part"]
    x, context = tokens(case, grid)
    expected = call(part, x, context)[0]
    edits = [replace(holder, f"part.{path}", kind)]
    layer = part.get_submodule(path)
    assert isinstance(layer, Layer)
    with torch.no_grad():
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                torch.testing.assert_close(call(part, x, context)[0], expected, rtol=1e-9, atol=1e-9)

        generator = torch.Generator().manual_seed(0)
        for parameter in layer.parameters():
            if kind != "factorise" and parameter.requires_grad:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    changed = call(part, x, context)[0]
    folded = copy.deepcopy(holder)
    apply_edits(folded, [EditSpec("fold", f"part.{path}")])
    assert isinstance(folded["part"].get_submodule(path), PLAIN)
    torch.testing.assert_close(call(folded["part"], x, context)[0], changed, rtol=1e-9, atol=1e-9)

    (call(part, x, context)[0] * torch.randn(changed.shape, generator=generator, dtype=x.dtype)).sum().backward()
    unreached = [name for name, p in layer.named_parameters() if p.requires_grad and p.grad is None]
    if not any(name.startswith("gradients") for name in part.promises.exemptions):
        assert not unreached

    for where, inner in list(parts_in(holder["part"])):
        for axis in inner.resizable:
            size = getattr(inner, inner.resizable[axis])
            target = f"part.{where}".rstrip(".")
            kept = [entry for entry in range(size) if entry % 2 or size == 1]
            edits.append(keep_entries(holder, target, axis, kept))
            keep_entries(folded, target, axis, kept)
    y = call(part, x, context)[0]
    torch.testing.assert_close(y, call(folded["part"], x, context)[0], rtol=1e-9, atol=1e-9)
    replayed = nn.ModuleDict({"part": build(case, grid, seed=1)})
    apply_edits(replayed, [EditSpec(**dataclasses.asdict(edit)) for edit in edits])
    replayed.load_state_dict(holder.state_dict())
    assert torch.equal(call(replayed["part"], x, context)[0], y)


@pytest.mark.parametrize("by", ["low_rank", "branch"])
@pytest.mark.parametrize(("family", "variant"), ALL_VARIANTS.items(), ids=ALL_VARIANTS.keys())
def test_norms_fold_into_replaced_layers_or_stay(family: str, variant: str, by: str) -> None:
    model = tiny_model(family, variant)
    layers = plain_layers(model)
    if not layers:
        pytest.skip("this family has no plain layers")
    for path, layer in layers.items():
        if getattr(layer, "groups", 1) == 1:
            name, options = ("low_rank", {"rank": 1}) if by == "low_rank" else ("affine", {"rank": 1})
            replace_layer(model, path, name, **options)
    randomise(model)
    x = inputs(model)
    with torch.no_grad():
        expected = model(x)
        apply_edits(model, [EditSpec("fold")])
        torch.testing.assert_close(model(x), expected, rtol=1e-8, atol=1e-8)
    assert any(isinstance(module, Layer) for module in model.modules())

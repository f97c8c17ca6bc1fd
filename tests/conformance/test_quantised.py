"""Every part runs, learns, is cut and reloads with all of its plain layers quantised."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from formwright.batch import Batch
from formwright.batch import call as answer
from formwright.compression import quantise
from formwright.deployment import export_onnx
from formwright.models import NETWORKS, from_pretrained
from formwright.nn.edits import apply_edits, keep_entries, quantise_layers
from formwright.nn.layers import Quantised
from formwright.nn.specification import EditSpec
from formwright.nn.taps import read_taps, tap_points
from tests.conformance.instances import ONE_BLOCK, Case, build, call, named_inputs, tiny_network, tokens
from tests.conformance.test_cuts import parts_in
from tests.conformance.test_layers import plain_layers
from tests.conformance.test_networks import assert_equal, cast, each_network
from tests.conformance.test_traced import each_case

OPTIONS: dict[str, dict[str, Any]] = {
    "channels": {"bits": 4},
    "groups": {"bits": 3, "granularity": "group", "group": 3, "symmetric": False},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@each_case
def test_a_part_of_quantised_layers(case: Case, grid: tuple[int, ...], options: dict[str, Any]) -> None:
    holder = nn.ModuleDict({"part": build(case, grid)})
    part = holder["part"]
    if not plain_layers(part):
        pytest.skip("it has no plain layers")
    x, context = tokens(case, grid)
    expected = call(part, x, context)[0]
    edits = [quantise_layers(holder, "*", **options)]
    folded = copy.deepcopy(holder)
    quantised = {path: layer for path, layer in holder.named_modules() if isinstance(layer, Quantised)}
    apply_edits(folded, [EditSpec("fold", path) for path in quantised])
    assert not any(isinstance(layer, Quantised) for layer in folded.modules())

    y = call(part, x, context)[0]
    assert not torch.equal(y, expected)
    with torch.no_grad():
        for result in (y, call(part, x, context)[0]):
            torch.testing.assert_close(result, call(folded["part"], x, context)[0], rtol=1e-9, atol=1e-9)
    with read_taps(part, "*") as values:
        torch.testing.assert_close(call(part, x, context)[0], y, rtol=1e-9, atol=1e-9)
    assert set(values) == set(tap_points(part))
    (y * torch.randn(y.shape, generator=torch.Generator().manual_seed(0), dtype=y.dtype)).sum().backward()
    if not any(name.startswith("gradients") for name in part.promises.exemptions):
        assert all(layer.weight.grad is not None and layer.weight.grad.any() for layer in quantised.values())

    for where, inner in list(parts_in(part)):
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


#: Networks whose file in integers holds what no other of them has: of each kind one, and convolutions of three axes.
EXPORTED = {
    "t5_v1_1",
    "unet_2d_attention",
    "unet_3d",
    "tempo",
    "series_decoder",
    "dit",
    "pair",
    "forecaster_covariates",
    "fpn",
    "query_detector_dense",
    "espcn",
    "ensemble",
}


def test_each_kind_of_network_is_exported_in_integers() -> None:
    assert {tiny_network(name).specification.kind for name in EXPORTED} == set(NETWORKS) - {"chain"}


@each_network
def test_networks_of_other_kinds_are_quantised_reload_and_export(name: str, tmp_path: Path) -> None:
    model = tiny_network(name, **ONE_BLOCK.get(name, {})).float()
    given = cast(named_inputs(model), torch.float32)
    with torch.inference_mode():
        quantised = quantise(model, [Batch(given, None)], bits=8, activations=8)
        quantised.save_pretrained(tmp_path)
        assert_equal(answer(from_pretrained(tmp_path), given), answer(quantised, given), 0.0)
        if name in EXPORTED:
            small = quantise(model, bits=4, granularity="group", group=16)
            assert export_onnx(small, tmp_path / "small.onnx", given) < 1e-4

"""Trained models become ones of integers: what is rounded, how well, and that they save, learn and are cut."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from formwright.compression import fold, prune, quantise
from formwright.compression.quantization import deployed_forms
from formwright.compression.quantization.observers import Observer, observe
from formwright.compression.quantization.post_training import fit_weight
from formwright.deployment.ranges import METHODS, Histogram
from formwright.errors import UserError
from formwright.models import Model, create_model, from_pretrained
from formwright.nn.edits import tap_quantiser
from formwright.nn.layers import Quantised
from formwright.nn.taps import read_taps
from formwright.objectives import Batch, Classification
from tests.compression.models import batches, tiny

SERIES = {"gpt2": {"dim": 32, "depth": 2, "heads": 2, "hidden": 48}, "gla": {"dim": 32, "depth": 2, "heads": 2}}


def texts(name: str, seed: int = 0) -> Model:
    torch.manual_seed(seed)
    variant = {"gla": "gla_340m"}.get(name, name)
    return create_model(variant, vocabulary=11, length=12, **SERIES[name]).eval()


def any_model(name: str) -> Model:
    return texts(name) if name in SERIES else tiny(name)


def some_batches(model: Model) -> list[Batch]:
    if hasattr(model.specification.input, "vocabulary"):
        torch.manual_seed(1)
        return [Batch(model.specification.input.example(4), torch.zeros(4)) for _ in range(2)]
    return batches(model)


def error(model: Model, quantised: Model, x: Tensor) -> float:
    with torch.inference_mode():
        expected = model(x)
        return float((quantised(x) - expected).std() / expected.std())


FAMILIES = ("vit_tiny_patch16_224", "poolformer_s12", "resnet18", "gpt2", "gla")


@pytest.mark.parametrize("name", FAMILIES)
def test_fewer_bits_cost_more_and_finer_scales_less(name: str) -> None:
    model = any_model(name)
    x = some_batches(model)[0].inputs
    errors = [error(model, quantise(model, bits=bits), x) for bits in (8, 6, 4)]
    assert 0 < errors[0] < 0.05
    assert errors == sorted(errors)
    whole = error(model, quantise(model, bits=4, granularity="tensor"), x)
    grouped = error(model, quantise(model, bits=4, granularity="group", group=8), x)
    assert grouped < whole
    assert not any(isinstance(module, Quantised) for module in model.modules()), "the model itself stays"


@pytest.mark.parametrize("name", FAMILIES)
def test_ranges_of_what_comes_in_are_those_of_the_calibration(name: str) -> None:
    model = any_model(name)
    calibration = some_batches(model)
    x = calibration[0].inputs
    weights_alone = error(model, quantise(model, bits=8), x)
    for activations in (8, {"bits": 8, "granularity": "channel"}, {"bits": 8, "symmetric": True}):
        quantised = quantise(model, calibration, bits=8, activations=activations)
        assert weights_alone != error(model, quantised, x) < 0.1
    rough = quantise(model, calibration, bits=8, activations=4)
    assert error(model, rough, x) > error(model, quantised, x)


def test_extremes_are_those_that_came_in() -> None:
    model = tiny("vit_tiny_patch16_224")
    calibration = batches(model)
    quantised = quantise(model, calibration, activations=8, method="extremes", layers="*.fc1")
    paths = [path for path, module in quantised.named_modules() if isinstance(module, Quantised)]
    with read_taps(model, [f"{path}:input" for path in paths]) as values:
        model(torch.cat([batch.inputs for batch in calibration]))
    for path in paths:
        seen, quantiser = values[f"{path}:input"], quantised.get_submodule(f"{path}.input_quantiser")
        torch.testing.assert_close(quantiser.scale, (seen.max() - seen.min()) / 255)
        assert quantiser.zero == (-seen.min() / quantiser.scale).round()


def test_least_squares_beat_extremes_where_there_are_outliers() -> None:
    model = tiny("vit_tiny_patch16_224")
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight[:, 0] *= 8
    x = batches(model)[0].inputs
    errors = {method: error(model, quantise(model, bits=4, method=method), x) for method in METHODS}
    assert errors["least squares"] < 0.9 * errors["extremes"]
    assert errors["percentile 99.99"] == errors["extremes"], "percentiles are of activations"
    layer = Quantised(torch.nn.Linear(40, 3), bits=3)
    squares = lambda: (layer.effective_weight() - layer.weight).square().sum(1)  # noqa: E731
    before = squares()
    fit_weight(layer)
    assert (squares() <= before).all()
    assert squares().sum() < before.sum()


@pytest.mark.parametrize("axis", [None, -1])
def test_an_observer_counts_as_numpy_does(axis: int | None) -> None:
    torch.manual_seed(0)
    pieces = [torch.randn(5, 7, 3) * torch.tensor([1.0, 2.0, 0.0]) for _ in range(3)]
    observer = Observer(axis=axis)
    for piece in pieces:
        observer.find_ends(piece)
    for piece in pieces:
        observer.count(piece)
    values = torch.cat(pieces).flatten(0, 1)
    for channel, columns in enumerate([values.flatten()] if axis is None else values.unbind(1)):
        low, high = min(columns.min().item(), 0), max(columns.max().item(), 0)
        for method, choose in METHODS.items():
            counts, _ = np.histogram(columns.numpy(), 2048, (low, high))
            expected = choose(Histogram(low, high, counts.astype(float))) if high > low else (0.0, 0.0)
            found = [end if axis is None else end[channel] for end in observer.range(method)]
            np.testing.assert_allclose(found, expected, atol=2 * (high - low) / 2048)


def test_a_symmetric_range_reaches_equally_far() -> None:
    observer = Observer(symmetric=True)
    for step in (observer.find_ends, observer.count):
        step(torch.tensor([-1.0, 3.0]))
    assert observer.range("extremes") == (-3.0, 3.0)


def test_values_inside_parts_are_rounded() -> None:
    model = texts("gpt2")
    calibration = some_batches(model)
    quantised = quantise(model, calibration, bits=8, activations=8, taps=("*:queries", "*:weights"))
    quantisers = [tap_quantiser(quantised, f"backbone.stages.0.blocks.{b}.branches.0.part:queries") for b in (0, 1)]
    assert all(quantiser.bits == 8 and 0 < quantiser.scale < 1 for quantiser in quantisers)
    assert 0 < error(model, quantised, calibration[0].inputs) < 0.1


def test_other_layers_get_other_bits_in_a_second_call() -> None:
    model = tiny("vit_tiny_patch16_224")
    first = quantise(model, bits=8, layers=("backbone.embed.*", "head.linear"))
    second = quantise(first, bits=4, granularity="group", group=16)
    bits = {path: m.weight_quantiser.bits for path, m in second.named_modules() if isinstance(m, Quantised)}
    assert bits.pop("head.linear") == 8
    assert sorted(bits.values()) == [4] * 8 + [8]
    assert deployed_forms(second) == (
        "The weights of 8 layers are stored as 4-bit integers, two to a byte; the weights of 2 layers are stored as "
        "8-bit integers."
    )
    assert deployed_forms(quantise(model, bits=6, layers="head.linear")) == (
        "The weights of 1 layer are rounded to 6 bits and stored as the float32 numbers that simulate them."
    )
    assert deployed_forms(model) == "No layer is quantised."


OPTIONS = {
    "channels": {"bits": 8},
    "groups": {"bits": 4, "granularity": "group", "group": 8, "symmetric": False},
    "learned": {"bits": 3, "learned": True},
    "activations": {"bits": 8, "activations": {"bits": 8, "granularity": "channel"}},
}

RELOAD = """
import sys, pathlib, torch
from safetensors.torch import load_file, save_file
from formwright.models import from_pretrained
torch.set_num_threads(1)
for folder in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    with torch.inference_mode():
        save_file({"y": from_pretrained(folder)(load_file(folder / "x")["x"]).contiguous()}, folder / "y")
"""


def test_they_reload_as_they_are_in_a_fresh_process(tmp_path: Path) -> None:
    expected = {}
    for name in FAMILIES:
        model = any_model(name)
        calibration = some_batches(model)
        for kind, options in OPTIONS.items() if name == FAMILIES[0] else [("activations", OPTIONS["activations"])]:
            folder = tmp_path / f"{name}-{kind}"
            quantised = quantise(model, calibration, **options)  # type: ignore[arg-type]
            quantised.save_pretrained(folder)
            save_file({"x": calibration[0].inputs}, folder / "x")
            with torch.inference_mode():
                expected[folder] = quantised(calibration[0].inputs)
    subprocess.run([sys.executable, "-c", RELOAD, str(tmp_path)], check=True)
    for folder, y in expected.items():
        torch.testing.assert_close(load_file(folder / "y")["y"], y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_they_learn_are_cut_and_reload_again(options: dict[str, object], tmp_path: Path) -> None:
    model = tiny("vit_tiny_patch16_224")
    calibration = batches(model)
    quantised = quantise(model, calibration, **options).train()  # type: ignore[arg-type]
    objective, losses = Classification(), []
    optimizer = torch.optim.Adam(quantised.parameters(), lr=3e-3)
    for _ in range(12):
        loss = objective(quantised, calibration[0], 0.0).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    pruned = prune(quantised.eval(), calibration, keep=0.7)
    assert pruned.parameter_count() < quantised.parameter_count()
    pruned.save_pretrained(tmp_path)
    x = calibration[1].inputs
    with torch.inference_mode():
        torch.testing.assert_close(from_pretrained(tmp_path)(x), pruned(x), rtol=1e-5, atol=1e-6)


def test_norms_are_folded_before() -> None:
    model = tiny("resnet18")
    x = batches(model)[0].inputs
    folded = quantise(fold(model), bits=8)
    late = fold(quantise(model, bits=8))
    assert sum(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules()) == 0
    assert sum(isinstance(module, torch.nn.BatchNorm2d) for module in late.modules()) > 0
    assert error(model, folded, x) < 0.05


def test_what_cannot_be_done_is_refused() -> None:
    model = tiny("vit_tiny_patch16_224")
    for options, message in (
        ({"bits": 1}, "whole number of bits from 2 to 8, got 1"),
        ({"bits": 4.5}, "whole number of bits from 2 to 8, got 4.5"),
        ({"method": "best"}, "method of choosing ranges"),
        ({"layers": "nothing*"}, "No plain layer is called"),
        ({"layers": "backbone.nothing"}, "no module"),
        ({"activations": 8}, "no calibration batches"),
        ({"taps": "*:queries"}, "Say with activations"),
        ({"activations": 8, "taps": "*:quarries"}, "no tap point"),
    ):
        with pytest.raises(UserError, match=message):
            quantise(model, **options)  # type: ignore[arg-type]
    broken = [Batch(torch.full((1, 3, 32, 32), torch.nan), torch.zeros(1, dtype=torch.long))]
    with pytest.raises(UserError, match="are not finite on the calibration data"):
        quantise(model, broken, activations=8)


def test_taps_that_show_nothing_are_named() -> None:
    model = tiny("vit_tiny_patch16_224")
    model.head.register_module("spare", torch.nn.Linear(2, 2))
    with pytest.raises(UserError, match=r"Nothing passed 'head\.spare:input'"):
        observe(copy.deepcopy(model), {"head.spare:input": Observer()}, batches(model))

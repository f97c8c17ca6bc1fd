"""INT8 models: integer weights, outputs close to float32, ranges from calibration data."""

from __future__ import annotations

import collections
import logging

import numpy as np
import onnx
import pytest

from formwright.deployment import quantize as module
from formwright.deployment.calibration import observe
from formwright.deployment.quantize import quantize_onnx
from formwright.deployment.ranges import METHODS, Histogram, extremes, least_squares, percentile
from formwright.deployment.runtime import OnnxModel
from formwright.errors import UserError


@pytest.fixture
def calibration() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((24, 3, 16, 16)).astype(np.float32)


@pytest.mark.parametrize("exported", ["convolutions", "attention"], indirect=True)
def test_answers_stay_close_and_weights_become_integers(exported, calibration, tmp_path, capfd):
    target = tmp_path / "int8.onnx"
    level = logging.root.level
    result = quantize_onnx(exported, target, calibration)
    assert set(result.errors) == set(METHODS)
    assert result.error == min(result.errors.values()) < 0.1
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert logging.root.level == level

    model = onnx.load(target)
    onnx.checker.check_model(model, full_check=True)
    types = collections.Counter(tensor.data_type for tensor in model.graph.initializer for _ in range(len(tensor.dims)))
    assert types[onnx.TensorProto.INT8] > 0
    arrays = [onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    floats = sum(array.size for array in arrays if array.dtype == np.float32 and array.ndim > 1)
    assert floats == 0
    assert target.stat().st_size < 0.6 * exported.stat().st_size  # small: notes and scales weigh as much as weights

    unseen = np.random.default_rng(1).standard_normal((50, 3, 16, 16)).astype(np.float32)
    expected, found = OnnxModel(exported)(unseen), OnnxModel(target)(unseen)
    error = np.sqrt(np.mean((found - expected) ** 2)) / (expected - expected.mean(0)).std()
    assert error < 2 * result.error + 0.02
    assert not np.array_equal(found, expected)


def test_keeps_the_method_with_the_least_error(exported, calibration, tmp_path, monkeypatch):
    hopeless = lambda histogram: (0.001 * histogram.low, 0.001 * histogram.high)  # noqa: E731
    monkeypatch.setattr(module, "METHODS", {"hopeless": hopeless, "extremes": extremes, "as bad": hopeless})
    result = quantize_onnx(exported, tmp_path / "int8.onnx", calibration)
    assert result.method == "extremes"
    found, expected = OnnxModel(tmp_path / "int8.onnx")(calibration), OnnxModel(exported)(calibration)
    error = np.sqrt(np.mean((found - expected) ** 2)) / (expected - expected.mean(0)).std()
    assert error == pytest.approx(result.error, rel=1e-3)


def test_refuses_data_of_another_shape(exported, tmp_path):
    with pytest.raises(UserError, match="takes arrays of shape"):
        quantize_onnx(exported, tmp_path / "int8.onnx", np.zeros((4, 3, 8, 8), np.float32))
    assert not (tmp_path / "int8.onnx").exists()


def test_observed_ends_are_those_of_the_activations(exported, calibration):
    model = onnx.shape_inference.infer_shapes(onnx.load(exported))
    names = [model.graph.input[0].name, model.graph.output[0].name]
    found = observe(model, calibration, names)
    assert set(found) == set(names)
    for name, values in zip(names, (calibration, OnnxModel(exported)(calibration)), strict=True):
        assert found[name].low == pytest.approx(min(values.min(), 0), rel=1e-5)
        assert found[name].high == pytest.approx(max(values.max(), 0), rel=1e-5)
        assert found[name].counts.sum() == values.size


def histogram_of(values: np.ndarray) -> Histogram:
    low, high = float(values.min()), float(values.max())
    return Histogram(low, high, np.histogram(values, 2048, (low, high))[0].astype(float))


def test_percentile_clips_the_tails():
    values = np.random.default_rng(0).standard_normal(200_000)
    low, high = percentile(histogram_of(values), 0.99)
    assert low == pytest.approx(np.quantile(values, 0.005), abs=0.02)
    assert high == pytest.approx(np.quantile(values, 0.995), abs=0.02)
    assert percentile(histogram_of(values), 1.0) == pytest.approx(extremes(histogram_of(values)))


def test_zero_stays_in_every_range():
    values = np.random.default_rng(0).uniform(0, 1, 10_000) ** 8
    histogram = Histogram(0.0, 1.0, np.histogram(values, 2048, (0, 1))[0].astype(float))
    assert all(choose(histogram)[0] == 0 for choose in METHODS.values())


def test_least_squares_trades_clipping_for_finer_steps():
    values = np.random.default_rng(0).standard_normal(200_000)
    values[:2] = -40, 40  # outliers that would cost everything else most of its steps
    histogram = histogram_of(values)

    def error(ends):
        step = (ends[1] - ends[0]) / 255
        rounded = np.round(np.clip(values, *ends) / step) * step
        return np.mean((rounded - values) ** 2)

    chosen = least_squares(histogram)
    assert error(chosen) < error(extremes(histogram))
    assert error(chosen) <= 1.05 * min(error((f * -40, f * 40)) for f in np.linspace(0.2, 1, 81))


def test_a_constant_activation_is_no_trouble():
    nothing = Histogram(0.0, 0.0, np.zeros(2048))
    assert all(choose(nothing) == (0.0, 0.0) for choose in METHODS.values())

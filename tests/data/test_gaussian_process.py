"""The Gaussian process is scikit-learn's with the same kernel, and the likeliest scales are found."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from formwright.data.gaussian_process import (
    WAVELENGTH_SCALE,
    _padded,
    factorise,
    interpolate,
    most_likely_scales,
    posterior_mean,
)
from formwright.data.light_curves import LightCurves
from formwright.data.synthetic.light_curves import synthetic_light_curves
from formwright.errors import UserError


@pytest.fixture(scope="module")
def curves() -> LightCurves:
    return synthetic_light_curves(6, classes=("SN Ia", "SN II", "TDE"), seed=5)


def of_sklearn(curves: LightCurves, index: int, amplitude: float, scale: float) -> GaussianProcessRegressor:
    rows = slice(*curves.starts[index : index + 2])
    kernel = ConstantKernel(amplitude**2) * Matern([scale, WAVELENGTH_SCALE], nu=1.5)
    times = curves.times[rows] - curves.times[rows][0]
    places = np.stack([times, curves.wavelengths[curves.band[rows]]], axis=1)
    model = GaussianProcessRegressor(kernel, alpha=curves.error[rows] ** 2, optimizer=None)
    return model.fit(places, curves.flux[rows])


def test_mean_and_likelihood_are_those_of_scikit_learn(curves: LightCurves) -> None:
    seen = _padded(curves)  # of different lengths, so that padding has to change nothing
    assert len(set(curves.counts.tolist())) > 1
    amplitude, scale = torch.linspace(5, 50, len(curves)).double(), torch.linspace(4, 90, len(curves)).double()
    likelihood = factorise(seen, amplitude, scale)[2]
    times = torch.linspace(0, 1, 17).double() * torch.where(seen.real, seen.times, 0.0).amax(1, keepdim=True)
    mean = posterior_mean(seen, times, torch.from_numpy(curves.wavelengths), amplitude, scale)
    for index in range(len(curves)):
        expected = of_sklearn(curves, index, float(amplitude[index]), float(scale[index]))
        assert float(likelihood[index]) == pytest.approx(expected.log_marginal_likelihood_value_, rel=1e-7)
        for band, wavelength in enumerate(curves.wavelengths):
            places = np.stack([times[index].numpy(), np.full(17, wavelength)], axis=1)
            np.testing.assert_allclose(mean[index, :, band].numpy(), expected.predict(places), rtol=1e-7, atol=1e-7)


def test_the_scales_that_are_found_are_nearly_the_likeliest(curves: LightCurves) -> None:
    from scipy.optimize import minimize

    seen = _padded(curves)
    amplitude, scale = most_likely_scales(seen)
    found = factorise(seen, amplitude, scale)[2]
    for index in range(3):
        expected = of_sklearn(curves, index, float(amplitude[index]), float(scale[index]))

        def surprise(theta: np.ndarray, model: GaussianProcessRegressor = expected) -> float:
            full = model.kernel_.theta.copy()
            full[:2] = theta
            return -model.log_marginal_likelihood(full)

        best = minimize(surprise, expected.kernel_.theta[:2], method="Nelder-Mead", options={"maxiter": 60})
        assert -best.fun - float(found[index]) < 1.0  # nats, of hundreds


def test_the_grid_goes_through_what_was_seen_precisely() -> None:
    times = np.linspace(0, 60, 31)
    truth = 100 * np.exp(-0.5 * ((times - 25) / 10) ** 2)
    curves = LightCurves(
        ("one",), ("g", "r"), np.array([4802.0, 6231.0]), np.array([0, 31]), times + 59000,
        np.arange(31) % 2, truth, np.full(31, 0.5),
    )  # fmt: skip
    grid = interpolate(curves, 31)
    assert grid.shape == (1, 31, 2)
    assert np.abs(grid[0, :, 1] - truth).max() < 3.0  # both bands are alike, and tell of each other


def test_objects_do_not_depend_on_each_other_or_on_their_order(curves: LightCurves) -> None:
    whole = interpolate(curves, 12)
    order = [3, 0, 5]
    assert np.allclose(interpolate(curves.select(order), 12), whole[order], rtol=1e-6, atol=1e-6)


def test_a_curve_with_one_observation_and_no_grid() -> None:
    single = LightCurves(
        ("one",), ("g",), np.array([4802.0]), np.array([0, 1]), np.array([5.0]), np.array([0]), np.array([3.0]),
        np.array([1.0]),
    )  # fmt: skip
    assert np.isfinite(interpolate(single, 4)).all()
    with pytest.raises(UserError, match="at least 2 steps"):
        interpolate(single, 1)

"""Power laws are recovered where there is one, and their bands are those of least squares."""

from __future__ import annotations

import math

import numpy as np
import pytest

from formwright.errors import UserError
from formwright.measurement.scaling_law import fit_power_law

SIZES = np.geomspace(1e3, 1e7, 9)


@pytest.mark.parametrize(("alpha", "x0"), [(0.07, 5e2), (1.3, 2e9), (-0.2, 1.0)])
def test_an_exact_law_is_recovered(alpha: float, x0: float) -> None:
    law = fit_power_law(SIZES, (x0 / SIZES) ** alpha)
    assert law.alpha == pytest.approx(alpha, rel=1e-6)
    assert law.x0 == pytest.approx(x0, rel=1e-6)
    assert law.r2 == pytest.approx(1.0)
    assert law.alpha_error == pytest.approx(0.0, abs=1e-9)
    np.testing.assert_allclose(law(SIZES * 3), (x0 / SIZES / 3) ** alpha)


def test_error_and_share_are_those_of_scipy() -> None:
    from scipy.stats import linregress

    loss = (1e4 / SIZES) ** 0.1 * np.exp(0.05 * np.random.default_rng(0).standard_normal(9))
    law = fit_power_law(SIZES, loss)
    line = linregress(np.log10(SIZES), np.log10(loss))
    assert law.alpha == pytest.approx(-line.slope)
    assert law.alpha_error == pytest.approx(line.stderr)
    assert law.r2 == pytest.approx(line.rvalue**2)


def test_the_band_holds_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    truth, held = (1e4 / 1e5) ** 0.1, 0
    for _ in range(400):
        law = fit_power_law(SIZES, (1e4 / SIZES) ** 0.1 * np.exp(0.2 * random.standard_normal(9)))
        low, high = law.band(1e5, confidence=0.8)
        held += bool(low < truth < high)
    assert 0.73 < held / 400 < 0.87


def test_the_band_is_widest_far_from_the_points() -> None:
    law = fit_power_law(SIZES, (1e4 / SIZES) ** 0.1 * np.linspace(0.9, 1.1, 9))
    low, high = law.band(np.array([1e2, 1e5, 1e9]))
    width = np.log(high / low)
    assert width[1] < width[0] < width[2]
    assert set(law.to_dict()) == {"alpha", "x0", "r2", "alpha_error", "points"}


def test_what_is_no_law_is_refused() -> None:
    with pytest.raises(UserError, match="positive"):
        fit_power_law([1.0, 2.0], [1.0, -0.5])
    with pytest.raises(UserError, match="two different sizes"):
        fit_power_law([3.0, 3.0], [1.0, 2.0])
    with pytest.raises(UserError, match="As many losses"):
        fit_power_law([3.0, 4.0], [1.0])
    two = fit_power_law([1.0, 2.0], [2.0, 1.0])
    assert math.isnan(two.alpha_error)
    with pytest.raises(UserError, match="three points"):
        two.band(1.5)
    assert math.isnan(fit_power_law([1.0, 2.0], [1.0, 1.0]).x0)

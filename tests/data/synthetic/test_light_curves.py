"""Synthetic light curves are drawn alike under a seed, and are what their classes are known for."""

from __future__ import annotations

import numpy as np
import pytest

from formwright.data.light_curves import LightCurves
from formwright.data.synthetic.light_curves import (
    DETECTIONS,
    SOURCES,
    WAVELENGTHS,
    black_body_flux,
    luminosity_distance,
    noise_of,
    observe_sky,
    synthetic_light_curves,
)
from formwright.errors import UnknownNameError, UserError


@pytest.fixture(scope="module")
def curves() -> LightCurves:
    return synthetic_light_curves(210, seed=0)


def test_the_same_seed_draws_the_same_and_another_does_not(curves: LightCurves) -> None:
    again = synthetic_light_curves(210, seed=0)
    assert np.array_equal(again.flux, curves.flux)
    assert again.objects == curves.objects
    assert not np.array_equal(synthetic_light_curves(210, seed=1).flux[:50], curves.flux[:50])


def test_classes_are_balanced_and_everything_was_detected(curves: LightCurves) -> None:
    assert curves.labels is not None
    assert np.bincount(curves.labels).tolist() == [30] * len(SOURCES)
    detected = np.add.reduceat(curves.flux > 5 * curves.error, curves.starts[:-1])
    assert detected.min() >= DETECTIONS
    assert np.isfinite(curves.flux).all()
    assert curves.error.min() > 0
    for index in range(len(curves)):
        rows = slice(*curves.starts[index : index + 2])
        assert (np.diff(curves.times[rows]) >= 0).all()


def test_the_cadence_is_irregular_and_shares_bands_as_the_survey_does() -> None:
    sky = observe_sky(200, np.random.default_rng(0))
    gaps = np.diff(np.unique(sky.times[0][sky.real[0]].round()))
    assert gaps.min() >= 1
    assert gaps.max() > 2 * gaps.min()
    shares = np.bincount(sky.band[sky.real], minlength=6) / sky.real.sum()
    assert shares[0] < 0.12 < shares[2]  # few in u, many in r
    pairs = sky.band.reshape(200, -1, 2)
    assert (pairs[..., 0] != pairs[..., 1]).all()


def test_noise_is_a_fifth_of_the_flux_at_the_five_sigma_depth() -> None:
    depth = np.array([24.0])
    flux = 10 ** (0.4 * (27.5 - depth))
    assert noise_of(flux, depth) / flux == pytest.approx(0.2, rel=0.01)


def test_a_black_body_obeys_wien_and_the_inverse_square() -> None:
    wavelength = np.linspace(2000, 20000, 4000)
    zero = np.array([0.01])
    flux = black_body_flux(np.array([1e43]), np.array([6000.0]), wavelength, zero)
    # The peak per unit of frequency lies at 5.099 mm K / T.
    assert wavelength[flux.argmax()] == pytest.approx(5.099e7 / 6000 * 1.01, rel=0.01)
    assert luminosity_distance(np.array([0.1]))[0] / 3.085678e24 == pytest.approx(460.3, rel=0.01)  # megaparsec


def test_type_1a_supernovae_are_standard_candles(curves: LightCurves) -> None:
    """At their peak they have an absolute magnitude of about -19 in the red."""
    rest = np.linspace(0, 60, 200)
    near = black_body_flux(np.array([10**43.1]), np.array([9500.0]), WAVELENGTHS[2], np.array([0.01]))
    modulus = 5 * np.log10(luminosity_distance(np.array([0.01])) / 3.085678e24) + 25
    absolute = 27.5 - 2.5 * np.log10(near) - modulus
    assert -19.8 < absolute[0] < -18.5
    assert rest.size


def peak_width(curves: LightCurves, index: int) -> float:
    """Days between the first and the last observation above half of the largest flux."""
    rows = slice(*curves.starts[index : index + 2])
    above = curves.times[rows][curves.flux[rows] > 0.5 * curves.flux[rows].max()]
    return float(above[-1] - above[0])


def test_kilonovae_are_gone_first_and_our_galaxy_has_no_redshift(curves: LightCurves) -> None:
    assert curves.labels is not None
    assert curves.features is not None
    widths = {
        name: np.median([peak_width(curves, index) for index in np.flatnonzero(curves.labels == label)])
        for label, name in enumerate(curves.classes)
    }
    assert widths["kilonova"] < 15 < widths["SN Ia"] < widths["SN II"]
    of_star = curves.labels == curves.classes.index("RR Lyrae")
    assert (curves.features[of_star] == 0).all()
    assert (curves.features[~of_star] > 0).all()


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="SN Ia"):
        synthetic_light_curves(10, classes=("SN 1a",))
    with pytest.raises(UserError, match="2 were asked for 7 classes"):
        synthetic_light_curves(2)

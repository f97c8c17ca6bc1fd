"""Local forecasters: their recursions and likelihoods against statsmodels, and what all of them promise."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from formwright.deployment.local_models.panel import KINDS, LocalModels, fitted, follow, mean_of, side_by_side
from formwright.deployment.local_models.smoothing import FORMS, Smoothing

SEASON = 4


def column(rows=60, seed=0):
    """A trend, a season that grows with it, and noise."""
    random = np.random.default_rng(seed)
    time = np.arange(rows)
    return (50 + 0.8 * time) * (1 + 0.2 * np.sin(2 * np.pi * time / SEASON)) * random.lognormal(0, 0.03, rows)


@pytest.mark.parametrize("form", FORMS)
def test_exponential_smoothing_is_that_of_statsmodels(form):
    """With the same parameters and first states it gives the same forecasts; its own fit is about as likely."""
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    relative, trend, damped, kind = form
    values = column()

    class Own(Smoothing):
        forms = (form,)

    ours = Own.fit(values[:, None], SEASON)
    a = {name: array[..., 0] for name, array in ours.arrays.items()}
    season = {0: None, 1: "add", 2: "mul"}[kind]
    level, slope, *pattern = _start(form, values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ETSModel(
            values,
            error="mul" if relative else "add",
            trend="add" if trend else None,
            damped_trend=damped,
            seasonal=season,
            seasonal_periods=SEASON if season else None,
            initialization_method="known",
            initial_level=level,
            initial_trend=slope if trend else None,
            initial_seasonal=pattern if season else None,
        )
        parameters = {"smoothing_level": a["alpha"], "smoothing_trend": a["beta"], "damping_trend": a["damping"]}
        parameters["smoothing_seasonal"] = a["gamma"]
        names = [name for name in model.param_names if name in parameters]
        same = model.smooth(np.array([float(parameters[name]) for name in names]))
        best = model.fit(disp=False)
    # statsmodels divides by the level of after the row where a season is multiplied, and the source by that of before
    np.testing.assert_allclose(ours.forecast(6)[:, 0], same.forecast(6), rtol=1e-3 if kind == 2 else 1e-6)
    arrays = {name: array.copy() for name, array in ours.arrays.items()}
    arrays |= {"level": np.array([level]), "trend": np.array([slope if trend else 0.0])}
    if kind:
        arrays["season"] = np.array(pattern)[:, None]
    followed = Own(arrays)
    for value in values:
        followed.advance(np.array([value]))
    np.testing.assert_allclose(followed.forecast(6), ours.forecast(6), rtol=1e-9)
    assert same.llf > best.llf - 1.0


def _start(form, values):
    """The level, the slope and the season before the first row."""
    from formwright.deployment.local_models.smoothing import _plain_start, _seasonal_start

    if form[3] == 0:
        return [float(one[0]) for one in _plain_start(values[:, None])]
    level, slope, pattern = _seasonal_start(values[:, None], SEASON, times=form[3] == 2)
    return [float(level[0]), float(slope[0]), *pattern[:, 0].tolist()]


def test_theta_is_a_smoothed_level_and_half_the_drift():
    """With a share of one half it is what Hyndman and Billah showed the Theta method to be."""
    values = np.cumsum(np.random.default_rng(1).normal(0.5, 1, 40)) + 20
    theta = fitted(KINDS["theta"], [values], 1)
    theta.arrays["share"][:] = 0.5
    a = {name: float(array[..., 0].squeeze()) for name, array in theta.arrays.items() if name != "season"}
    slope, intercept = np.polyfit(np.arange(1, 41), values, 1)
    assert (a["start"], a["slope"]) == pytest.approx((intercept, slope))
    steps = np.diff(theta.forecast(5)[:, 0])
    np.testing.assert_allclose(steps, slope / 2)


def test_the_best_form_follows_the_data():
    ahead = column(72)[60:]
    assert np.abs(fitted(KINDS["smoothing"], [column(72)[:60]], SEASON).forecast(12)[:, 0] / ahead - 1).mean() < 0.05
    assert np.abs(fitted(KINDS["complex"], [column(72)[:60]], SEASON).forecast(12)[:, 0] / ahead - 1).mean() < 0.08


@pytest.fixture(scope="module")
def members():
    columns = [column(), column(31, seed=2), np.round(column(45, seed=3) * (np.arange(45) % 3 == 0))]
    columns[0][20] = np.nan
    return columns, {name: fitted(kind, columns, SEASON) for name, kind in KINDS.items()}


@pytest.mark.parametrize("name", KINDS)
def test_columns_do_not_depend_on_others(name, members):
    """Those of other lengths beside a column change nothing of it."""
    columns, together = members
    for place, one in enumerate(columns):
        alone = fitted(KINDS[name], [one], SEASON).forecast(6)[:, 0]
        assert np.isfinite(alone).all()
        np.testing.assert_allclose(together[name].forecast(6)[:, place], alone, rtol=1e-6, atol=1e-9)
    both = KINDS[name].fit(side_by_side(columns), SEASON)
    np.testing.assert_allclose(both.forecast(6), together[name].forecast(6), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", KINDS)
def test_rows_are_followed_one_by_one(name, members):
    """Season and level move on; what is missing is what was forecast, and the next season comes where it should."""
    columns, together = members
    rows = [np.full(8, np.nan) for _ in columns]
    said = follow(together[name], rows, [np.array([0, SEASON])] * 3, 2 * SEASON)
    for one in said:
        np.testing.assert_allclose(one[1, :SEASON], one[0, SEASON:], rtol=1e-6, atol=1e-9)
    before = together[name].forecast(3)
    moved = follow(together[name], [np.full(2, 1e3)] * 3, [np.array([2])] * 3, 3)
    np.testing.assert_array_equal(together[name].forecast(3), before)  # it is left as it is
    assert any(np.abs(one - before[:, place]).max() > 1 for place, one in enumerate(moved))


@pytest.mark.parametrize("name", KINDS)
def test_the_fewest_rows_are_enough(name):
    for values in ([3.0], [3.0, 5.0], [0.0, 0.0, 0.0], [4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0]):
        forecast = fitted(KINDS[name], [np.array(values)], SEASON).forecast(5)
        assert np.isfinite(forecast).all()
        if len(set(values)) == 1:
            np.testing.assert_allclose(forecast, values[0], atol=1e-6)


def test_forecasters_are_saved_and_read(tmp_path, members):
    columns, together = members
    ends = np.array(["2024-01-01", "2024-02-01", "2024-03-01"], "datetime64[ns]")
    models = LocalModels.start(["a", "ü", ""], ends, columns, SEASON)
    models.members = together
    models.save(tmp_path)
    again = LocalModels.load(tmp_path)
    assert (again.places, again.season) == ({"a": 0, "ü": 1, "": 2}, SEASON)
    np.testing.assert_array_equal(again.ends, ends)
    for name, member in together.items():
        np.testing.assert_array_equal(again.members[name].forecast(5), member.forecast(5))
    (tmp_path / "local.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match="cannot be read"):
        LocalModels.load(tmp_path)


def test_the_mean_is_of_what_is_there():
    forecasts = {
        "a": np.array([1.0, np.nan, np.nan]),
        "b": np.array([3.0, 5.0, np.nan]),
        "c": np.array([9.0, 9.0, 9.0]),
    }
    np.testing.assert_array_equal(mean_of(forecasts, {"a": 0.5, "b": 0.5, "d": 1.0}), [2.0, 5.0, np.nan])

"""Steps of time axes, and what a calendar says of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from formwright.data.calendar import (
    calendar_features,
    clock_frequency,
    counted_frequency,
    monthly_frequency,
    ramps,
    with_cycles_within,
    with_holidays,
    with_seasons,
)
from formwright.data.frequencies import default_look_back
from formwright.deployment.preparations.forecasting import ForecastPreparation
from formwright.errors import UserError
from formwright.fitting.kind import Reading
from formwright.fitting.task import task_type

HOUR = 3_600_000_000_000
DAY = 24 * HOUR


def test_ramps_are_those_of_published_protocols():
    times = pd.date_range("2023-12-30 21:00", periods=3000, freq="h")
    found = calendar_features(
        times.to_numpy("datetime64[ns]"), replace(clock_frequency(HOUR), features=ramps(HOUR), longer=())
    )
    expected = [times.hour / 23, times.dayofweek / 6, (times.day - 1) / 30, (times.dayofyear - 1) / 365]
    np.testing.assert_allclose(found, np.stack(expected, axis=1) - 0.5)


def test_the_ends_of_a_cycle_are_neighbours():
    times = pd.date_range("2023-01-01", periods=365 * 24, freq="h")
    frequency = clock_frequency(HOUR)
    found = dict(zip(frequency.features, calendar_features(times.to_numpy("datetime64[ns]"), frequency).T, strict=True))
    for name, share in (
        ("hour", times.hour / 24),
        ("weekday", times.dayofweek / 7),
        ("day", (times.day - 1) / times.days_in_month),
        ("day_of_year", (times.dayofyear - 1) / 365),
    ):
        np.testing.assert_allclose(found[f"{name}_sin"], np.sin(2 * np.pi * share), atol=1e-12)
        np.testing.assert_allclose(found[f"{name}_cos"], np.cos(2 * np.pi * share), atol=1e-12)
    months = calendar_features(pd.date_range("2023-01-01", periods=12, freq="MS").to_numpy(), monthly_frequency(1))
    apart = np.linalg.norm(months - np.roll(months, 1, axis=0), axis=1)
    np.testing.assert_allclose(apart, apart[0])  # December and January as any others


@pytest.mark.parametrize(
    ("step", "name", "seasons"),
    [
        (1, "1 hour", (24, 168)),
        (24, "1 day", (7, 365)),
        (24 * 7, "1 week", (52,)),
        (0.25, "15 minutes", (96, 672)),
        (1 / 60, "1 minute", (1440,)),
        (1 / 3600, "1 second", (60,)),
        (2, "2 hours", (12, 84)),
    ],
)
def test_steps_have_names_and_seasons(step, name, seasons):
    frequency = clock_frequency(round(step * HOUR))
    assert (frequency.name, frequency.season, frequency.seasons) == (name, seasons[0], seasons)


def test_seasons_may_be_given():
    assert with_seasons(clock_frequency(HOUR), [168, 24]).seasons == (24, 168)
    assert with_seasons(clock_frequency(HOUR), [1]).seasons == ()
    with pytest.raises(UserError, match="at least 1, such as --season 24,168"):
        with_seasons(clock_frequency(HOUR), [0])


def test_the_look_back_holds_a_longer_season_where_there_are_enough_rows():
    assert default_look_back(clock_frequency(HOUR), 24, 8 * 168) == 168
    assert default_look_back(clock_frequency(HOUR), 24, 8 * 168 - 1) == 48
    assert default_look_back(clock_frequency(DAY), 14, 8 * 365) == 365
    assert default_look_back(clock_frequency(DAY), 30, 700) == 30
    assert default_look_back(clock_frequency(HOUR // 60), 60, 100_000) == 336


def test_cycles_that_do_not_come_twice_tell_nothing():
    start = np.datetime64("2023-01-01", "ns")
    year = with_cycles_within(clock_frequency(DAY), start, start + np.timedelta64(364, "D"))
    assert {name.rpartition("_")[0] for name in year.features} == {"weekday", "day"}
    both = with_cycles_within(clock_frequency(DAY), start, start + np.timedelta64(2 * 365, "D"))
    assert both == clock_frequency(DAY)
    assert with_cycles_within(counted_frequency(1), np.int64(0), np.int64(9)) == counted_frequency(1)


def test_holidays_of_a_country_are_days_like_others_in_the_record():
    times = pd.date_range("2024-12-23", periods=5, freq="D").to_numpy("datetime64[ns]")
    frequency = with_holidays(clock_frequency(DAY), "DE-BY", times[0], times[-1])
    found = calendar_features(times, frequency)
    assert frequency.features[:2] == ("holiday", "holiday_eve")
    assert found[:, 0].tolist() == [0, 0, 1, 1, 0]
    assert found[:, 1].tolist() == [0, 1, 1, 0, 0]
    assert "2030-01-06" in frequency.holidays  # Epiphany, which is one in Bavaria alone
    assert "2030-01-06" not in with_holidays(clock_frequency(DAY), "DE", times[0], times[-1]).holidays
    assert frequency.like(clock_frequency(DAY))


def test_weeks_and_months_count_their_holidays():
    weeks = pd.date_range("2024-12-09", periods=3, freq="7D").to_numpy("datetime64[ns]")
    frequency = with_holidays(clock_frequency(7 * DAY), "US", weeks[0], weeks[-1])
    assert frequency.features[:2] == ("holidays_before", "holidays_after")
    assert calendar_features(weeks, frequency)[:, 1].tolist() == [0, 0, 1]


@pytest.mark.parametrize("country", ["XX", "DE-QQ", "MC-Z"])
def test_unknown_countries_are_refused_in_one_sentence(country):
    time = np.datetime64("2024-01-01", "ns")
    with pytest.raises(UserError, match="No holidays are known of") as error:
        with_holidays(clock_frequency(DAY), country, time, time)
    assert str(error.value).count(". ") == 0
    with pytest.raises(UserError, match="leave --country out"):
        with_holidays(counted_frequency(1), "DE", np.int64(0), np.int64(1))


def test_what_earlier_versions_saved_is_read_as_it_was():
    hourly = clock_frequency(HOUR)
    record = {"name": "1 hour", "step": HOUR, "offset": None, "season": 24, "features": ["hour", "weekday"]}
    times = hourly.range(np.datetime64("2024-01-01", "ns"), 30)
    folder = {
        "layout": {"targets": ["load"], "past": [], "known": []},
        "frequency": record,
        "length": 4,
        "horizon": 2,
        "time_column": "time",
        "series_column": None,
        "scalings": {},
        "half_width": [[0.0], [0.0]],
        "coverage": 0.9,
    }
    old = ForecastPreparation.from_record(folder, Path())
    assert old.frequency.like(hourly)
    found = calendar_features(times, old.frequency)
    np.testing.assert_allclose(found[:, 0], np.arange(30) % 24 / 23 - 0.5)
    assert (found[:, 1] == np.repeat([-0.5, 1 / 6 - 0.5], [24, 6])).all()


def test_holidays_and_seasons_travel_with_a_model():
    times = clock_frequency(DAY).range(np.datetime64("2024-12-24", "ns"), 2)
    frequency = with_seasons(with_holidays(clock_frequency(DAY), "DE", times[0], times[-1]), [7, 28])
    shipped = replace(task_type("forecasting").read(None, Reading()).data.preparation, frequency=frequency)
    read = ForecastPreparation.from_record(json.loads(json.dumps(shipped.record())), Path())
    assert read.frequency == frequency
    assert calendar_features(times, read.frequency)[:, 0].tolist() == [0, 1]


def test_times_go_on():
    assert clock_frequency(HOUR).after(np.datetime64("2024-02-28T23:00", "ns"), 25) == np.datetime64("2024-03-01T00:00")
    assert monthly_frequency(1, "end").after(np.datetime64("2024-01-31", "ns"), 2) == np.datetime64("2024-03-31")
    assert counted_frequency(2).after(np.int64(10), 3) == 16
    assert counted_frequency(1).features == ()

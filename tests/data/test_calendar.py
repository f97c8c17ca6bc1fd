"""Steps of time axes and what a calendar says: the features of GluonTS, which ETT's protocol uses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from formwright.data.calendar import calendar_features, clock_frequency, counted_frequency, monthly_frequency

HOUR = 3_600_000_000_000


def test_hourly_features_are_those_of_pandas():
    times = pd.date_range("2023-12-30 21:00", periods=3000, freq="h")
    found = calendar_features(times.to_numpy("datetime64[ns]"), clock_frequency(HOUR))
    expected = [times.hour / 23, times.dayofweek / 6, (times.day - 1) / 30, (times.dayofyear - 1) / 365]
    np.testing.assert_allclose(found, np.stack(expected, axis=1) - 0.5)


@pytest.mark.parametrize(
    ("step", "name", "season"),
    [
        (1, "1 hour", 24),
        (24, "1 day", 7),
        (24 * 7, "1 week", 52),
        (0.25, "15 minutes", 96),
        (1 / 3600, "1 second", 60),
        (2, "2 hours", 12),
    ],
)
def test_steps_have_names_and_seasons(step, name, season):
    frequency = clock_frequency(round(step * HOUR))
    assert (frequency.name, frequency.season) == (name, season)


def test_features_stay_between_their_ends():
    times = pd.date_range("2020-01-01", "2024-12-31", freq="min")[::997].to_numpy("datetime64[ns]")
    for frequency in (clock_frequency(HOUR // 60), clock_frequency(24 * HOUR), monthly_frequency(1)):
        found = calendar_features(times, frequency)
        assert found.shape == (len(times), len(frequency.features))
        assert np.abs(found).max() <= 0.5


def test_times_go_on():
    assert clock_frequency(HOUR).after(np.datetime64("2024-02-28T23:00", "ns"), 25) == np.datetime64("2024-03-01T00:00")
    assert monthly_frequency(1, "end").after(np.datetime64("2024-01-31", "ns"), 2) == np.datetime64("2024-03-31")
    assert counted_frequency(2).after(np.int64(10), 3) == 16
    assert counted_frequency(1).features == ()

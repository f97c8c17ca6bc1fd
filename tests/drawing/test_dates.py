"""Times below a chart."""

from __future__ import annotations

import pandas as pd
import pytest

from formwright.drawing.dates import MOST_TIMES, dates_axis


@pytest.mark.parametrize(
    ("times", "told"),
    [
        (pd.date_range("2011-12-29", periods=72, freq="h").strftime("%Y-%m-%d %H:%M"), ["30 Dec", "31 Dec"]),
        (pd.date_range("2011-11-10", periods=60, freq="D").strftime("%Y-%m-%d"), ["Dec 2011", "Jan 2012"]),
        (pd.date_range("2010-03-01", periods=36, freq="MS").strftime("%Y-%m-%d"), ["2011", "2012", "2013"]),
        (
            pd.date_range("2011-12-29 03:00", periods=4, freq="h").strftime("%Y-%m-%d %H:%M"),
            ["04:00", "05:00", "06:00"],
        ),
        (["7", "8", "9"], ["7", "8", "9"]),
    ],
)
def test_times_are_told_where_a_larger_unit_begins(times, told):
    assert [tick.text for tick in dates_axis("time", list(times)).ticks] == told


def test_no_more_times_are_told_than_there_is_room_for():
    for count in (1, 2, 5, 30, 100, 1000):
        days = list(pd.date_range("2011-11-10", periods=count, freq="D").strftime("%Y-%m-%d"))
        ticks = dates_axis("time", days).ticks
        assert len(ticks) <= MOST_TIMES
        assert all(0 <= tick.at <= 100 for tick in ticks)

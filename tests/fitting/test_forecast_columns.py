"""Forecasts by column: errors in its unit, and columns that a model does not use."""

from __future__ import annotations

import numpy as np

from formwright.data.calendar import clock_frequency
from formwright.data.series import ColumnRoles, Series, arrange
from formwright.data.series_batches import Windows
from formwright.fitting.forecast_columns import errors_by_column, ignored_columns, told_ignored

LAYOUT = ColumnRoles(("load",), ("noise",), ("price", "rain"))


def test_columns_that_change_no_answer_are_named():
    times = np.datetime64("2024-01-01", "ns") + np.arange(200) * np.timedelta64(1, "h")
    values = np.random.default_rng(0).normal(size=(200, 4))
    data = arrange((Series("", times, values),), LAYOUT, clock_frequency(3_600_000_000_000), horizon=4, length=8)
    windows = Windows(data, "val")
    ignored = ignored_columns(lambda inputs: inputs[:, :4, [0]].numpy() + inputs[:, -4:, [2]].numpy(), windows, LAYOUT)
    assert ignored == ["noise", "rain"]
    ahead, past = told_ignored(ignored, LAYOUT)
    assert ahead.startswith("What is shipped does not use column 'rain', known ahead")
    assert past.startswith("What is shipped does not use column 'noise', known up to now")
    assert told_ignored([], LAYOUT) == []


def test_errors_are_in_the_unit_of_each_column():
    actual = np.array([[[10.0, 1.0], [20.0, np.nan]]])
    found = errors_by_column(
        ("cars", "tons"), actual, actual + np.array([3.0, 0.5]), actual - 6.0, np.array([[2.0, 0.0]])
    )
    assert found[0] == {"name": "cars", "mae": 3.0, "mase": 1.5, "rival_mae": 6.0, "rival_mase": 3.0}
    assert found[1]["mae"] == 0.5
    assert np.isnan(found[1]["mase"])  # its last season repeats itself

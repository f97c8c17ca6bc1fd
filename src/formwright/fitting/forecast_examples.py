"""Pictures of forecasts: the latest window of a few series, with what came true and the best of the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formwright.data.series import SeriesData
from formwright.fitting.forecast_figures import Measuring
from formwright.inference.intervals import Intervals

Values = NDArray[np.floating]
#: A forecaster by name: its figures and its forecasts of the test windows.
Rival = tuple[str, tuple[dict[str, float], Values]]

#: How many series the report shows forecasts of.
EXAMPLES = 4


def examples(
    measuring: Measuring, answer: tuple[Values, Intervals, Values], best: Rival | None
) -> Iterator[dict[str, Any]]:
    """The latest window of the test part of a few series and columns, in the units of the data.

    Args:
        answer: the forecasts of the test windows, the intervals, and the spread of each series.
        best: the forecaster to show beside it.
    """
    (forecast, intervals, spreads), content, test = answer, measuring.data, measuring.test
    latest = {int(owner): place for place, owner in enumerate(test.owners)}
    pairs = [(owner, column) for owner in latest for column in range(content.variates)]
    for owner, column in pairs[-EXAMPLES:] if len(latest) == 1 else pairs[:: content.variates][:EXAMPLES]:
        place = np.array([latest[owner]])
        owners = test.owners[place]
        low, high = intervals.around(forecast[place], spreads[owners])
        lines = {
            "past": test.past[place],
            "actual": test.actual[place],
            "forecast": forecast[place],
            "low": measuring.raised(low, owners),
            "high": measuring.raised(high, owners),
            **({} if best is None else {"rival": best[1][1][place]}),
        }
        row = int(test.origins[place[0]])
        yield {
            "series": content.series[owner].name,
            "column": content.layout.targets[column],
            "from": content.frequency.text(content.series[owner].times[row]),
            "times": [content.frequency.text(time) for time in _shown_times(content, owner, row)],
            "rival_name": None if best is None else best[0],
            **{
                name: [_rounded(value) for value in measuring.in_units(values, owners)[0, :, column]]
                for name, values in lines.items()
            },
        }


def _shown_times(content: SeriesData, owner: int, row: int) -> NDArray[Any]:
    """The times of the look-back before a row of a series, and of the horizon from it on."""
    before = content.series[owner].times[max(row - content.length, 0) : row]
    return np.concatenate([before, content.frequency.range(content.series[owner].times[row], content.horizon)])


def _rounded(value: float) -> float | None:
    """Short in the file; none for what is missing."""
    return float(f"{value:.6g}") if np.isfinite(value) else None

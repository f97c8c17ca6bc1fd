"""The next steps of a series, as a forecaster foretells them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
LOW, HIGH = "_low", "_high"


@dataclass(frozen=True)
class Forecast:
    """The next steps of one series.

    Attributes:
        series: its name; empty for the only one of a file.
        times: ``(horizon,)``, as text.
        columns: what is forecast.
        values, low, high: ``(horizon, columns)``, in the units of the file; the interval holds with ``coverage``.
        coverage: how often the interval is to hold.
        time_column, series_column: what the file calls its times and names.
    """

    series: str
    times: list[str]
    columns: tuple[str, ...]
    values: Values
    low: Values
    high: Values
    coverage: float
    time_column: str
    series_column: str | None

    def to_json(self) -> dict[str, Any]:
        record = dataclasses.asdict(self)
        return {**record, **{name: getattr(self, name).tolist() for name in ("values", "low", "high")}}

    def rows(self) -> list[dict[str, str]]:
        """A row of a table for each step: text by column, intervals as ``<column>_low`` and ``<column>_high``."""
        found = []
        for step, time in enumerate(self.times):
            row = {} if self.series_column is None else {self.series_column: self.series}
            row[self.time_column] = time
            for index, name in enumerate(self.columns):
                row[name] = f"{self.values[step, index]:.7g}"
                row[name + LOW] = f"{self.low[step, index]:.7g}"
                row[name + HIGH] = f"{self.high[step, index]:.7g}"
            found.append(row)
        return found

    def cells(self) -> dict[str, str]:
        """The first and the last step, for a table on the terminal."""
        row = {"series": self.series} if self.series else {}
        row |= {"from": self.times[0], "to": self.times[-1]}
        for index, name in enumerate(self.columns[:6]):
            row[name] = f"{self.values[0, index]:.4g} … {self.values[-1, index]:.4g}"
        return row

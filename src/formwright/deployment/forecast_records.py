"""How forecasts are made, as ``preprocessing.json`` tells it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formwright.data.calendar import Frequency
from formwright.data.times.formats import TimeFormat
from formwright.inference.intervals import Intervals

Values = NDArray[np.float64]


def answer_record(
    intervals: Intervals, spreads: Mapping[str, Values] | None, lowest: Values | None, weights: Mapping[str, float]
) -> dict[str, Any]:
    """The fields of the answer; as earlier versions wrote them where it is the network's with one width for all."""
    if spreads is None:
        return {"half_width": intervals.high.tolist(), "coverage": intervals.coverage}
    return {
        "intervals": {
            "low": intervals.low.tolist(),
            "high": intervals.high.tolist(),
            "coverage": intervals.coverage,
            "forecasts": intervals.forecasts,
        },
        "spreads": {name: one.tolist() for name, one in spreads.items()},
        "lowest": None if lowest is None else [one if np.isfinite(one) else None for one in lowest.tolist()],
        "weights": dict(weights),
    }


def intervals_of(record: Mapping[str, Any]) -> Intervals:
    """Those of a record, or of one of an earlier version: half the width of each step and column, scaled."""
    if "intervals" not in record:
        half = np.asarray(record["half_width"], np.float64)
        return Intervals(-half, half, float(record["coverage"]), np.inf)
    found = record["intervals"]
    low, high = (np.asarray(found[end], np.float64) for end in ("low", "high"))
    return Intervals(low, high, float(found["coverage"]), float(found["forecasts"]))


def spreads_of(record: Mapping[str, Any] | None) -> dict[str, Values] | None:
    return None if record is None else {name: np.asarray(one, np.float64) for name, one in record.items()}


def lowest_of(record: Sequence[float | None] | None) -> Values | None:
    return None if record is None else np.array([-np.inf if one is None else one for one in record])


def told(value: Frequency | TimeFormat, always: Sequence[str] = ()) -> dict[str, Any]:
    """The fields that say something, and those that files have had always."""
    plain = {field.name: field.default for field in dataclasses.fields(value)}
    record = dataclasses.asdict(value)
    return {
        name: list(one) if isinstance(one, tuple) else one
        for name, one in record.items()
        if name in always or one != plain[name]
    }

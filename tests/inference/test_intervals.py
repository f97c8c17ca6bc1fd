"""Intervals hold as often as they say, grow with the steps ahead, and know wide columns from narrow ones."""

from __future__ import annotations

import numpy as np
import pytest

from formwright.errors import UserError
from formwright.inference.intervals import Intervals

HORIZON = 8


def walks(columns, origins, seed=0, horizon=HORIZON):
    """Errors of the last value of random walks, of some origins of each column, whose scales differ tenfold."""
    random = np.random.default_rng(seed)
    sizes = np.repeat(10 ** random.uniform(0, 1, columns), origins)
    errors = np.cumsum(random.normal(size=(columns * origins, horizon)), axis=1) * sizes[:, None]
    starts = np.tile(np.arange(origins) * horizon, columns)
    return errors, np.repeat(np.arange(columns), origins), starts, sizes[::origins]


@pytest.mark.parametrize(("columns", "origins"), [(200, 1), (40, 4), (1, 60)])
def test_they_hold_as_often_as_they_say(columns, origins):
    errors, owners, starts, sizes = walks(columns, origins)
    found, spreads = Intervals.fit(errors, owners, starts, np.ones(columns), coverage=0.9)
    later = walks(columns, 50, seed=1)[0] / np.repeat(walks(columns, 50, seed=1)[3], 50)[:, None]
    later = later * np.repeat(sizes, 50)[:, None]
    low, high = found.around(np.zeros((len(later), HORIZON, 1)), np.repeat(spreads, 50)[:, None])
    held = ((later >= low[..., 0]) & (later <= high[..., 0])).mean()
    assert 0.84 <= held <= 0.97
    assert (np.diff(found.high[:, 0]) > 0).all()
    assert found.sure


def test_the_spread_is_that_of_the_column():
    errors, owners, starts, sizes = walks(50, 6)
    _, spreads = Intervals.fit(errors, owners, starts, np.ones(50), coverage=0.9)
    assert np.corrcoef(np.log(spreads), np.log(sizes))[0, 1] > 0.8
    _, spreads = Intervals.fit(errors, owners, starts, sizes, coverage=0.9)
    assert np.corrcoef(np.log(spreads), np.log(sizes))[0, 1] > 0.9


def test_both_ends_are_found_by_themselves_where_there_are_many():
    errors = np.random.default_rng(0).exponential(size=(100, 1))
    where = np.arange(100), np.zeros(100, np.int64)
    found, _ = Intervals.fit(errors, *where, np.ones(100), coverage=0.8)
    assert found.high[0, 0] > 5 * abs(found.low[0, 0])
    found, _ = Intervals.fit(errors[:20], where[0][:20], where[1][:20], np.ones(20), coverage=0.8)
    assert found.high[0, 0] == -found.low[0, 0]


def test_few_forecasts_make_them_wider_and_less_sure():
    errors, owners, starts, _ = walks(1, 3)
    few, spread = Intervals.fit(errors, owners, starts, np.ones(1), coverage=0.9)
    assert few.forecasts == 3
    assert not few.sure
    widest = np.abs(errors).max(0)
    assert few.high[-1, 0] * spread[0] > widest[-1] * 0.8


def test_missing_errors_count_for_nothing():
    errors, owners, starts, _ = walks(30, 2)
    gaps = np.concatenate([errors, np.full((5, HORIZON), np.nan)])
    more = np.concatenate([owners, np.full(5, 30)]), np.concatenate([starts, np.zeros(5, np.int64)])
    found, spreads = Intervals.fit(gaps, *more, np.ones(31), coverage=0.9)
    assert np.isfinite(found.high).all()
    assert np.isfinite(spreads).all()


def test_what_cannot_be_had_is_refused():
    with pytest.raises(UserError, match="between 0 and 1"):
        Intervals.fit(np.ones((1, 1)), np.zeros(1, int), np.zeros(1, int), np.ones(1), coverage=1.0)
    with pytest.raises(UserError, match="at least one forecast with a true value"):
        Intervals.fit(np.full((1, 1), np.nan), np.zeros(1, int), np.zeros(1, int), np.ones(1), coverage=0.9)

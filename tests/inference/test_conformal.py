"""Conformal intervals: their coverage is what they say, on average over what they were fitted on."""

from __future__ import annotations

import numpy as np
import pytest

from formwright.errors import UserError
from formwright.inference.conformal import ConformalIntervals
from formwright.metrics.forecasting import interval_coverage


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_coverage_is_at_least_the_one_asked_for_and_hardly_more(coverage):
    random = np.random.default_rng(0)
    shares = []
    for _ in range(200):
        errors = random.standard_t(3, (120, 2, 3))
        found = ConformalIntervals.fit(np.zeros((60, 2, 3)), errors[:60], coverage=coverage)
        lower, upper = found.around(np.zeros((60, 2, 3)))
        shares.append(interval_coverage(lower, upper, errors[60:]))
    assert coverage - 0.01 <= np.mean(shares) <= coverage + 1 / 61 + 0.01


def test_the_half_width_is_an_error_of_each_step_and_column():
    actual = np.arange(9.0)[:, None, None] * np.array([1.0, 10.0])
    found = ConformalIntervals.fit(np.zeros((9, 1, 2)), actual, coverage=0.9)
    np.testing.assert_array_equal(found.half_width, [[8.0, 80.0]])
    again = ConformalIntervals.from_dict(found.to_dict())
    np.testing.assert_array_equal(again.half_width, found.half_width)


def test_missing_values_do_not_count():
    actual = np.arange(20.0)[:, None, None].copy()
    actual[10:] = np.nan
    found = ConformalIntervals.fit(np.zeros((20, 1, 1)), actual, coverage=0.8)
    assert found.half_width[0, 0] == 8.0


def test_too_few_windows_are_refused():
    with pytest.raises(UserError, match="at least 9 windows"):
        ConformalIntervals.fit(np.zeros((8, 1, 1)), np.ones((8, 1, 1)), coverage=0.9)
    with pytest.raises(UserError, match="between 0 and 1"):
        ConformalIntervals.fit(np.zeros((8, 1, 1)), np.ones((8, 1, 1)), coverage=1.0)

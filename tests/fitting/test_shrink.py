"""The rules by which a transformation is kept and a form is shipped."""

from __future__ import annotations

import pytest

from formwright.fitting.metric import ACCURACY
from formwright.fitting.records import Variant
from formwright.fitting.shrink import GAIN, choose, pays

TOLERANCE = ACCURACY.tolerance


def variant(name: str = "trained, float32", *, latency=1e-3, size=1000, score=0.9, violations=()) -> Variant:
    precision = "int8" if name.endswith("int8") else "float32"
    return Variant(name, 0, precision, "", latency, latency, latency, size, 10, 10, score, list(violations))


BEFORE = variant()


@pytest.mark.parametrize(
    ("after", "kept", "reason"),
    [
        (variant(latency=0.5e-3), True, "1 ms to 500 µs"),
        (variant(size=400), True, "1 kB to 400 B"),
        (variant(size=400, score=0.9 - 0.9 * TOLERANCE), True, "validation accuracy 90.00% to"),
        (variant(size=400, latency=0.2e-3, score=0.9 - 1.1 * TOLERANCE), False, "the score suffers too much"),
        (variant(latency=1e-3 * (1 - 0.5 * GAIN)), False, "gains too little"),
        (variant(size=400, latency=1.2e-3), False, "slower"),
        (variant(size=400, violations=["latency"]), False, "misses the budget"),
    ],
)
def test_a_transformation_is_kept_if_it_gains_and_the_score_holds(after, kept, reason):
    found, words = pays(BEFORE, after, ACCURACY)
    assert found is kept
    assert reason in words


def test_meeting_the_budget_is_worth_accuracy():
    kept, reason = pays(variant(violations=["size"]), variant(size=400, score=0.7), ACCURACY)
    assert kept
    assert "only so is the budget met" in reason


def test_of_those_that_meet_the_budget_the_most_accurate_is_shipped_and_of_equals_the_fastest():
    variants = [
        variant("trained, float32", score=0.95, violations=["latency"]),
        variant("trained, int8", score=0.92, latency=3e-4),
        variant("pruned, float32", score=0.92 + 0.5 * TOLERANCE, latency=5e-4),
        variant("pruned, int8", score=0.90, latency=1e-4),
    ]
    assert choose(variants, ACCURACY).name == "trained, int8"
    assert [one.chosen for one in variants] == [False, True, False, False]
    reasons = [one.reason for one in variants]
    assert reasons[0] == "misses the budget"
    assert reasons[1].startswith("shipped: the fastest of those")
    assert reasons[2:] == ["as good, and slower", "a worse score"]


def test_of_equally_fast_ones_the_smaller_is_shipped():
    assert (
        choose([variant("trained, float32", size=1000), variant("trained, int8", size=400)], ACCURACY).name
        == "trained, int8"
    )


def test_when_nothing_meets_the_budget_the_nearest_is_shipped_and_says_so():
    variants = [
        variant("trained, float32", score=0.95, violations=["latency", "size"]),
        variant("trained, int8", score=0.90, violations=["latency"]),
    ]
    chosen = choose(variants, ACCURACY)
    assert chosen.name == "trained, int8"
    assert variants[1].chosen
    assert variants[1].reason == "shipped: the best score; nothing meets the whole budget"


def test_choosing_again_changes_nothing():
    variants = [variant("trained, float32"), variant("trained, int8", latency=5e-4)]
    first = choose(variants, ACCURACY)
    assert choose(variants, ACCURACY) == first
    assert sum(one.chosen for one in variants) == 1

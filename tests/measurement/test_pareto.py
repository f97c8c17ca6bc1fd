"""The Pareto front."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from formwright.measurement.pareto import pareto_front


@dataclass(frozen=True)
class Candidate:
    latency: float
    score: float | None


def test_front_of_a_trade_off():
    a, b, c, d = Candidate(1, 0.6), Candidate(2, 0.9), Candidate(3, 0.8), Candidate(0.5, 0.5)
    assert pareto_front([a, b, c, d], minimise=["latency"], maximise=["score"]) == [a, b, d]


def test_agrees_with_the_definition_on_random_points():
    import random

    rng = random.Random(0)
    points = [{"x": rng.randrange(6), "y": rng.randrange(6), "z": rng.randrange(6)} for _ in range(60)]
    front = pareto_front(points, minimise=["x", "z"], maximise=["y"])
    for point in points:
        beaten = any(
            q["x"] <= point["x"]
            and q["z"] <= point["z"]
            and q["y"] >= point["y"]
            and (q["x"] < point["x"] or q["z"] < point["z"] or q["y"] > point["y"])
            for q in points
        )
        assert (point in front) != beaten


def test_equal_points_stay_together_and_unknown_values_are_left_out():
    twins = [Candidate(1, 0.5), Candidate(1, 0.5)]
    unknown = [Candidate(0, None), Candidate(0, float("nan"))]
    assert pareto_front([*twins, *unknown], minimise=["latency"], maximise=["score"]) == twins
    assert pareto_front([], minimise=["latency"]) == []


def test_needs_a_direction():
    with pytest.raises(ValueError, match="minimise"):
        pareto_front([Candidate(1, 1)])

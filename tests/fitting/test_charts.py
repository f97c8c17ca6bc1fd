"""Scales, ticks, fronts and labels of the report's charts."""

from __future__ import annotations

import itertools

import pytest

from formwright.fitting.charts import (
    MOST_TICKS,
    NARROW_HEIGHT,
    NARROW_WIDTH,
    Mark,
    Point,
    accuracy_axis,
    log_axis,
    pareto_chart,
    place_labels,
    time_axis,
)
from formwright.fitting.metric import ACCURACY, percent


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.8412, "84.1 %"), (1.0, "100.0 %"), (0.9997, "99.97 %"), (0.0, "0.0 %"), (0.99996, "99.996 %")],
)
def test_percent_never_rounds_an_error_away(share, text):
    assert percent(share).replace("\N{NO-BREAK SPACE}", " ") == text


@pytest.mark.parametrize("make", [log_axis, time_axis])
@pytest.mark.parametrize("values", [[1e-4, 3e-4], [0.5], [2.0, 2.0], [1, 9], [1e-3, 5.0], [1, 1e9], [0.97, 0.98, 0.99]])
def test_values_and_a_few_round_ticks_lie_on_the_scale(make, values):
    axis = make("cost", values, lambda value: f"{value:.6g}")
    assert all(0 <= axis.at(value) <= 100 for value in values)
    assert 1 <= len(axis.ticks) <= MOST_TICKS + 1
    assert all(-1e-6 <= tick.at <= 100 + 1e-6 for tick in axis.ticks)
    for tick in axis.ticks:
        assert axis.at(float(tick.text)) == pytest.approx(tick.at, abs=0.1)
    assert all(before.at < after.at for before, after in itertools.pairwise(axis.ticks))


def test_logarithm_puts_equal_ratios_equally_far_apart():
    axis = log_axis("cost", [1, 100], str)
    assert axis.at(10) == pytest.approx((axis.at(1) + axis.at(100)) / 2)


@pytest.mark.parametrize("values", [[0.1, 0.84], [0.1, 0.99, 1.0], [1.0], [0.0], [0.986, 0.988], [0.0, 0.95]])
def test_accuracies_stay_on_the_scale_and_in_order(values):
    axis = accuracy_axis("accuracy", values, 360)
    places = [axis.at(value) for value in values]
    assert places == sorted(places)
    assert all(0 <= place <= 100 for place in places)
    assert axis.ticks
    assert all(0 <= float(tick.text.rstrip(" %\N{NO-BREAK SPACE}")) <= 100 for tick in axis.ticks)


def test_high_accuracies_are_told_apart_by_their_errors():
    axis = accuracy_axis("accuracy", [0.6, 0.99], 1000)
    assert axis.stretched
    assert axis.at(0.98) - axis.at(0.96) == pytest.approx(axis.at(0.8) - axis.at(0.6), abs=0.1)
    assert not accuracy_axis("accuracy", [0.6, 0.8], 1000).stretched


def test_front_steps_over_what_nothing_beats():
    points = [
        Point(1.0, 0.5, "trial", "cheap", ""),
        Point(2.0, 0.8, "trial", "better", ""),
        Point(3.0, 0.7, "trial", "beaten", ""),
        Point(0.5, 0.85, "trial eager", "another clock", "", comparable=False),
    ]
    chart = pareto_chart(points, "cost", str, metric=ACCURACY, limit=4.0, samples=100)
    assert chart is not None
    (front,) = chart.lines
    cheap, better = chart.marks[:2]
    assert front.path == f"M{cheap.x} 100H{cheap.x}V{cheap.y}H{better.x}V{better.y}H100"
    assert chart.limit is not None
    assert chart.limit.at > chart.marks[2].x
    assert len(chart.marks) == 4


def test_no_chart_without_points():
    assert pareto_chart([], "cost", str, metric=ACCURACY, limit=1.0, samples=100) is None
    assert (
        pareto_chart([Point(0.0, 0.5, "trial", "", "")], "cost", str, metric=ACCURACY, limit=None, samples=100) is None
    )


def test_labels_neither_cover_each_other_nor_leave_the_chart():
    crowd = [Mark(50 + index, 50, "trial", "", f"#{index}") for index in range(12)]
    edges = [Mark(100, 0, "trial", "", "#100"), Mark(0, 100, "trial", "", "#101")]
    place_labels([*crowd, *edges])
    shown = [mark for mark in crowd if mark.label]
    assert crowd[0].label == "#0"
    assert 1 < len(shown) < len(crowd)
    spots = [(mark.x / 100 * NARROW_WIDTH + mark.dx, mark.y / 100 * NARROW_HEIGHT + mark.dy) for mark in shown]
    assert len(set(spots)) == len(spots)
    assert edges[0].anchor == "end"
    assert edges[1].anchor == "start"

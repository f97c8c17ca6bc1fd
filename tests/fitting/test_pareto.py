"""The Pareto picture of the report, and how its figures are written."""

from __future__ import annotations

import pytest

from formwright.fitting.metric import ACCURACY, percent
from formwright.fitting.pareto import ParetoPoint, pareto_chart


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.8412, "84.1 %"), (1.0, "100.0 %"), (0.9997, "99.97 %"), (0.0, "0.0 %"), (0.99996, "99.996 %")],
)
def test_percent_never_rounds_an_error_away(share, text):
    assert percent(share).replace("\N{NO-BREAK SPACE}", " ") == text


def test_front_steps_over_what_nothing_beats():
    points = [
        ParetoPoint(1.0, 0.5, "trial", "cheap", ""),
        ParetoPoint(2.0, 0.8, "trial", "better", ""),
        ParetoPoint(3.0, 0.7, "trial", "beaten", ""),
        ParetoPoint(0.5, 0.85, "trial eager", "another clock", "", comparable=False),
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
        pareto_chart([ParetoPoint(0.0, 0.5, "trial", "", "")], "cost", str, metric=ACCURACY, limit=None, samples=100)
        is None
    )

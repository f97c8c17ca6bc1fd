"""Where things stand in the charts of the report, in percent of the plotting area.

The templates draw them as SVG whose places are percentages and whose letters keep their size, so that one drawing
serves a telephone, a wide screen and paper, and none of it needs a script.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from formwright.fitting.metric import Metric
from formwright.measurement.pareto import pareto_front
from formwright.ticks import round_numbers, round_ratios

Show = Callable[[float], str]

MARGIN = 0.06  # of the range, on both sides of the values
MOST_TICKS = 6  # as many as a narrow screen has room for
STRETCH_FROM = 0.9  # accuracies above this are told apart by their errors
WIDE_RANGE = 20.0  # largest over smallest from which a logarithm shows more than a plain scale

# The plotting area of a narrow screen, in pixels: labels that do not collide there collide nowhere.
NARROW_WIDTH, NARROW_HEIGHT = 290, 300
LETTER, LINE, MARK = 6.5, 13, 6


@dataclass(frozen=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True)
class Axis:
    """A scale from values to percent: ``at(v) = 100 * (transform(v) - low) / (high - low)``.

    ``stretched`` says that accuracies near 100 % are further apart than others.
    """

    label: str
    transform: Callable[[float], float]
    low: float
    high: float
    ticks: tuple[Tick, ...]
    stretched: bool = False

    def at(self, value: float) -> float:
        return round(100 * (self.transform(value) - self.low) / (self.high - self.low), 2)


@dataclass
class Mark:
    """One point: ``x`` from the left and ``y`` from the top; ``kind`` is the shape and colour in the style sheet."""

    x: float
    y: float
    kind: str
    title: str
    label: str = ""
    dx: float = MARK + 4
    dy: float = 4
    anchor: str = "start"


@dataclass(frozen=True)
class Line:
    path: str
    kind: str
    title: str = ""


@dataclass
class Chart:
    x: Axis
    y: Axis
    marks: list[Mark] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    limit: Tick | None = None


@dataclass(frozen=True)
class Point:
    """What a Pareto picture shows of a model; ``comparable`` is false where the cost was measured in another way."""

    cost: float
    score: float
    kind: str
    title: str
    label: str
    comparable: bool = True


def _plain_percent(share: float) -> str:
    return f"{100 * share:.5g}\N{NO-BREAK SPACE}%"


def _span(values: Iterable[float], least: float) -> tuple[float, float]:
    """The range of ``values`` with a margin, at least ``least`` wide."""
    values = list(values)
    low, high = min(values), max(values)
    spare = max((least - (high - low)) / 2, MARGIN * (high - low))
    return low - spare, high + spare


def _axis(
    label: str, show: Show, transform: Callable[[float], float], low: float, high: float, at: list[float]
) -> Axis:
    bare = Axis(label, transform, low, high, ())
    return dataclasses.replace(bare, ticks=tuple(Tick(bare.at(value), show(value)) for value in at))


def log_axis(label: str, values: Iterable[float], show: Show) -> Axis:
    """A scale on which equal ratios are equally far apart, over ``values``, which are positive."""
    low, high = _span((math.log10(value) for value in values), 0.3)
    return _axis(label, show, math.log10, low, high, round_ratios(10**low, 10**high, MOST_TICKS))


def plain_axis(label: str, values: Iterable[float], show: Show) -> Axis:
    """A scale on which equal differences are equally far apart, over ``values``."""
    values = list(values)
    low, high = _span(values, 1e-9 + 1e-3 * abs(values[0]))
    return _axis(label, show, float, low, high, round_numbers(low, high, MOST_TICKS))


def score_axis(metric: Metric, values: Iterable[float], samples: int) -> Axis:
    """Scores with the better ones further up, labelled with the figures that they stand for."""
    values = list(values)
    label = f"validation {metric.name}"
    if metric.share:
        return accuracy_axis(label, values, samples)
    low, high = _span(values, max(0.02 * abs(values[0]), 1e-9))
    return _axis(label, metric.text, float, low, high, round_numbers(low, high, MOST_TICKS))


def accuracy_axis(label: str, values: Iterable[float], samples: int) -> Axis:
    """Shares of right answers; where they are high, equal ratios of *errors* are equally far apart.

    ``samples`` is how many were asked: a perfect score stands where half an error would.
    """
    values = list(values)
    if max(values) < STRETCH_FROM:
        low, high = _span(values, 0.02)
        return _axis(label, _plain_percent, float, low, high, round_numbers(max(low, 0.0), min(high, 1.0), MOST_TICKS))

    def transform(share: float) -> float:
        return -math.log10(max(1 - share, 0.5 / samples))

    low, high = _span(map(transform, values), 0.3)
    at = [1 - error for error in round_ratios(10**-high, 10**-low, MOST_TICKS) if error <= 1]
    return dataclasses.replace(_axis(label, _plain_percent, transform, low, high, at), stretched=True)


def time_axis(label: str, values: Sequence[float], show: Show) -> Axis:
    """Positive values from zero on, or by ratios if they are very unlike."""
    if max(values) > WIDE_RANGE * min(values):
        return log_axis(label, values, show)
    low, high = _span([0.0, *values], 0.0)
    return _axis(
        label, lambda value: show(value) if value else "0", float, low, high, round_numbers(low, high, MOST_TICKS)
    )


def pareto_chart(
    points: Sequence[Point], label: str, show: Show, *, metric: Metric, limit: float | None, samples: int
) -> Chart | None:
    """Score against cost with the front of what nothing else beats, or none if nothing was measured."""
    points = [point for point in points if point.cost > 0]
    if not points:
        return None
    costs = [point.cost for point in points]
    chart = Chart(
        log_axis(label, costs if limit is None else [*costs, limit], show),
        score_axis(metric, [point.score for point in points], samples),
    )
    front = pareto_front([point for point in points if point.comparable], minimise=["cost"], maximise=["score"])
    if front:
        corners = sorted((chart.x.at(point.cost), round(100 - chart.y.at(point.score), 2)) for point in front)
        path = f"M{corners[0][0]} 100" + "".join(f"H{x}V{y}" for x, y in corners) + "H100"
        chart.lines.append(Line(path, "front"))
    chart.marks = [
        Mark(chart.x.at(p.cost), round(100 - chart.y.at(p.score), 2), p.kind, p.title, p.label) for p in points
    ]
    if limit is not None:
        chart.limit = Tick(chart.x.at(limit), show(limit))
    place_labels(chart.marks)
    return chart


def place_labels(marks: Sequence[Mark]) -> None:
    """Put each label beside its mark where it covers nothing; a label that finds no room is left out.

    Earlier marks choose first; the first label of all always stays.
    """
    taken = [_box(mark, 0, 0, 0, "middle") for mark in marks]
    for index, mark in enumerate(marks):
        if not mark.label:
            continue
        for dx, dy, anchor in (
            (MARK + 4, 4, "start"),
            (-MARK - 4, 4, "end"),
            (0, -MARK - 5, "middle"),
            (0, MARK + 14, "middle"),
            (MARK + 2, -MARK - 3, "start"),
            (MARK + 2, MARK + 11, "start"),
            (-MARK - 2, -MARK - 3, "end"),
            (-MARK - 2, MARK + 11, "end"),
            (0, MARK + 26, "middle"),
        ):
            box = _box(mark, len(mark.label) * LETTER, dx, dy, anchor)
            inside = box[0] >= 0 and box[2] <= NARROW_WIDTH and box[1] >= 0 and box[3] <= NARROW_HEIGHT
            if inside and not any(_overlap(box, other) for place, other in enumerate(taken) if place != index):
                mark.dx, mark.dy, mark.anchor = dx, dy, anchor
                taken.append(box)
                break
        else:
            mark.label = mark.label if index == 0 else ""


Box = tuple[float, float, float, float]


def _box(mark: Mark, width: float, dx: float, dy: float, anchor: str) -> Box:
    """Left, top, right and bottom in pixels of a label, or of the mark itself for a label without letters."""
    x, y = mark.x / 100 * NARROW_WIDTH + dx, mark.y / 100 * NARROW_HEIGHT + dy
    if not width:
        return x - MARK, y - MARK, x + MARK, y + MARK
    left = x - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]
    return left, y - LINE + 3, left + width, y + 3


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def polyline(axes: Chart, points: Sequence[tuple[float, float]]) -> str:
    """The path through points given in the units of the axes."""
    return "M" + "L".join(f"{axes.x.at(x)} {round(100 - axes.y.at(y), 2)}" for x, y in points)

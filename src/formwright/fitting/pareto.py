"""The Pareto picture of what was tried: score against cost, with the front of what nothing else beats."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from formwright.drawing import Chart, Line, Mark, Scale, Tick, accuracy_axis, log_axis, place_labels, plain_axis
from formwright.fitting.metric import Metric
from formwright.measurement.pareto import pareto_front


@dataclass(frozen=True)
class ParetoPoint:
    """What a Pareto picture shows of a model; ``comparable`` is false where the cost was measured in another way."""

    cost: float
    score: float
    kind: str
    title: str
    label: str
    comparable: bool = True


def score_axis(metric: Metric, values: Iterable[float], samples: int) -> Scale:
    """Scores with the better ones further up, labelled with the figures that they stand for."""
    values = list(values)
    label = f"validation {metric.name}"
    if metric.share:
        return accuracy_axis(label, values, samples)
    return plain_axis(label, values, metric.text, least=0.02)


def pareto_chart(
    points: Sequence[ParetoPoint],
    label: str,
    show: Callable[[float], str],
    *,
    metric: Metric,
    limit: float | None,
    samples: int,
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
        corners = sorted(chart.spot(point.cost, point.score) for point in front)
        path = f"M{corners[0][0]} 100" + "".join(f"H{x}V{y}" for x, y in corners) + "H100"
        chart.lines.append(Line(path, "front"))
    chart.marks = [Mark(*chart.spot(p.cost, p.score), p.kind, p.title, p.label) for p in points]
    if limit is not None:
        chart.limit = Tick(chart.x.at(limit), show(limit))
    place_labels(chart.marks)
    return chart

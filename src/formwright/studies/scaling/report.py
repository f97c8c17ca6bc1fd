"""The laws of a study as a page of pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from formwright.drawing import Chart, log_axis, page_environment, short
from formwright.files import write_atomically
from formwright.studies.scaling.run import ScalingResult

AXES = {
    "parameters": "parameters without embedding and head",
    "points": "points of the training series",
    "compute": "operations of the training",
}
LOSS = "mean absolute error"


def write_scaling_report(result: ScalingResult, path: str | Path) -> None:
    """Write a self-contained HTML page: each set's loss over size, data and compute, with lines and their bands."""
    template = page_environment("formwright.studies.scaling").get_template("scaling.html.j2")
    html = template.render(
        result=result,
        charts={name: _charts(result, name) for name in result.sets},
        runs=sum(point.final for point in result.points),
        steps=max(point.steps for point in result.points),
        laws=[_exponents(law) for law in result.laws()],
    )
    write_atomically(Path(path), html)


def _charts(result: ScalingResult, name: str) -> dict[str, Chart]:
    """One picture for every axis along which there is something to see, by the axis."""
    charts = {}
    kinds = sorted({point.kind for point in result.points}, reverse=True)
    for axis, label in AXES.items():
        values = {kind: result.values(kind, axis, name) for kind in kinds}
        values = {kind: (x, y) for kind, (x, y) in values.items() if len(np.unique(x)) > 1}
        if not values:
            continue
        chart = Chart(
            log_axis(label, np.concatenate([x for x, _ in values.values()]).tolist(), short),
            log_axis(LOSS, np.concatenate([y for _, y in values.values()]).tolist(), short),
        )
        for series, (kind, (x, y)) in enumerate(values.items()):
            law = result.law(kind, axis, name)
            along = np.geomspace(x.min(), x.max(), 40)
            chart.line(along.tolist(), law(along).tolist(), series)
            if law.points > 2:
                low, high = law.band(along)
                chart.band(along.tolist(), low.tolist(), high.tolist(), series)
            titles = [f"{kind}: {short(a)}, {b:.4f}" for a, b in zip(x, y, strict=True)]
            chart.points(x.tolist(), y.tolist(), series, titles)
            chart.name(series, f"{kind}, alpha {law.alpha:.3f}")
        charts[axis] = chart
    return charts


def _exponents(law: Mapping[str, Any]) -> tuple[str, ...]:
    """A row of the table: which law, and its figures."""
    return (
        f"{law['kind']}, {law['axis']}, {law['set']}",
        f"{law['alpha']:.4f}",
        "" if math.isnan(law["alpha_error"]) else f"{law['alpha_error']:.4f}",
        f"{law['r2']:.3f}",
        str(law["points"]),
    )

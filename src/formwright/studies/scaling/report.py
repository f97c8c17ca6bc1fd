"""The laws of a study as a page of pictures."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from formwright.drawing import COLOURS, Plot, Scale, page, short, table
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
    sections = [("What was measured", _explanation(result))]
    sections += [(name, "".join(plot.svg() for plot in _plots(result, name))) for name in result.sets]
    sections.append(("Exponents", _exponents(result)))
    write_atomically(Path(path), page(f"Scaling laws: {result.corpus}", sections))


def _plots(result: ScalingResult, name: str) -> list[Plot]:
    """One picture for every axis along which there is something to see."""
    plots = []
    kinds = sorted({point.kind for point in result.points}, reverse=True)
    for axis, label in AXES.items():
        values = {kind: result.values(kind, axis, name) for kind in kinds}
        values = {kind: (x, y) for kind, (x, y) in values.items() if len(np.unique(x)) > 1}
        if not values:
            continue
        x_scale = Scale.over(np.concatenate([x for x, _ in values.values()]).tolist(), logarithmic=True)
        y_scale = Scale.over(np.concatenate([y for _, y in values.values()]).tolist(), logarithmic=True, margin=0.15)
        plot = Plot(f"{LOSS} over {axis}", label, LOSS, x_scale, y_scale)
        for (kind, (x, y)), colour in zip(values.items(), COLOURS, strict=False):
            law = result.law(kind, axis, name)
            along = np.geomspace(x.min(), x.max(), 40)
            if law.points > 2:
                low, high = law.band(along)
                plot.band(along.tolist(), low.tolist(), high.tolist(), colour)
            plot.line(along.tolist(), law(along).tolist(), colour)
            plot.points(
                x.tolist(), y.tolist(), colour, [f"{kind}: {short(a)}, {b:.4f}" for a, b in zip(x, y, strict=True)]
            )
            plot.name(colour, f"{kind}, alpha {law.alpha:.3f}")
        plots.append(plot)
    return plots


def _explanation(result: ScalingResult) -> str:
    runs = sum(point.final for point in result.points)
    steps = max(point.steps for point in result.points)
    return (
        f"<p>{runs} models were trained for {steps:,} steps each. The loss is the mean absolute error of the last "
        "patch of a window, given those before it, over the standard deviation of what lies before. Lines are least "
        "squares between logarithms, loss = (x0 / x)^alpha; the shades are their 95 % confidence bands. A straight "
        "line over sizes that differ by a factor of a hundred says little about sizes a thousand times larger.</p>"
    )


def _exponents(result: ScalingResult) -> str:
    rows = [
        (
            f"{law['kind']}, {law['axis']}, {law['set']}",
            f"{law['alpha']:.4f}",
            "" if math.isnan(law["alpha_error"]) else f"{law['alpha_error']:.4f}",
            f"{law['r2']:.3f}",
            str(law["points"]),
        )
        for law in result.laws()
    ]
    return table(("law", "alpha", "standard error", "R²", "points"), rows)

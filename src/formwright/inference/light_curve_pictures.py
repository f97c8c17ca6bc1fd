"""Pictures of light curves and of what a classifier's answer to each rests on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from formwright.data.light_curves import LightCurves
from formwright.drawing import COLOURS, Plot, Scale, heat_strip, page, table
from formwright.errors import UserError
from formwright.files import write_atomically
from formwright.inference.explanation import attention_maps, class_activation
from formwright.metrics.classification import softmax
from formwright.models import Chain

Floats = NDArray[np.float64]


def light_curve_plot(curves: LightCurves, index: int, grid: Floats | None = None) -> Plot:
    """What was seen of one object, a colour a band, with the regular curves ``(steps, bands)`` if given."""
    start, end = curves.starts[index : index + 2]
    times = curves.times[start:end] - curves.times[start]
    flux, error, band = curves.flux[start:end], curves.error[start:end], curves.band[start:end]
    drawn = flux if grid is None else np.concatenate([flux, grid.ravel()])
    plot = Plot(
        f"{curves.objects[index]}", "days since the first observation", "flux", Scale.over(times.tolist()),
        Scale.over(drawn.tolist()),
    )  # fmt: skip
    for number, (name, colour) in enumerate(zip(curves.bands, COLOURS, strict=False)):
        here = band == number
        plot.errors(times[here].tolist(), flux[here].tolist(), error[here].tolist(), colour)
        plot.points(times[here].tolist(), flux[here].tolist(), colour)
        if grid is not None:
            steps = np.linspace(0, times[-1], len(grid))
            plot.line(steps.tolist(), grid[:, number].tolist(), colour)
        plot.name(colour, name)
    return plot


def write_explanations(
    model: Chain,
    curves: LightCurves,
    grid: Floats,
    inputs: Floats,
    path: str | Path,
    *,
    classes: Sequence[str],
    first: int = 8,
) -> None:
    """Write a self-contained HTML page about the ``first`` objects.

    For each: what was seen and what lies on the grid, the probabilities, what each step adds to the score of each class
    (less its mean over the classes), and how much more attention each step gets than the average one.

    Args:
        model: a classifier of series whose scores are means over time, such as t2.
        curves: what was seen.
        grid: its fluxes on the grid, ``(n, steps, bands)``.
        inputs: what the model takes, ``(n, steps, channels)``: the grid, scaled, and features.
        path: the file to write.
        classes: names of the classes.
        first: how many objects.

    Raises:
        UserError: the numbers of objects or classes differ, or the model's scores are no means over time.
    """
    if not len(curves) == len(grid) == len(inputs) or len(classes) != model.specification.classes:
        raise UserError(
            f"{len(curves)} light curves, {len(grid)} grids and {len(inputs)} inputs came, and {len(classes)} names "
            f"for {model.specification.classes} classes; as many of each are expected."
        )
    x = torch.from_numpy(inputs[:first]).float()
    with torch.inference_mode():
        likely = softmax(model.eval()(x).numpy())
    scores = class_activation(model, x)
    activation = (scores - scores.mean(1, keepdim=True)).numpy()
    received = [layer.mean((1, 2)).numpy() - 1 / x.shape[1] for layer in attention_maps(model, x)]
    sections = []
    for index in range(len(x)):
        order = np.argsort(-likely[index])
        shown = [classes[number] for number in order]
        truth = "" if curves.labels is None else f", truly {curves.classes[curves.labels[index]]}"
        parts = [
            light_curve_plot(curves, index, grid[index]).svg(),
            heat_strip(
                [activation[index, number].tolist() for number in order], shown, "What each step says for each class"
            ),
            heat_strip(
                [layer[index].tolist() for layer in received],
                [f"block {number}" for number in range(1, len(received) + 1)],
                "More and less attention than the average step gets",
            ),
            table(("class", "probability"), [(classes[n], f"{likely[index, n]:.1%}") for n in order]),
        ]
        sections.append((f"{curves.objects[index]}: {shown[0]} ({likely[index, order[0]]:.0%}){truth}", "".join(parts)))
    write_atomically(Path(path), page("What the answers rest on", sections))

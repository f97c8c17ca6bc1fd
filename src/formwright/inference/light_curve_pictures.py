"""Pictures of light curves and of what a classifier's answer to each rests on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from formwright.data.light_curves import LightCurves
from formwright.drawing import Chart, heat_strip, page_environment, plain_axis, short
from formwright.errors import UserError
from formwright.files import write_atomically
from formwright.inference.explanation import attention_maps, class_activation
from formwright.metrics.classification import softmax
from formwright.models import Chain

Floats = NDArray[np.float64]


def light_curve_chart(curves: LightCurves, index: int, grid: Floats | None = None) -> Chart:
    """What was seen of one object, a colour per band, with the regular curves ``(steps, bands)`` if given."""
    start, end = curves.starts[index : index + 2]
    times = curves.times[start:end] - curves.times[start]
    flux, error, band = curves.flux[start:end], curves.error[start:end], curves.band[start:end]
    drawn = flux if grid is None else np.concatenate([flux, grid.ravel()])
    chart = Chart(
        plain_axis("days since the first observation", times.tolist(), short), plain_axis("flux", drawn.tolist(), short)
    )
    for number, name in enumerate(curves.bands):
        here = band == number
        chart.points(times[here].tolist(), flux[here].tolist(), number)
        if grid is not None:
            steps = np.linspace(0, times[-1], len(grid))
            chart.line(steps.tolist(), grid[:, number].tolist(), number)
        chart.errors(times[here].tolist(), flux[here].tolist(), error[here].tolist(), number)
        chart.name(number, name)
    return chart


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
    objects = []
    for index in range(len(x)):
        order = np.argsort(-likely[index])
        shown = [classes[number] for number in order]
        objects.append(
            {
                "name": curves.objects[index],
                "truth": None if curves.labels is None else curves.classes[curves.labels[index]],
                "likely": [(classes[number], f"{likely[index, number]:.1%}") for number in order],
                "chart": light_curve_chart(curves, index, grid[index]),
                "strips": (
                    heat_strip(
                        [activation[index, number].tolist() for number in order],
                        shown,
                        "What each step says for each class",
                    ),
                    heat_strip(
                        [layer[index].tolist() for layer in received],
                        [f"block {number}" for number in range(1, len(received) + 1)],
                        "More and less attention than the average step gets",
                    ),
                ),
            }
        )
    template = page_environment("formwright.inference").get_template("light_curves.html.j2")
    write_atomically(Path(path), template.render(objects=objects))

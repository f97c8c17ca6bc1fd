"""The report of a forecaster: figures beside the baselines, forecasts with intervals, what is left of the errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from formwright.drawing import Chart, Line, Mark, plain_axis, polyline
from formwright.drawing.axes import Tick
from formwright.drawing.dates import dates_axis
from formwright.fitting.goal import Page
from formwright.fitting.metric import percent
from formwright.fitting.records import FitResult

#: Steps of the past that a picture shows, in horizons, and the lines of the steps after it.
PAST_HORIZONS = 2
LINES = ("actual", "forecast", "low", "high", "rival")
FIGURES = {
    "mase": ("MASE", "absolute error over that of repeating the last season within the training part"),
    "smape": ("sMAPE", "absolute error over the mean of forecast and truth, 0 to 200 %"),
    "coverage": ("coverage", "share of the test values that lie in the interval"),
    "mae": ("scaled mean absolute error", "of values scaled by the training part"),
    "mse": ("scaled mean squared error", "of values scaled by the training part; large errors count most"),
    "quantile_loss": ("scaled quantile loss", "of both ends of the interval and the forecast between"),
}


def _text(key: str, value: float | None) -> str:
    if value is None or not math.isfinite(value):  # MASE, where the last season repeats itself without an error
        return "undefined"
    return percent(value) if key in ("smape", "coverage") else f"{value:.4g}"


def forecast_page(result: FitResult) -> Page:
    """The forecaster's share of the report, from the result alone."""
    test, details = result.test, result.details
    stated = test["stated_coverage"]
    best = min((row for row in details["table"][1:]), key=lambda row: row["mse"], default=None)
    columns = details.get("columns", [])
    off = [(f"off by, {one['name']}", _beside(one, best)) for one in columns]
    figures = [(title, meaning, _text(key, test[key])) for key, (title, meaning) in FIGURES.items() if key in test]
    if len(columns) == 1:
        unit = f"in the unit of {columns[0]['name']!r}"
        figures.insert(0, ("mean absolute error", unit, _text("mae", columns[0]["mae"])))
    return Page(
        answer=_answer(columns, test, best),
        figures=figures,
        told=[*off, ("MASE", _text("mase", test["mase"]))],
        content={
            "columns": [(key, title) for key, (title, _) in FIGURES.items()],
            "rows": [
                (row["name"], [_text(key, row.get(key, float("nan"))) for key in FIGURES]) for row in details["table"]
            ],
            "by_column": columns if len(columns) > 1 else [],
            "rival": None if best is None else best["name"],
            "stated": percent(stated),
            "covered": percent(test["coverage"]),
            "examples": [(_title(example), _forecast_chart(example)) for example in details["examples"]],
            "steps": _steps_chart(details["by_step"]),
            "residuals": _histogram(details["residuals"]),
            "bias": f"{details['residuals']['mean']:+.3g}",
            "spread": f"{details['residuals']['deviation']:.3g}",
            "correlation": details["residuals"]["correlation"],
        },
    )


def _answer(columns: Sequence[Mapping[str, Any]], test: Mapping[str, float], best: Mapping[str, Any] | None) -> str:
    """The error in the unit of the only column, or in seasons where there are several."""
    if len(columns) == 1:
        (one,) = columns
        return f"Off by {_text('mae', one['mae'])} {one['name']} on average" + (
            f" ({best['name']}: {_text('mae', one.get('rival_mae'))})" if best is not None else ""
        )
    told = f"MASE {_text('mase', test['mase'])}"
    return told if best is None else f"{told} ({best['name']}: {_text('mase', best['mase'])})"


def _beside(column: Mapping[str, Any], best: Mapping[str, Any] | None) -> str:
    rival = "" if best is None else f"  ({best['name']}: {_text('mae', column.get('rival_mae'))})"
    return f"{_text('mae', column['mae'])} on average{rival}"


def _title(example: Mapping[str, Any]) -> str:
    where = f" of {example['series']}" if example["series"] else ""
    return f"{example['column']}{where}, from {example['from']} on"


def _forecast_chart(example: Mapping[str, Any]) -> Chart:
    """The past that was read, the truth, the forecast with its interval, and that of the best baseline."""
    horizon = len(example["forecast"])
    times = example.get("times", [])
    begin = min(PAST_HORIZONS * horizon, (len(times) or len(example["past"]) + horizon) - horizon)
    past = example["past"][len(example["past"]) - begin :]
    lines = {name: list(enumerate(example.get(name) or [], start=begin)) for name in LINES}
    lines["past"] = list(enumerate(past))
    known = {name: [(float(x), float(y)) for x, y in points if y is not None] for name, points in lines.items()}
    values = [y for points in known.values() for _, y in points]
    times = times[-begin - horizon :] or [str(step) for step in range(1 - begin, horizon + 1)]
    x = dates_axis(f"{times[0]} to {times[-1]}", times)
    chart = Chart(x, plain_axis(str(example["column"]), values, lambda value: f"{value:,.6g}"))
    chart.future = Tick(x.at(begin - 0.5), "forecast")
    band = polyline(chart, [*known["low"], *reversed(known["high"])]) + "Z"
    chart.lines = [
        Line(polyline(chart, known["forecast"]), "winner", "forecast"),
        *([Line(polyline(chart, known["past"] + known["actual"]), "actual", "truth")] if known["actual"] else []),
        *([Line(polyline(chart, known["rival"]), "rival", example["rival_name"])] if known["rival"] else []),
        Line(band, "band", "interval"),
    ]
    return chart


def _steps_chart(steps: Mapping[str, Sequence[Sequence[float]]]) -> Chart:
    """The error of each step ahead, of the model and of the best baseline."""
    errors = [error for line in steps.values() for _, error in line if error == error]
    places = [float(step) for line in steps.values() for step, _ in line]
    chart = Chart(
        plain_axis("step ahead", places, lambda step: f"{step:g}"),
        plain_axis("root of the mean squared error, scaled", [0.0, *errors], lambda value: f"{value:.3g}"),
    )
    for index, (name, line) in enumerate(steps.items()):
        points = [(float(step), float(error)) for step, error in line if error == error]
        if not points:
            continue
        chart.lines.append(Line(polyline(chart, points), "winner" if index == 0 else "curve", name))
        x, y = points[-1]
        kind = f"end {'winner' if index == 0 else 'curve'}"
        chart.marks.append(Mark(*chart.spot(x, y), kind, f"{name}: {y:.3g} at step {x:g}"))
    return chart


def _histogram(found: Mapping[str, Any]) -> list[tuple[float, float, str]]:
    """Bars of the residuals: place and height in percent, and what they count."""
    counts, edges = found["counts"], found["edges"]
    most = max(counts) or 1
    return [
        (
            100 * index / len(counts),
            100 * count / most,
            f"{count:,} errors from {edges[index]:.2g} to {edges[index + 1]:.2g}",
        )
        for index, count in enumerate(counts)
    ]

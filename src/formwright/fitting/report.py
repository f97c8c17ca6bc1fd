"""``report.html``: what a run was asked, what it found and how, as one file that needs nothing else.

The charts are SVG drawn by the templates and the styles are inline, so the file has no script and, by its own content
security policy, may not fetch anything. (Plotly's script alone would add 4.8 MB of code that can.)
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from formwright.files import write_atomically
from formwright.fitting.charts import (
    Chart,
    Line,
    Mark,
    Point,
    accuracy_axis,
    pareto_chart,
    percent,
    place_labels,
    polyline,
    time_axis,
)
from formwright.fitting.mistakes import confusion, thumbnail
from formwright.fitting.records import FitResult, Trial, Variant
from formwright.measurement.budget import format_bytes, format_count, format_seconds

BUILT_IN = "scikit-learn digits"  # the source that reading gives data which came with a dependency
TIME_TOLERANCE = 1.1  # of the time limit, which a run may overstep by a tenth
REST = 0.01  # of the time: less than that outside the stages is not worth a bar

STAGES = {
    "read": "reading and checking the pictures",
    "shortlist": "building candidates and timing them",
    "race": "training candidates side by side, the weakest stopping early",
    "train": "training the winner to the end",
    "shrink": "making it smaller and faster",
    "ship": "exporting and checking the export",
    "rest": "starting, reading where it is no stage of its own, and writing",
}

SCORES = {
    "accuracy": ("accuracy", "share of pictures whose class is right"),
    "balanced_accuracy": ("balanced accuracy", "the mean over classes, so that rare classes count as much"),
    "macro_f1": ("macro F1", "mean over classes of the balance between finding a class and not crying wolf"),
    "log_loss": ("log loss", "0 is perfect; sure and wrong costs most"),
    "calibration_error": ("calibration error", "how far stated probabilities are from how often they come true"),
}

STATUSES = {
    "finished": "trained to the end",
    "stopped": "stopped early",
    "racing": "training when time ran out",
    "waiting": "never started",
    "dropped": "not trained",
    "failed": "failed",
}


@dataclass(frozen=True)
class Limit:
    """One quantity of the budget: what was asked, what was measured, and how that is said."""

    what: str
    meaning: str
    measured: str
    asked: str
    used: float | None
    verdict: str
    met: bool
    detail: str = ""


@dataclass(frozen=True)
class Bar:
    """A row of a bar chart; ``start``, ``length`` and the interval are percentages."""

    name: str
    value: str
    start: float
    length: float
    note: str = ""
    shipped: bool = False
    interval: tuple[float, float] | None = None


def write_report(result: FitResult, path: Path, *, pictures: Mapping[int, NDArray[np.uint8]]) -> None:
    """Write the report of a run as one self-contained HTML file, whole or not at all.

    ``pictures`` holds the test picture ``(height, width, channels)`` of each mistake by its index; a mistake without
    one is listed without it. The commands in the report name the folder of ``path`` as it was given.

    Raises:
        UserError: the file cannot be written.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("formwright.fitting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "seconds": format_seconds,
        "bytes": format_bytes,
        "count": format_count,
        "percent": percent,
        "whole": lambda number: f"{number:,}",
        "scientific": _scientific,
        "signed": lambda number: f"{number:+.2f}".replace("-", "\N{MINUS SIGN}"),
    }
    folder = str(path.parent)
    shipped = result.shipped
    html = environment.get_template("report.html.j2").render(
        result=result,
        shipped=shipped,
        winner=next((trial for trial in result.trials if trial.number == shipped.trial), None),
        limits=_limits(result),
        rivals=_rivals(result),
        warnings=_warnings(result),
        folder=folder,
        python_folder=repr(folder),
        shell_folder=shlex.quote(folder),
        command=fit_command(result, folder),
        charts=_pareto(result),
        curves=_learning_curves(result),
        candidates=sorted(result.trials, key=lambda trial: (not trial.curve, -trial.score, trial.number)),
        variants=sorted(result.variants, key=lambda variant: (not variant.chosen, -variant.validation_accuracy)),
        statuses=STATUSES,
        summary=_summary(result),
        scores=[(*SCORES[name], result.test[name], name) for name in SCORES if name in result.test],
        confusion=confusion(result),
        mistakes=[(mistake, thumbnail(pictures.get(mistake.index))) for mistake in result.mistakes],
        stages=_stages(result.time),
    )
    # A file name may hold bytes that are no text; they become question marks rather than an error at the very end.
    write_atomically(path, html.encode("utf-8", "replace"))


def fit_command(result: FitResult, folder: str) -> str:
    """The command line that repeats a run into a new folder beside the old one."""
    source = result.data["source"]
    words = ["formwright", "fit", *([] if source == BUILT_IN else [source])]
    if result.task != "image-classification":
        words += ["--task", result.task]
    for name, scales in _UNITS.items():
        limit = result.budget.get(name)
        if limit is not None:
            words += [f"--max-{name}", _exact(limit, scales)]
    return shlex.join([*words, "--seed", str(result.seed), "--out", f"{folder}-again"])


_UNITS: dict[str, tuple[tuple[float, str], ...]] = {
    "latency": ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")),
    "size": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")),
    "macs": ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")),
    "time": ((3600.0, "h"), (60.0, "m"), (1.0, "s")),
}


def _exact(value: float, scales: Sequence[tuple[float, str]]) -> str:
    """A limit with all its digits, as the command line takes it: the form with the fewest letters."""
    forms = [f"{value / scale:.12g}{unit}" for scale, unit in scales]
    return min((form for form in forms if "e" not in form), key=len)


def _scientific(number: float) -> str:
    """``3.8e-06`` as ``3.8 × 10⁻⁶``."""
    digits, _, power = f"{number:.1e}".partition("e")
    raised = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{digits}\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}10{raised}"


def _summary(result: FitResult) -> str:
    """How many candidates there were and what became of them."""
    states = [trial.status for trial in result.trials]
    parts = [f"{states.count(status)} {words}" for status, words in STATUSES.items() if status in states]
    return f"{len(states)} candidate{'s were' if len(states) != 1 else ' was'} considered: {', '.join(parts)}."


def _limits(result: FitResult) -> list[Limit]:
    shipped, budget = result.shipped, result.budget
    spread = f"{format_seconds(shipped.latency_low)} to {format_seconds(shipped.latency_high)} over repeats"
    rows: list[tuple[str, str, float, Callable[[float], str], float | None, str]] = [
        ("Latency", "time for one picture", shipped.latency, format_seconds, budget.get("latency"), spread),
        ("Size", "of the file that is shipped", shipped.size, format_bytes, budget.get("size"), ""),
        ("MACs", "multiplications with addition for one picture", shipped.macs, format_count, budget.get("macs"), ""),
        ("Search time", "of the whole run", _total(result.time), format_seconds, budget.get("time"), ""),
    ]
    limits = []
    for what, meaning, measured, show, limit, detail in rows:
        if limit is None:
            limits.append(Limit(what, meaning, show(measured), "no limit was set", None, "no limit", True, detail))
            continue
        used = measured / limit
        met = used <= (TIME_TOLERANCE if what == "Search time" else 1.0)
        verdict = "within the limit" if used <= 1 else "within a tenth of the limit" if met else "over the limit"
        limits.append(Limit(what, meaning, show(measured), f"at most {show(limit)}", 100 * used, verdict, met, detail))
    return limits


def _warnings(result: FitResult) -> list[str]:
    """What the reader must not miss although the model may meet the budget."""
    warnings = [
        f"A simple competitor is better on the test pictures: {rival.name}, {percent(rival.test_accuracy)}."
        for rival in sorted(result.baselines, key=lambda baseline: -baseline.test_accuracy)[:1]
        if rival.test_accuracy > result.test["accuracy"]
    ]
    limit, total = result.budget.get("time"), _total(result.time)
    if limit is not None and total > TIME_TOLERANCE * limit:
        warnings.append(f"The search took {format_seconds(total)} instead of {format_seconds(limit)}.")
    return warnings


def _rivals(result: FitResult) -> list[Bar]:
    """Test accuracy of what was shipped beside the baselines."""
    test = result.test
    low, high = 100 * test["accuracy_low"], 100 * test["accuracy_high"]
    shipped = Bar(
        "Shipped model", percent(test["accuracy"]), 0, 100 * test["accuracy"], result.model, True, (low, high - low)
    )
    return [
        shipped,
        *(
            Bar(baseline.name, percent(baseline.test_accuracy), 0, 100 * baseline.test_accuracy, baseline.note)
            for baseline in sorted(result.baselines, key=lambda baseline: -baseline.test_accuracy)
        ),
    ]


def _total(times: Mapping[str, float]) -> float:
    """Seconds of the whole run, which may be more than those of its stages."""
    stages = sum(seconds for name, seconds in times.items() if name != "total")
    return max(times.get("total", 0.0), stages)


def _stages(times: Mapping[str, float]) -> list[Bar]:
    """One bar a stage, each beginning where the one before ended; what belongs to no stage comes last."""
    total, start, bars = _total(times), 0.0, []
    stages = {name: seconds for name, seconds in times.items() if name != "total"}
    rest = total - sum(stages.values())
    if rest > REST * total:
        stages["rest"] = rest
    for name, seconds in stages.items():
        length = 100 * seconds / (total or 1.0)
        bars.append(Bar(name, format_seconds(seconds), start, length, STAGES.get(name, "")))
        start += length
    return bars


def _pareto(result: FitResult) -> list[tuple[str, Chart]]:
    """Score against latency and against size: the variants, and candidates as far as they were trained."""
    by_latency = [_variant_point(result, variant, variant.latency, _timed(variant)) for variant in _variants(result)]
    by_size = [
        _variant_point(result, variant, variant.size, format_bytes(variant.size)) for variant in _variants(result)
    ]
    for trial in result.trials:
        if trial.curve:
            in_onnx = trial.onnx_latency is not None
            latency = trial.onnx_latency if trial.onnx_latency is not None else trial.eager_latency
            timed = f"{format_seconds(latency)} in {'ONNX Runtime' if in_onnx else 'PyTorch'}"
            kind = "trial" if in_onnx else "trial eager"
            by_latency.append(_trial_point(trial, latency, timed, kind, comparable=in_onnx))
            by_size.append(_trial_point(trial, trial.size, f"about {format_bytes(trial.size)}", "trial"))
    pictures = max(int(result.data["validation"]), 1)
    charts = [
        (
            "latency",
            pareto_chart(
                by_latency,
                "time for one picture",
                format_seconds,
                limit=result.budget.get("latency"),
                pictures=pictures,
            ),
        ),
        (
            "size",
            pareto_chart(by_size, "size of the file", format_bytes, limit=result.budget.get("size"), pictures=pictures),
        ),
    ]
    return [(name, chart) for name, chart in charts if chart is not None]


def _variants(result: FitResult) -> list[Variant]:
    """The variants, the shipped one first: its label chooses its place first."""
    return sorted(result.variants, key=lambda variant: not variant.chosen)


def _timed(variant: Variant) -> str:
    return f"{format_seconds(variant.latency)} in ONNX Runtime"


def _variant_point(result: FitResult, variant: Variant, cost: float, cost_text: str) -> Point:
    kind = f"variant {variant.precision}" + (" shipped" if variant.chosen else "")
    title = f"{variant.name} of #{variant.trial}: {percent(variant.validation_accuracy)}, {cost_text}"
    return Point(cost, variant.validation_accuracy, kind, title, "shipped" if variant.chosen else "")


def _trial_point(trial: Trial, cost: float, cost_text: str, kind: str, comparable: bool = True) -> Point:
    title = (
        f"#{trial.number} {trial.name}, {STATUSES.get(trial.status, trial.status)}: {percent(trial.score)}, {cost_text}"
    )
    return Point(cost, trial.score, kind, title, f"#{trial.number}", comparable)


def _learning_curves(result: FitResult) -> Chart | None:
    """Validation accuracy of every candidate over the seconds of its own training, the winner last and on top."""
    curves = {
        trial.number: [(point.seconds, point.validation_accuracy) for point in trial.curve if point.seconds > 0]
        for trial in result.trials
    }
    seconds = [x for curve in curves.values() for x, _ in curve]
    if not seconds:
        return None
    scores = [y for curve in curves.values() for _, y in curve]
    chart = Chart(
        time_axis("own training time", seconds, format_seconds),
        accuracy_axis("validation accuracy", scores, max(int(result.data["validation"]), 1)),
    )
    winner = result.shipped.trial
    for trial in sorted(result.trials, key=lambda trial: (trial.number != winner, -trial.score)):
        points = curves[trial.number]
        if points:
            kind = "winner" if trial.number == winner else "curve"
            x, y = points[-1]
            title = f"#{trial.number} {trial.name}: {percent(y)} after {format_seconds(x)}"
            chart.lines.append(Line(polyline(chart, points), kind, title))
            chart.marks.append(
                Mark(chart.x.at(x), round(100 - chart.y.at(y), 2), f"end {kind}", title, f"#{trial.number}")
            )
    place_labels(chart.marks)
    return chart

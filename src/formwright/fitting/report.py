"""``report.html``: what a run was asked, what it found and how, as one file that needs nothing else.

The charts are SVG drawn by the templates and the styles are inline, so the file has no script and, by its own content
security policy, may not fetch anything. (Plotly's script alone would add 4.8 MB of code that can.)
"""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from formwright.drawing import Chart, Line, Mark, place_labels, polyline, time_axis
from formwright.files import write_atomically
from formwright.fitting.metric import Metric
from formwright.fitting.pages import page_environment
from formwright.fitting.pareto import ParetoPoint, pareto_chart, score_axis
from formwright.fitting.records import FitResult, Trial, Variant
from formwright.fitting.shown import Shown
from formwright.fitting.task import TaskType, task_type
from formwright.fitting.verdict import verdict
from formwright.measurement.budget import format_bytes, format_count, format_seconds

BUILT_IN = "scikit-learn digits"  # the source that reading gives data which came with a dependency
TIME_TOLERANCE = 1.1  # of the time limit, which a run may overstep by a tenth
REST = 0.01  # of the time: less than that outside the stages is not worth a bar

STAGES = {
    "read": "reading and checking the data",
    "shortlist": "building candidates and timing them",
    "race": "training candidates side by side, the weakest stopping early",
    "train": "training the winner to the end",
    "shrink": "making it smaller and faster",
    "refit": "learning once more, with what it was chosen by",
    "ship": "exporting and checking the export",
    "rest": "start-up and writing",
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


def write_report(result: FitResult, path: Path, *, attachments: Mapping[int, Shown | None]) -> None:
    """Write the report of a run as one self-contained HTML file, whole or not at all.

    ``attachments`` is what the goal shows of the data by number (:meth:`~formwright.fitting.goal.Goal.attachments`); a
    mistake without its picture is listed without it. The commands in the report name the folder of ``path`` as it was
    given.

    Raises:
        UserError: the file cannot be written.
    """
    folder = str(path.parent)
    shipped = result.shipped
    task = task_type(result.task)
    environment = page_environment(
        "formwright.fitting", folders=[Path(inspect.getfile(task.goal)).parent / "templates"]
    )
    metric = task.metric_of(result.metric)
    environment.filters["score"] = metric.text
    html = environment.get_template("report.html.j2").render(
        result=result,
        shipped=shipped,
        metric=metric,
        words=task.words,
        page=task.goal.page(result, task.data, attachments),
        goal=task.goal,
        asked=task.data.summary(result.data),
        facts=task.data.facts(result.data),
        interval=interval(result, metric),
        verdict=verdict(result, task),
        winner=next((trial for trial in result.trials if trial.number == shipped.trial), None),
        limits=_limits(result, task),
        rivals=_rivals(result, metric),
        warnings=_warnings(result, task),
        folder=folder,
        python_folder=repr(folder),
        shell_folder=shlex.quote(folder),
        python_argument=repr(task.words.argument),
        shell_argument=shlex.quote(task.words.argument),
        command=fit_command(result, folder),
        charts=_pareto(result, task),
        curves=_learning_curves(result, metric),
        candidates=sorted(result.trials, key=lambda trial: (not trial.curve, -trial.score, trial.number)),
        variants=sorted(result.variants, key=lambda variant: (not variant.chosen, -variant.score)),
        statuses=STATUSES,
        summary=_summary(result),
        stages=_stages(result.time),
    )
    # A file name may hold bytes that are no text; they become question marks rather than an error at the very end.
    write_atomically(path, html.encode("utf-8", "replace"))


def fit_command(result: FitResult, folder: str) -> str:
    """The command line that repeats a run into a new folder beside the old one."""
    source = result.data["source"]
    words = ["formwright", "fit", *([] if source == BUILT_IN else [source])]
    if source != BUILT_IN:
        words += ["--task", result.task]
    for name, value in result.data.get("options", {}).items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    for name, scales in _UNITS.items():
        limit = result.budget.get(name)
        if limit is not None:
            words += [f"--max-{name}", _exact(limit, scales)]
    return shlex.join([*words, "--seed", str(result.seed), "--out", f"{folder}-again"])


_UNITS: dict[str, tuple[tuple[float, str], ...]] = {
    "latency": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")),
    "size": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")),
    "macs": ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")),
    "time": ((3600.0, "h"), (60.0, "m"), (1.0, "s")),
}


def _exact(value: float, scales: Sequence[tuple[float, str]]) -> str:
    """A limit with all its digits, as the command line takes it: the form with the fewest letters."""
    forms = [f"{value / scale:.12g}{unit}" for scale, unit in scales]
    return min((form for form in forms if "e" not in form), key=len)


def _summary(result: FitResult) -> str:
    """How many candidates there were and what became of them."""
    states = [trial.status for trial in result.trials]
    parts = [f"{states.count(status)} {words}" for status, words in STATUSES.items() if status in states]
    return f"{len(states)} candidate{'s were' if len(states) != 1 else ' was'} considered: {', '.join(parts)}."


def _limits(result: FitResult, task: TaskType) -> list[Limit]:
    one = f"one {task.words.sample}"
    shipped, budget = result.shipped, result.budget
    spread = f"{format_seconds(shipped.latency_low)} to {format_seconds(shipped.latency_high)} over repeats"
    rows: list[tuple[str, str, float, Callable[[float], str], float | None, str]] = [
        ("Latency", f"time for {one}", shipped.latency, format_seconds, budget.get("latency"), spread),
        ("Size", "of the file that is shipped", shipped.size, format_bytes, budget.get("size"), ""),
        ("MACs", f"multiplications with addition for {one}", shipped.macs, format_count, budget.get("macs"), ""),
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


def _warnings(result: FitResult, task: TaskType) -> list[str]:
    """What the reader must not miss although the model may meet the budget."""
    metric = task.metric_of(result.metric)
    warnings = [
        f"A simple competitor is better on the test {task.words.samples}: {rival.name}, {metric.text(rival.score)}."
        for rival in sorted(result.baselines, key=lambda baseline: -baseline.score)[:1]
        if rival.score > metric.score(result.test[metric.key])
    ]
    limit, total = result.budget.get("time"), _total(result.time)
    if limit is not None and total > TIME_TOLERANCE * limit:
        warnings.append(f"The search took {format_seconds(total)} instead of {format_seconds(limit)}.")
    return warnings


def interval(result: FitResult, metric: Metric) -> tuple[float, float] | None:
    """The 95 % interval of the metric's figure on the test part, where it is known."""
    ends = [result.test.get(f"{metric.key}_{end}") for end in ("low", "high")]
    return None if ends[0] is None or ends[1] is None else (ends[0], ends[1])


def _rivals(result: FitResult, metric: Metric) -> list[Bar]:
    """The metric's figure on the test part, of what was shipped beside the baselines."""
    rivals = sorted(result.baselines, key=lambda baseline: -baseline.score)
    own = result.test[metric.key]
    figures = [metric.figure(rival.score) for rival in rivals]
    full = 1.0 if metric.share else max([own, *figures]) or 1.0
    ends = interval(result, metric)
    whisker = None if ends is None else (100 * ends[0] / full, 100 * (ends[1] - ends[0]) / full)
    return [
        Bar("Shipped model", metric.text(metric.score(own)), 0, 100 * own / full, result.model, True, whisker),
        *(
            Bar(rival.name, metric.text(rival.score), 0, 100 * figure / full, rival.note)
            for rival, figure in zip(rivals, figures, strict=True)
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


def _pareto(result: FitResult, task: TaskType) -> list[tuple[str, Chart]]:
    """Score against latency and against size: the variants, and candidates as far as they were trained."""
    metric = task.metric_of(result.metric)
    by_latency = [_variant_point(metric, variant, variant.latency, _timed(variant)) for variant in _variants(result)]
    by_size = [
        _variant_point(metric, variant, variant.size, format_bytes(variant.size)) for variant in _variants(result)
    ]
    for trial in result.trials:
        if trial.curve:
            in_onnx = trial.onnx_latency is not None
            latency = trial.onnx_latency if trial.onnx_latency is not None else trial.eager_latency
            timed = f"{format_seconds(latency)} in {'ONNX Runtime' if in_onnx else 'PyTorch'}"
            kind = "trial" if in_onnx else "trial eager"
            by_latency.append(_trial_point(metric, trial, latency, timed, kind, comparable=in_onnx))
            by_size.append(_trial_point(metric, trial, trial.size, f"about {format_bytes(trial.size)}", "trial"))
    samples = max(int(result.data["validation"]), 1)
    charts = [
        (
            "latency",
            pareto_chart(
                by_latency,
                f"time for one {task.words.sample}",
                format_seconds,
                limit=result.budget.get("latency"),
                metric=metric,
                samples=samples,
            ),
        ),
        (
            "size",
            pareto_chart(
                by_size,
                "size of the file",
                format_bytes,
                limit=result.budget.get("size"),
                metric=metric,
                samples=samples,
            ),
        ),
    ]
    return [(name, chart) for name, chart in charts if chart is not None]


def _variants(result: FitResult) -> list[Variant]:
    """The variants, the shipped one first: its label chooses its place first."""
    return sorted(result.variants, key=lambda variant: not variant.chosen)


def _timed(variant: Variant) -> str:
    return f"{format_seconds(variant.latency)} in ONNX Runtime"


def _variant_point(metric: Metric, variant: Variant, cost: float, cost_text: str) -> ParetoPoint:
    kind = f"variant {variant.precision}" + (" shipped" if variant.chosen else "")
    title = f"{variant.name} of #{variant.trial}: {metric.text(variant.score)}, {cost_text}"
    return ParetoPoint(cost, variant.score, kind, title, "shipped" if variant.chosen else "")


def _trial_point(
    metric: Metric, trial: Trial, cost: float, cost_text: str, kind: str, comparable: bool = True
) -> ParetoPoint:
    status = STATUSES.get(trial.status, trial.status)
    title = f"#{trial.number} {trial.name}, {status}: {metric.text(trial.score)}, {cost_text}"
    return ParetoPoint(cost, trial.score, kind, title, f"#{trial.number}", comparable)


def _learning_curves(result: FitResult, metric: Metric) -> Chart | None:
    """The validation score of every candidate over the seconds of its own training, the winner last and on top."""
    curves = {
        trial.number: [(point.seconds, point.score) for point in trial.curve if point.seconds > 0]
        for trial in result.trials
    }
    seconds = [x for curve in curves.values() for x, _ in curve]
    if not seconds:
        return None
    scores = [y for curve in curves.values() for _, y in curve]
    chart = Chart(
        time_axis("own training time", seconds, format_seconds),
        score_axis(metric, scores, max(int(result.data["validation"]), 1)),
    )
    winner = result.shipped.trial
    for trial in sorted(result.trials, key=lambda trial: (trial.number != winner, -trial.score)):
        points = curves[trial.number]
        if points:
            kind = "winner" if trial.number == winner else "curve"
            x, y = points[-1]
            title = f"#{trial.number} {trial.name}: {metric.text(y)} after {format_seconds(x)}"
            chart.lines.append(Line(polyline(chart, points), kind, title))
            chart.marks.append(Mark(*chart.spot(x, y), f"end {kind}", title, f"#{trial.number}"))
    place_labels(chart.marks)
    return chart

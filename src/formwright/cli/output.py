"""Tables and progress bars on the terminal."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from formwright.measurement.budget import format_bytes, format_count, format_seconds
from formwright.reporting import SILENT, Reporter

if TYPE_CHECKING:
    from formwright.catalog.claim import ClaimReport
    from formwright.cli.listing import Listed
    from formwright.deployment.preparation import Answer
    from formwright.fitting.records import FitResult
    from formwright.measurement.measurements import Measurement
    from formwright.nn.listing import PartFacts
    from formwright.studies.arena.records import ArenaResult, Speed

#: Columns of tables in files and pipes, which have no width of their own; COLUMNS changes it.
_PIPED = 140

_set = os.environ.get("COLUMNS", "").isdecimal() and int(os.environ["COLUMNS"]) > 0
console = Console(width=None if _set else _PIPED) if _set or not sys.stdout.isatty() else Console()
_messages = Console(stderr=True)


class BarReporter(Reporter):
    """A progress bar a stage, with the time left."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def stage(self, name: str, seconds: float | None = None) -> None:
        self._finish()
        self._task = self._progress.add_task(name, total=1.0, text="")

    def progress(self, done: float, text: str = "") -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=min(done, 1.0), text=escape(text))

    def note(self, text: str) -> None:
        self._progress.console.print(f"  {escape(text)}", style="dim", highlight=False)

    def close(self) -> None:
        self._finish()

    def _finish(self) -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=1.0, text="")
            self._task = None


class LineReporter(Reporter):
    """A line for each stage that is done and for each note: for files and pipes, where a bar cannot move."""

    def __init__(self) -> None:
        self._name = self._text = ""
        self._started = 0.0

    def stage(self, name: str, seconds: float | None = None) -> None:
        self.close()
        self._name, self._started, self._text = name, time.monotonic(), ""

    def progress(self, done: float, text: str = "") -> None:
        self._text = text

    def note(self, text: str) -> None:
        with suppress(BrokenPipeError):  # a run goes on when nobody reads what it says any more
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._name:
            last = f" ({self._text})" if self._text else ""
            self.note(f"{self._name}: {format_seconds(time.monotonic() - self._started)}{last}")
        self._name = ""


class NoteReporter(LineReporter):
    """A line for each note alone."""

    def stage(self, name: str, seconds: float | None = None) -> None:
        pass


@contextmanager
def reporter(*, quiet: bool, notes: bool = False) -> Iterator[Reporter]:
    """A listener that draws on standard error, a silent one, or one that tells ``notes`` alone."""
    if quiet:
        yield SILENT
        return
    if notes:
        yield NoteReporter()
        return
    if not _messages.is_terminal:
        lines = LineReporter()
        yield lines
        lines.close()
        return
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(bar_width=28),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=_messages, refresh_per_second=4) as progress:
        listener = BarReporter(progress)
        try:
            yield listener
        except BaseException:
            progress.live.transient = True  # the error is what is to be read
            raise
        listener.close()


def print_fit(result: FitResult, out: Path) -> None:
    """The answer in a few lines, and where the rest is."""
    from formwright.fitting.report import interval
    from formwright.fitting.task import task_type
    from formwright.fitting.verdict import verdict

    task = task_type(result.task)
    metric = task.metric_of(result.metric)
    ends = interval(result, metric)
    shipped = result.shipped
    met = "meets the budget" if result.budget_met else f"misses the budget: {'; '.join(result.violations)}"
    test = result.test
    console.print(f"[bold]{escape(result.model)}[/bold] {met}", highlight=False)
    for sentence in verdict(result, task):
        console.print(escape(sentence), highlight=False)
    table = Table(box=None, show_header=False, pad_edge=False)
    for _ in range(2):
        table.add_column(overflow="fold")
    for name, text in task.goal.page(result, task.data, {}).told:
        table.add_row(name, escape(text))
    table.add_row(
        f"test {metric.name}",
        f"{metric.exact(metric.score(test[metric.key]))}"
        + (
            ""
            if ends is None
            else "  (95 % interval {} to {})".format(*(metric.exact(metric.score(end)) for end in ends))
        ),
    )
    for baseline in result.baselines:
        table.add_row(f"  {baseline.name}", metric.exact(baseline.score))
    table.add_row("latency", f"{format_seconds(shipped.latency)} for one {task.words.sample} in ONNX Runtime")
    table.add_row("size", f"{format_bytes(shipped.size)} ({shipped.precision})")
    table.add_row("MACs", format_count(shipped.macs))
    table.add_row("time", format_seconds(result.time["total"]))
    table.add_row("report", str(out / "report.html"))
    table.add_row("predict", f"formwright predict {shlex.quote(str(out))} {shlex.quote(task.words.argument)}")
    console.print(table, highlight=False)


def print_compression(report: dict[str, Any], out: Path) -> None:
    """Before and after, step by step."""
    afters = report["after"] if isinstance(report["after"], list) else [report["after"]]
    table = Table(box=None, pad_edge=False)
    for column in ("", "before", *(["after"] if len(afters) == 1 else [f"model {i + 1}" for i in range(len(afters))])):
        table.add_column(column, justify="left" if not column else "right")
    rows = (
        ("parameters", format_count),
        ("macs", format_count),
        ("bytes", format_bytes),
        ("latency", format_seconds),
        ("validation", lambda score: f"{score:.4g}"),
    )
    for name, form in rows:
        if name in report["before"]:
            label = {"bytes": "file", "macs": "MACs"}.get(name, name)
            if name == "validation":
                label = f"validation {report['metric']['name']}"
            table.add_row(label, *(form(each[name]) for each in (report["before"], *afters)))
    console.print(table, highlight=False)
    for step in report["steps"]:
        told = {key: value for key, value in step.items() if key not in ("step", "options") and value is not None}
        facts = ", ".join(f"{key.replace('_', ' ')} {_short(value)}" for key, value in told.items())
        console.print(f"{step['step']}: {facts}", highlight=False)
    console.print(f"written to {out}", highlight=False)


def _short(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"of {len(value)} layers" if isinstance(value, dict) else ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else (f"{value:.4g}" if isinstance(value, float) else str(value))


def print_unanswered(predictions: Sequence[Answer]) -> None:
    """Name on standard error what has no answer, and why."""
    from formwright.deployment.preparation import Unanswered

    for one in predictions:
        if isinstance(one, Unanswered):
            _messages.print(
                f"No answer for {one.kind} {one.name!r}: {one.reason}", highlight=False, markup=False, soft_wrap=True
            )


def print_predictions(predictions: Sequence[Answer]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in predictions[0].cells():
        table.add_column(column, justify="right" if column == "probability" else "left", overflow="fold")
    for prediction in predictions:
        table.add_row(*map(escape, prediction.cells().values()))
    console.print(table, highlight=False)


def print_measurements(measurements: Sequence[Measurement]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("model", overflow="fold")
    table.add_column("backend")
    for column in ("latency", "spread", "per second", "memory", "parameters", "MACs", "file"):
        table.add_column(column, justify="right")
    for one in measurements:
        table.add_row(
            escape(one.name),
            one.backend,
            format_seconds(one.latency.median),
            f"{format_seconds(one.latency.low)} - {format_seconds(one.latency.high)}",
            f"{one.throughput:.4g}",
            "unknown" if one.peak_memory is None else format_bytes(one.peak_memory),
            format_count(one.parameters),
            format_count(one.macs),
            format_bytes(one.file_size),
        )
    console.print(table, highlight=False)


def print_arena(result: ArenaResult, out: Path | None) -> None:
    """Accuracies, and speed and memory by length, a line a mixer."""
    if result.scores:
        table = Table(box=None, pad_edge=False)
        table.add_column("mixer")
        for task in (*result.tasks, "mean"):
            table.add_column(task, justify="right")
        for mixer in result.ranked():
            means = [score.mean for task in result.tasks if (score := result.score(task, mixer)) is not None]
            table.add_row(escape(mixer), *(f"{mean:.1%}" for mean in (*means, sum(means) / len(means))))
        first = [score for task in result.tasks if (score := result.score(task, result.mixers[0])) is not None]
        table.add_row("most frequent class", *(f"{score.majority:.1%}" for score in first), "", style="dim")
        table.add_row("steps", *(f"{score.steps:,}" for score in first), "", style="dim")
        console.print(table, highlight=False)
    if result.speeds:
        table = Table(box=None, pad_edge=False, title="training steps per second and memory of one, by tokens")
        table.add_column("mixer")
        for length in result.lengths:
            table.add_column(f"{length:,}", justify="right")
        for mixer in result.mixers:
            table.add_row(escape(mixer), *(_speed(result.speed(mixer, length)) for length in result.lengths))
        console.print(table, highlight=False)
    if out is not None:
        console.print(f"{out / 'arena.html'}", highlight=False)


def _speed(speed: Speed | None) -> str:
    if speed is None or speed.steps_per_second is None:
        return "-" if speed is None else f"[dim]{escape(speed.skipped)}[/dim]"
    memory = "" if speed.peak_memory is None else f"  {format_bytes(speed.peak_memory)}"
    return f"{speed.steps_per_second:.3g}{memory}"


def print_models(models: Sequence[Listed]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("name", overflow="fold")
    table.add_column("parameters", justify="right")
    for column in ("task", "family", "year"):
        table.add_column(column)
    for model in models:
        year = "" if model.year is None else str(model.year)
        table.add_row(escape(model.name), format_count(model.parameters), model.task, model.family, year)
    console.print(table, highlight=False)


def print_parts(parts: Sequence[PartFacts]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("part", "kind", "axes", "causal", "what it is"):
        table.add_column(column, overflow="fold", no_wrap=column in ("part", "axes", "causal"))
    for facts in parts:
        axes = ", ".join(map(str, facts.axes))
        table.add_row(facts.name, facts.kind, axes, facts.causal, escape(facts.summary))
    console.print(table, highlight=False)


def print_claims(reports: Sequence[ClaimReport]) -> None:
    """Published beside measured, a line a claim."""
    from formwright.catalog.verification import rows

    table = Table(box=None, pad_edge=False)
    for column in ("system", "claim", "published", "measured", "verdict"):
        table.add_column(column, overflow="fold")
    for report, cells in zip(reports, rows(reports), strict=True):
        style = "red" if report.failed else "" if report.holds else "yellow"
        table.add_row(*map(escape, cells), style=style)
        if report.details:
            table.add_row("", escape(report.details), style="dim")
    console.print(table, highlight=False)
    held = sum(report.holds for report in reports)
    console.print(f"{held} of {len(reports)} claims hold.", highlight=False)

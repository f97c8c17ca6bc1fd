"""The arena's picture: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from formwright.drawing import Chart, Line, Mark, accuracy_axis, log_axis, place_labels, polyline
from formwright.files import write_atomically
from formwright.fitting.metric import percent
from formwright.fitting.pages import page_environment
from formwright.measurement.budget import format_bytes, format_seconds
from formwright.studies.arena.records import ArenaResult, Speed


def write_report(result: ArenaResult, path: Path) -> None:
    """Write tables and charts of a run as one self-contained HTML file, whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    environment = page_environment("formwright.studies.arena")
    html = environment.get_template("arena.html.j2").render(
        result=result,
        time=_by_length(result, "seconds for a training step", _seconds, format_seconds),
        memory=_by_length(result, "memory of a training step", _memory, format_bytes),
        overview=_overview(result),
        fastest=_longest(result),
    )
    write_atomically(path, html)


def _seconds(speed: Speed) -> float | None:
    return None if speed.steps_per_second is None else 1 / speed.steps_per_second


def _memory(speed: Speed) -> float | None:
    return float(speed.peak_memory) if speed.peak_memory else None


def _by_length(
    result: ArenaResult, label: str, read: Callable[[Speed], float | None], show: Callable[[float], str]
) -> Chart | None:
    """A line for each mixer over the length of the rows, both on scales of ratios; full attention stands out."""
    curves = {
        mixer: [
            (float(speed.length), value)
            for speed in result.speeds
            if speed.mixer == mixer and (value := read(speed)) is not None
        ]
        for mixer in result.mixers
    }
    points = [point for curve in curves.values() for point in curve]
    if not points:
        return None
    chart = Chart(
        log_axis("tokens in a row", [x for x, _ in points], lambda value: f"{value:,.0f}"),
        log_axis(label, [y for _, y in points], show),
    )
    for mixer, curve in sorted(curves.items(), key=lambda item: item[0] != "full"):
        if not curve:
            continue
        kind = "winner" if mixer == "full" else "curve"
        x, y = curve[-1]
        title = f"{mixer}: {show(y)} at {x:,.0f} tokens"
        chart.lines.append(Line(polyline(chart, curve), kind, title))
        chart.marks.append(Mark(*chart.spot(x, y), f"end {kind}", title, mixer))
    place_labels(chart.marks)
    return chart


def _longest(result: ArenaResult) -> int | None:
    """The longest rows that every mixer was timed on."""
    for length in reversed(result.lengths):
        found = [result.speed(mixer, length) for mixer in result.mixers]
        if all(speed is not None and speed.steps_per_second is not None for speed in found):
            return length
    return None


def _overview(result: ArenaResult) -> Chart | None:
    """Mean accuracy over the tasks against the speed at the longest length that all were timed on."""
    length = _longest(result)
    if length is None or not result.scores:
        return None
    points = []
    for mixer in result.mixers:
        speed, score = result.speed(mixer, length), result.average(mixer)
        if speed is not None and speed.steps_per_second is not None and score is not None:
            points.append((mixer, speed.steps_per_second, score))
    chart = Chart(
        log_axis(f"training steps per second at {length:,} tokens", [x for _, x, _ in points], lambda v: f"{v:.3g}"),
        accuracy_axis("mean accuracy over the tasks", [y for *_, y in points], 1000),
    )
    for mixer, x, y in points:
        kind = "variant shipped" if mixer == "full" else "variant float32"
        title = f"{mixer}: {percent(y)} on average, {x:.3g} steps a second"
        chart.marks.append(Mark(*chart.spot(x, y), kind, title, mixer))
    place_labels(chart.marks)
    return chart

"""Charts as data: where lines, marks and cells stand, in percent of the plotting area.

The macros of ``charts.html.j2`` draw them as SVG whose places are percentages and whose letters keep their size, so
that one drawing serves a telephone, a wide screen and paper, and none of it needs a script.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from formwright.drawing.axes import Scale, Tick

# The plotting area of a narrow screen, in pixels: labels that do not collide there collide nowhere.
NARROW_WIDTH, NARROW_HEIGHT = 290, 300
LETTER, LINE, MARK = 6.5, 13, 6

COLOURS = 7  # that the style sheet has for series, ``s0`` to ``s6``

Coordinates = Sequence[float]


@dataclass
class Mark:
    """One point: ``x`` from the left and ``y`` from the top; ``kind`` is the shape and colour in the style sheet."""

    x: float
    y: float
    kind: str
    title: str
    label: str = ""
    dx: float = MARK + 4
    dy: float = 4
    anchor: str = "start"


@dataclass(frozen=True)
class Line:
    path: str
    kind: str
    title: str = ""


@dataclass
class Chart:
    """Marks and lines within two axes; what is drawn first lies on top.

    A series of values has the colour of its number, and a line of the legend. From ``future`` on, the area is set off
    from what lies before.
    """

    x: Scale
    y: Scale
    marks: list[Mark] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    limit: Tick | None = None
    future: Tick | None = None
    legend: list[tuple[str, str]] = field(default_factory=list)

    def spot(self, x: float, y: float) -> tuple[float, float]:
        """Percent from the left and from the top."""
        return self.x.at(x), round(100 - self.y.at(y), 2)

    def name(self, series: int, text: str) -> None:
        """A line of the legend."""
        self.legend.append((colour(series), text))

    def line(self, x: Coordinates, y: Coordinates, series: int) -> None:
        """Straight lines from point to point; a value that is not finite interrupts them."""
        self.lines.append(Line(polyline(self, list(zip(x, y, strict=True))), f"law {colour(series)}"))

    def band(self, x: Coordinates, low: Coordinates, high: Coordinates, series: int) -> None:
        """The area between two lines."""
        edge = [*zip(x, high, strict=True), *reversed(list(zip(x, low, strict=True)))]
        self.lines.append(Line(f"{polyline(self, edge)}Z", f"shade {colour(series)}"))

    def errors(self, x: Coordinates, y: Coordinates, error: Coordinates, series: int) -> None:
        """Vertical bars from ``y - error`` to ``y + error``."""
        bars = (polyline(self, [(px, py - e), (px, py + e)]) for px, py, e in zip(x, y, error, strict=True))
        self.lines.append(Line("".join(bars), f"error {colour(series)}"))

    def points(self, x: Coordinates, y: Coordinates, series: int, titles: Iterable[str] = ()) -> None:
        """A dot for each point; ``titles`` are shown where one points at them."""
        told = list(titles) or [""] * len(x)
        self.marks += [
            Mark(*self.spot(px, py), f"dot {colour(series)}", title) for px, py, title in zip(x, y, told, strict=True)
        ]


@dataclass(frozen=True)
class Strip:
    """Rows of coloured cells: orange for positive, blue for negative, pale for nothing, the darkest the largest."""

    title: str
    rows: tuple[tuple[str, tuple[tuple[bool, float], ...]], ...]


def heat_strip(rows: Sequence[Coordinates], labels: Sequence[str], title: str) -> Strip:
    """The cells of each row, whether positive and how large beside the largest of all."""
    largest = max((abs(value) for row in rows for value in row), default=0.0) or 1.0
    return Strip(
        title,
        tuple(
            (label, tuple((value > 0, round(abs(value) / largest, 3)) for value in row))
            for label, row in zip(labels, rows, strict=True)
        ),
    )


def colour(series: int) -> str:
    """The class of the style sheet with the colour of a series."""
    return f"s{series % COLOURS}"


def place_labels(marks: Sequence[Mark]) -> None:
    """Put each label beside its mark where it covers nothing; a label that finds no room is left out.

    Earlier marks choose first; the first label of all always stays.
    """
    taken = [_box(mark, 0, 0, 0, "middle") for mark in marks]
    for index, mark in enumerate(marks):
        if not mark.label:
            continue
        for dx, dy, anchor in (
            (MARK + 4, 4, "start"),
            (-MARK - 4, 4, "end"),
            (0, -MARK - 5, "middle"),
            (0, MARK + 14, "middle"),
            (MARK + 2, -MARK - 3, "start"),
            (MARK + 2, MARK + 11, "start"),
            (-MARK - 2, -MARK - 3, "end"),
            (-MARK - 2, MARK + 11, "end"),
            (0, MARK + 26, "middle"),
        ):
            box = _box(mark, len(mark.label) * LETTER, dx, dy, anchor)
            inside = box[0] >= 0 and box[2] <= NARROW_WIDTH and box[1] >= 0 and box[3] <= NARROW_HEIGHT
            if inside and not any(_overlap(box, other) for place, other in enumerate(taken) if place != index):
                mark.dx, mark.dy, mark.anchor = dx, dy, anchor
                taken.append(box)
                break
        else:
            mark.label = mark.label if index == 0 else ""


Box = tuple[float, float, float, float]


def _box(mark: Mark, width: float, dx: float, dy: float, anchor: str) -> Box:
    """Left, top, right and bottom in pixels of a label, or of the mark itself for a label without letters."""
    x, y = mark.x / 100 * NARROW_WIDTH + dx, mark.y / 100 * NARROW_HEIGHT + dy
    if not width:
        return x - MARK, y - MARK, x + MARK, y + MARK
    left = x - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]
    return left, y - LINE + 3, left + width, y + 3


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def polyline(axes: Chart, points: Sequence[tuple[float, float]]) -> str:
    """The path through points given in the units of the axes; a value that is not finite interrupts it."""
    path, pen = "", "M"
    for x, y in points:
        if math.isfinite(x) and math.isfinite(y):
            path += f"{pen}{axes.x.at(x)} {round(100 - axes.y.at(y), 2)}"
            pen = "L"
        else:
            pen = "M"
    return path

"""Pictures of figures as SVG, which a browser shows without anything else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

from formwright.ticks import round_numbers, round_ratios

#: Colours that people who do not see red or green tell apart (Okabe and Ito), dark enough on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#555555")
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 30, 44
_MOST_TICKS = 7

Coordinates = Sequence[float]


@dataclass(frozen=True)
class Scale:
    """Values from ``low`` to ``high``, equal differences equally far apart or, ``logarithmic``, equal ratios."""

    low: float
    high: float
    logarithmic: bool = False

    @staticmethod
    def over(values: Iterable[float], *, logarithmic: bool = False, margin: float = 0.05) -> Scale:
        """The range of ``values`` with a margin, without those that are not finite or, logarithmic, not positive."""
        kept = [value for value in values if math.isfinite(value) and (value > 0 or not logarithmic)]
        low, high = (min(kept), max(kept)) if kept else (1.0, 2.0)
        if logarithmic:
            low, high = math.log10(low), math.log10(high)
        spare = margin * (high - low) or 0.5 * (abs(high) * (not logarithmic) or 1.0)
        low, high = low - spare, high + spare
        return Scale(10**low, 10**high, True) if logarithmic else Scale(low, high)

    def share(self, value: float) -> float:
        """Where a value lies, from 0 at ``low`` to 1 at ``high``."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round values within the range."""
        choose = round_ratios if self.logarithmic else round_numbers
        return choose(self.low, self.high, _MOST_TICKS)


def short(value: float) -> str:
    """``1.5 M``, ``20 k``, ``0.03``."""
    if value and not 1e-3 <= abs(value) < 1e15:
        return f"{value:.2g}"
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= size:
            return f"{value / (1e3 if size == 1e4 else size):.3g}{unit}"
    return f"{value:.4g}"


@dataclass
class Plot:
    """Marks within two axes; what is drawn first lies below."""

    title: str
    x_label: str
    y_label: str
    x: Scale
    y: Scale
    width: int = 560
    height: int = 360
    show_x: Callable[[float], str] = short
    show_y: Callable[[float], str] = short
    _marks: list[str] = field(default_factory=list)
    _legend: list[tuple[str, str]] = field(default_factory=list)

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a point; beyond the axes it is put on their ends."""
        across = min(max(self.x.share(x), 0.0), 1.0)
        up = min(max(self.y.share(y), 0.0), 1.0)
        inner_width, inner_height = self.width - LEFT - RIGHT, self.height - TOP - BOTTOM
        return round(LEFT + across * inner_width, 1), round(TOP + (1 - up) * inner_height, 1)

    def line(self, x: Coordinates, y: Coordinates, colour: str, *, dashed: bool = False) -> None:
        """Straight lines from point to point; a value that is not finite interrupts them."""
        path = ""
        for (px, py), starts in _runs(x, y):
            path += f"{'M' if starts else 'L'}{' '.join(map(str, self.place(px, py)))}"
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        self._marks.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6"{dashes}/>')

    def points(self, x: Coordinates, y: Coordinates, colour: str, titles: Sequence[str] = ()) -> None:
        """A dot a point; ``titles`` are told of when one points at them."""
        for px, py, title in zip(x, y, titles or [""] * len(x), strict=True):
            cx, cy = self.place(float(px), float(py))
            told = f"<title>{escape(title)}</title>" if title else ""
            self._marks.append(
                f'<circle cx="{cx}" cy="{cy}" r="3.2" fill="{colour}" fill-opacity="0.8">{told}</circle>'
            )

    def errors(self, x: Coordinates, y: Coordinates, error: Coordinates, colour: str) -> None:
        """Vertical bars from ``y - error`` to ``y + error``."""
        for px, py, e in zip(x, y, error, strict=True):
            (left, low), (_, high) = self.place(px, py - e), self.place(px, py + e)
            self._marks.append(f'<path d="M{left} {low}V{high}" stroke="{colour}" stroke-opacity="0.45"/>')

    def band(self, x: Coordinates, low: Coordinates, high: Coordinates, colour: str) -> None:
        """The area between two lines."""
        there = [self.place(px, py) for px, py in zip(x, high, strict=True)]
        back = [self.place(px, py) for px, py in zip(x, low, strict=True)][::-1]
        path = "L".join(f"{px} {py}" for px, py in (*there, *back))
        self._marks.append(f'<path d="M{path}Z" fill="{colour}" fill-opacity="0.13"/>')

    def name(self, colour: str, text: str) -> None:
        """A line of the legend."""
        self._legend.append((colour, text))

    def svg(self) -> str:
        """The picture; text takes the colour of the page around it."""
        bottom, right = self.height - BOTTOM, self.width - RIGHT
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
            f'role="img" aria-label="{escape(self.title)}" font-family="system-ui, sans-serif" font-size="12" '
            'fill="currentColor">',
            f'<text x="{LEFT}" y="18" font-size="14" font-weight="600">{escape(self.title)}</text>',
        ]
        for value in self.x.ticks():
            at, _ = self.place(value, self.y.low)
            parts.append(f'<path d="M{at} {TOP}V{bottom}" stroke="currentColor" stroke-opacity="0.12"/>')
            parts.append(f'<text x="{at}" y="{bottom + 16}" text-anchor="middle">{escape(self.show_x(value))}</text>')
        for value in self.y.ticks():
            _, at = self.place(self.x.low, value)
            parts.append(f'<path d="M{LEFT} {at}H{right}" stroke="currentColor" stroke-opacity="0.12"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{at + 4}" text-anchor="end">{escape(self.show_y(value))}</text>')
        middle = (LEFT + right) / 2
        parts.append(f'<text x="{middle}" y="{self.height - 8}" text-anchor="middle">{escape(self.x_label)}</text>')
        half = (TOP + bottom) / 2
        parts.append(
            f'<text transform="translate(14 {half}) rotate(-90)" text-anchor="middle">{escape(self.y_label)}</text>'
        )
        parts += self._marks
        for row, (colour, text) in enumerate(self._legend):
            y = TOP + 14 + 16 * row
            parts.append(f'<circle cx="{right - 150}" cy="{y - 4}" r="4" fill="{colour}"/>')
            parts.append(f'<text x="{right - 142}" y="{y}">{escape(text)}</text>')
        return "".join([*parts, "</svg>"])


def _runs(x: Coordinates, y: Coordinates) -> Iterable[tuple[tuple[float, float], bool]]:
    """The finite points, and whether each begins a new line."""
    starts = True
    for px, py in zip(x, y, strict=True):
        if math.isfinite(px) and math.isfinite(py):
            yield (float(px), float(py)), starts
            starts = False
        else:
            starts = True


def heat_strip(
    rows: Sequence[Coordinates], labels: Sequence[str], title: str, *, width: int = 560, row_height: int = 18
) -> str:
    """Rows of coloured cells: orange for positive, blue for negative, pale for nothing, the darkest the largest."""
    largest = max((abs(value) for row in rows for value in row), default=0.0) or 1.0
    height = TOP + row_height * len(rows) + 6
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img" '
        f'aria-label="{escape(title)}" font-family="system-ui, sans-serif" font-size="11" fill="currentColor">',
        f'<text x="{LEFT}" y="18" font-size="14" font-weight="600">{escape(title)}</text>',
    ]
    for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
        y = TOP + row_height * number
        parts.append(f'<text x="{LEFT - 6}" y="{y + row_height - 5}" text-anchor="end">{escape(label)}</text>')
        cell = (width - LEFT - RIGHT) / len(row)
        for index, value in enumerate(row):
            colour, shade = ("#d55e00" if value > 0 else "#0072b2"), abs(value) / largest
            parts.append(
                f'<rect x="{LEFT + index * cell:.1f}" y="{y}" width="{cell + 0.3:.1f}" height="{row_height - 2}" '
                f'fill="{colour}" fill-opacity="{shade:.3f}"/>'
            )
    return "".join([*parts, "</svg>"])


def page(title: str, sections: Sequence[tuple[str, str]]) -> str:
    """A whole HTML page of headings and what stands below them (HTML), with nothing to be loaded from elsewhere."""
    body = "".join(f"<section><h2>{escape(heading)}</h2>{content}</section>" for heading, content in sections)
    style = (
        ":root{color-scheme:light dark}body{margin:0 auto;max-width:1230px;padding:24px;"
        "font:16px/1.5 system-ui,sans-serif;font-variant-numeric:tabular-nums}h1,h2{line-height:1.2}"
        "svg{max-width:100%;height:auto;margin:8px 12px 8px 0}table{border-collapse:collapse}"
        "th,td{padding:2px 14px 2px 0;text-align:right}th:first-child,td:first-child{text-align:left}"
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{style}</style></head>'
        f"<body><h1>{escape(title)}</h1>{body}</body></html>\n"
    )


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """An HTML table; the first column is of names, the others of figures."""
    head = "".join(f"<th>{escape(text)}</th>" for text in headings)
    body = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

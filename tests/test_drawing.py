"""Pictures are well-formed, and things are where their values say."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest

from formwright.drawing import BOTTOM, LEFT, RIGHT, TOP, Plot, Scale, heat_strip, page, short, table


@pytest.mark.parametrize(
    ("low", "high", "logarithmic"),
    [(0.0, 1.0, False), (3.1, 3.4, False), (0.35, 0.9, True), (1e3, 4e7, True), (2.0, 2.0, False), (5.0, 5.0, True)],
)
def test_ticks_are_round_few_and_within(low: float, high: float, logarithmic: bool) -> None:
    scale = Scale.over([low, high], logarithmic=logarithmic)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 9
    assert all(-1e-9 <= scale.share(tick) <= 1 + 1e-9 for tick in ticks)
    assert all(len(f"{tick:.12g}".rstrip("0").replace(".", "").lstrip("-0")) <= 3 for tick in ticks)


def test_points_are_where_their_values_say() -> None:
    plot = Plot("a < b", "x", "y", Scale(1.0, 100.0, True), Scale(0.0, 2.0), width=400, height=300)
    assert plot.place(1.0, 0.0) == (LEFT, 300 - BOTTOM)
    assert plot.place(100.0, 2.0) == (400 - RIGHT, TOP)
    assert plot.place(10.0, 1.0) == ((LEFT + 400 - RIGHT) / 2, (TOP + 300 - BOTTOM) / 2)
    assert plot.place(1e9, -5.0) == (400 - RIGHT, 300 - BOTTOM)  # on the ends, not outside


def test_everything_drawn_is_in_the_picture() -> None:
    plot = Plot("a < b", "x & y", "z", Scale(0.0, 3.0), Scale(0.0, 3.0))
    plot.points([1, 2], [1, 2], "red", ["<one>", "two"])
    plot.line([0, 1, 2, 3], [0, math.nan, 2, 3], "blue", dashed=True)
    plot.band([0, 1], [0, 1], [1, 2], "green")
    plot.errors([1], [1], [0.5], "red")
    plot.name("red", "points")
    root = ElementTree.fromstring(plot.svg())
    space = "{http://www.w3.org/2000/svg}"
    titles = [title.text for title in root.iter(f"{space}title")]
    assert titles == ["<one>", "two"]
    lines = [path.get("d", "") for path in root.iter(f"{space}path") if path.get("stroke") == "blue"]
    assert [line.count("M") for line in lines] == [2]  # interrupted where there is no value
    assert len(list(root.iter(f"{space}circle"))) == 3


def test_strips_and_pages_escape_what_they_are_given() -> None:
    strip = ElementTree.fromstring(heat_strip([[1.0, -2.0, 0.0]], ["<a>"], "t"))
    cells = [cell for cell in strip if cell.tag.endswith("rect")]
    assert [cell.get("fill-opacity") for cell in cells] == ["0.500", "1.000", "0.000"]
    text = page("<t>", [("h & i", table(("a", "b"), [("<x>", "1")]))])
    assert "<x>" not in text
    assert "&lt;x&gt;" in text
    assert heat_strip([[0.0]], ["nothing"], "t").count("<rect") == 1


def test_numbers_are_short() -> None:
    assert [short(value) for value in (0, 0.03, 1500, 20_000, 1.5e6, 3e9, 1e-7)] == [
        "0", "0.03", "1500", "20 k", "1.5 M", "3 G", "1e-07",
    ]  # fmt: skip

"""Scales, ticks and labels of charts; what the templates draw is well-formed, and where its values say."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

import formwright
from formwright.drawing import (
    Chart,
    Mark,
    accuracy_axis,
    heat_strip,
    log_axis,
    page_environment,
    place_labels,
    plain_axis,
    polyline,
    short,
    time_axis,
)
from formwright.drawing.axes import MOST_TICKS
from formwright.drawing.charts import COLOURS, NARROW_HEIGHT, NARROW_WIDTH


def drawn(macro: str, *arguments: object) -> ElementTree.Element:
    """What a macro of the templates writes."""
    text = "{% import 'charts.html.j2' as draw %}<div>{{ draw." + macro + "(*given) }}</div>"
    return ElementTree.fromstring(page_environment().from_string(text).render(given=arguments))


def shapes(root: ElementTree.Element, tag: str, kind: str) -> list[ElementTree.Element]:
    return [element for element in root.iter(tag) if kind in (element.get("class") or "").split()]


@pytest.mark.parametrize("make", [log_axis, plain_axis, time_axis])
@pytest.mark.parametrize("values", [[1e-4, 3e-4], [0.5], [2.0, 2.0], [1, 9], [1e-3, 5.0], [1, 1e9], [0.97, 0.98, 0.99]])
def test_values_and_a_few_round_ticks_lie_on_the_scale(make, values):
    axis = make("cost", values, lambda value: f"{value:.6g}")
    assert all(0 <= axis.at(value) <= 100 for value in values)
    assert 1 <= len(axis.ticks) <= MOST_TICKS + 1
    assert all(-1e-6 <= tick.at <= 100 + 1e-6 for tick in axis.ticks)
    for tick in axis.ticks:
        assert axis.at(float(tick.text)) == pytest.approx(tick.at, abs=0.1)
    assert all(before.at < after.at for before, after in itertools.pairwise(axis.ticks))


def test_logarithm_puts_equal_ratios_equally_far_apart():
    axis = log_axis("cost", [1, 100], str)
    assert axis.at(10) == pytest.approx((axis.at(1) + axis.at(100)) / 2)


@pytest.mark.parametrize("values", [[0.1, 0.84], [0.1, 0.99, 1.0], [1.0], [0.0], [0.986, 0.988], [0.0, 0.95]])
def test_accuracies_stay_on_the_scale_and_in_order(values):
    axis = accuracy_axis("accuracy", values, 360)
    places = [axis.at(value) for value in values]
    assert places == sorted(places)
    assert all(0 <= place <= 100 for place in places)
    assert axis.ticks
    assert all(0 <= float(tick.text.rstrip(" %\N{NO-BREAK SPACE}")) <= 100 for tick in axis.ticks)


def test_high_accuracies_are_told_apart_by_their_errors():
    axis = accuracy_axis("accuracy", [0.6, 0.99], 1000)
    assert axis.stretched
    assert axis.at(0.98) - axis.at(0.96) == pytest.approx(axis.at(0.8) - axis.at(0.6), abs=0.1)
    assert not accuracy_axis("accuracy", [0.6, 0.8], 1000).stretched


def test_an_axis_leaves_out_what_has_no_place_on_it():
    plain, ratios = plain_axis("x", [1.0, math.nan, 2.0, math.inf], str), log_axis("x", [1.0, 0.0, -3.0, 100.0], str)
    assert 0 < plain.at(1.0) < plain.at(2.0) < 100
    assert 0 < ratios.at(1.0) < ratios.at(100.0) < 100
    for empty in (plain_axis("x", [math.nan], str), log_axis("x", [], str)):
        assert empty.ticks


def test_labels_neither_cover_each_other_nor_leave_the_chart():
    crowd = [Mark(50 + index, 50, "trial", "", f"#{index}") for index in range(12)]
    edges = [Mark(100, 0, "trial", "", "#100"), Mark(0, 100, "trial", "", "#101")]
    place_labels([*crowd, *edges])
    shown = [mark for mark in crowd if mark.label]
    assert crowd[0].label == "#0"
    assert 1 < len(shown) < len(crowd)
    spots = [(mark.x / 100 * NARROW_WIDTH + mark.dx, mark.y / 100 * NARROW_HEIGHT + mark.dy) for mark in shown]
    assert len(set(spots)) == len(spots)
    assert edges[0].anchor == "end"
    assert edges[1].anchor == "start"


def test_series_are_where_their_values_say_in_their_colours():
    chart = Chart(plain_axis("x & y", [0.0, 3.0], str), log_axis("a < b", [1.0, 100.0], str))
    chart.line([0, 1, 2, 3], [1, math.nan, 10, 100], 0)
    chart.band([0, 1], [1, 10], [10, 100], 1)
    chart.errors([1, 2], [20, 30], [5, 5], 1)
    chart.points([0, 3], [1, 10], COLOURS + 1, ["<one>", "two"])
    chart.name(1, "band & dots")
    root = drawn("plot", chart, "name", "a < b")
    (line,) = shapes(root, "path", "law")
    assert line.get("class") == "law s0"
    assert line.get("d", "").count("M") == 2  # interrupted where there is no value
    (band,) = shapes(root, "path", "shade")
    assert band.get("d", "").endswith("Z")
    (bars,) = shapes(root, "path", "error")
    assert bars.get("d", "").count("M") == 2
    dots = shapes(root, "circle", "dot")
    assert {dot.get("class") for dot in dots} == {"dot s1"}
    assert sorted((dot.get("cx"), dot.get("cy")) for dot in dots) == sorted(
        (f"{x}%", f"{y}%") for x, y in (chart.spot(0, 1), chart.spot(3, 10))
    )
    assert chart.spot(0, 10)[1] == pytest.approx(50)
    assert {title.text for title in root.iter("title")} == {"<one>", "two"}
    assert "band & dots" in "".join(drawn("legend", chart).itertext())


def test_points_of_other_charts_keep_their_labels():
    chart = Chart(plain_axis("x", [0.0, 1.0], str), plain_axis("y", [0.0, 1.0], str))
    chart.marks.append(Mark(*chart.spot(0.5, 0.5), "end winner", "title", "label"))
    root = drawn("plot", chart, "name", "what")
    assert [text.text for mark in shapes(root, "svg", "mark") for text in mark.iter("text")] == ["label"]
    assert polyline(chart, [(0.0, 0.0), (1.0, 1.0)]).count("L") == 1


def test_strips_show_the_sign_and_the_share_of_the_largest():
    root = drawn("strip", heat_strip([[1.0, -2.0, 0.0]], ["<a>"], "t"))
    assert [(cell.get("class"), cell.get("fill-opacity")) for cell in root.iter("rect")] == [
        ("more", "0.5"),
        ("less", "1.0"),
        ("less", "0.0"),
    ]
    assert "<a>" in "".join(root.itertext())
    assert len(list(drawn("strip", heat_strip([[0.0]], ["nothing"], "t")).iter("rect"))) == 1


def test_every_series_has_a_colour_on_light_and_dark_pages():
    text = page_environment().from_string("{% include 'page.css' %}").render()
    for number in range(COLOURS):
        assert len(re.findall(rf"--s{number}: #", text)) == 2
        assert f".s{number} {{ --own: var(--s{number}); }}" in text


def test_nothing_else_draws():
    source = Path(formwright.__file__).parent
    files = [path for path in source.rglob("*") if path.suffix in (".py", ".j2", ".html")]
    drawing = [str(path.relative_to(source)) for path in files if "<svg" in path.read_text(encoding="utf-8")]
    assert drawing == ["drawing/templates/charts.html.j2"]


def test_numbers_are_short():
    assert [short(value) for value in (0, 0.03, 1500, 20_000, 1.5e6, 3e9, 1e-7)] == [
        "0", "0.03", "1500", "20 k", "1.5 M", "3 G", "1e-07",
    ]  # fmt: skip

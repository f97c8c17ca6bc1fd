"""Pathfinder's labels are what a flood fill along the drawn curves finds, and its classes are equally many."""

from __future__ import annotations

import numpy as np
import pytest

from formwright.data.synthetic.pathfinder import GEOMETRIES, LEVELS, Scenes, pathfinder, pathfinder_scenes
from formwright.errors import UserError

ZOOM = 8


def walls(scenes: Scenes, row: int, side: int) -> np.ndarray:
    """The curves of a picture, enlarged, their gaps filled: true where there is a line."""
    drawn = np.zeros((side * ZOOM,) * 2, bool)
    for curve in scenes.curves:
        for a, b in zip(curve[row][:-1], curve[row][1:], strict=True):
            for share in np.linspace(0, 1, 4 * ZOOM * int(np.ceil(np.linalg.norm(b - a)))):
                x, y = ((a + share * (b - a)) * ZOOM).astype(int)
                drawn[x, y] = True
    return drawn


def flood(drawn: np.ndarray, start: np.ndarray) -> np.ndarray:
    """All places that are reached from ``start`` along the lines, by the eight neighbours."""
    reached = np.zeros_like(drawn)
    front = [tuple((start * ZOOM).astype(int))]
    while front:
        x, y = front.pop()
        if drawn[x, y] and not reached[x, y]:
            reached[x, y] = True
            front += [(x + i, y + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    return reached


@pytest.mark.parametrize("level", LEVELS)
def test_a_curve_joins_the_dots_where_the_label_says_so(level: str) -> None:
    scenes = pathfinder_scenes(12, level=level, seed=2)
    for row, label in enumerate(scenes.labels):
        drawn = walls(scenes, row, 32)
        first, second = scenes.markers[row]
        x, y = (second * ZOOM).astype(int)
        assert flood(drawn, first)[x, y] == (label == 1)


def test_classes_are_equally_many_and_curves_keep_apart() -> None:
    scenes = pathfinder_scenes(64, seed=1)
    assert scenes.labels.mean() == 0.5
    geometry = GEOMETRIES[32]
    assert [curve.shape[1] for curve in scenes.curves] == [15, 15, 5, 5, 5, 5, 5]
    distance = np.linalg.norm(scenes.markers[:, 0] - scenes.markers[:, 1], axis=-1)
    assert distance.min() >= geometry.dots_apart
    for a in range(len(scenes.curves)):
        for b in range(a):
            gaps = scenes.curves[a][:, :, None] - scenes.curves[b][:, None]
            assert np.linalg.norm(gaps, axis=-1).min() >= geometry.apart - 1e-4
    for curve in scenes.curves:
        assert curve.min() > 0
        assert curve.max() < 32


def test_dots_and_dashes_are_drawn_where_they_are() -> None:
    scenes = pathfinder_scenes(8, seed=3)
    data = pathfinder(8, scenes=scenes)
    pictures = data.ids.reshape(8, 32, 32)
    assert (data.vocabulary, data.classes, data.padding) == (256, 2, None)
    assert pictures.min() == 0
    assert pictures.max() == 255
    rows = np.arange(8)[:, None]
    places = scenes.markers.astype(int)
    assert (pictures[rows, places[..., 0], places[..., 1]] == 255).all()
    corners = scenes.curves[4].astype(int)
    assert (pictures[rows, corners[:, :-1, 0], corners[:, :-1, 1]] > 30).all()


def test_the_same_seed_gives_the_same_pictures() -> None:
    first, again, other = (pathfinder(6, level="easy", seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first.ids, again.ids)
    assert np.array_equal(first.labels, again.labels)
    assert not np.array_equal(first.ids, other.ids)


def test_path_x_has_128_pixels_a_side() -> None:
    assert pathfinder(2, side=128, level="easy").ids.shape == (2, 16_384)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": "heard"}, "no level of Pathfinder named 'heard'; did you mean hard"),
        ({"side": 40}, "32, 64, 128, 256 pixels a side, not of 40"),
        ({"count": 1}, "1 pictures cannot have two classes"),
    ],
)
def test_what_there_is_not_is_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        pathfinder(**{"count": 4, **options})

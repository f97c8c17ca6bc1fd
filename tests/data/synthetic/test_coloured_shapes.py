"""Shapes: their boxes are tight, they do not touch, and every class and number of them comes up."""

from __future__ import annotations

import numpy as np
import pytest

from formwright.data.synthetic.coloured_shapes import SHAPES, box_of, coloured_shapes
from formwright.errors import UserError
from formwright.nn.functional.boxes import NO_OBJECT


def test_boxes_are_those_of_the_masks() -> None:
    data = coloured_shapes(60, side=40)
    assert data.masks is not None
    seen = 0
    for picture in range(60):
        rows = set(np.unique(data.masks[picture]).tolist()) - {0}
        there = np.flatnonzero(data.objects[picture] != NO_OBJECT)
        assert rows == set((there + 1).tolist())
        for row in there:
            np.testing.assert_allclose(data.boxes[picture, row], box_of(data.masks[picture] == row + 1))
            assert 0.15 <= data.boxes[picture, row, 2:].min() <= data.boxes[picture, row, 2:].max() <= 0.45
            seen += 1
    assert seen > 60
    assert set(data.objects[data.objects != NO_OBJECT].tolist()) == set(range(len(SHAPES)))
    assert set((data.objects != NO_OBJECT).sum(1).tolist()) == {0, 1, 2, 3}


def test_shapes_are_what_their_class_says() -> None:
    data = coloured_shapes(60, side=64)
    assert data.masks is not None
    filled: dict[int, list[float]] = {number: [] for number in range(3)}
    for picture, row in np.argwhere(data.objects != NO_OBJECT):
        inside = data.masks[picture] == row + 1
        width, height = data.boxes[picture, row, 2:] * 64
        filled[int(data.objects[picture, row])].append(inside.sum() / (width * height))
    disc, square, triangle = (np.array(filled[number]) for number in range(3))
    assert np.abs(disc - np.pi / 4).max() < 0.08
    assert square.min() == 1
    assert np.abs(triangle - 0.5).max() < 0.1


def test_shapes_are_brighter_in_colour_than_the_clutter_around_them() -> None:
    data = coloured_shapes(40, side=48)
    assert data.masks is not None
    spread = data.images.max(-1).astype(int) - data.images.min(-1)
    assert spread[data.masks > 0].mean() > 2 * spread[data.masks == 0].mean()


def test_a_box_by_hand() -> None:
    inside = np.zeros((4, 8), bool)
    inside[1:3, 2:7] = True
    np.testing.assert_allclose(box_of(inside), [4.5 / 8, 2 / 4, 5 / 8, 2 / 4])


def test_the_seed_decides() -> None:
    one, two, other = (coloured_shapes(4, side=24, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.images, two.images)
    assert np.array_equal(one.boxes, two.boxes)
    assert not np.array_equal(one.images, other.images)


@pytest.mark.parametrize("options", [{"count": 0}, {"count": 1, "side": 20}, {"count": 1, "most": 0}])
def test_what_cannot_be_drawn_is_said(options: dict[str, int]) -> None:
    with pytest.raises(UserError, match="at least one picture with sides of at least 24"):
        coloured_shapes(**options)

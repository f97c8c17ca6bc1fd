"""Pictures, boxes and masks change together, by the chance of their generator alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from formwright.data.joint_augmentation import JointAugmentation, Scene, augment
from formwright.data.synthetic.coloured_shapes import coloured_shapes
from formwright.errors import UserError
from formwright.nn.functional.boxes import NO_OBJECT, to_centres, to_corners

CHANGES = {
    "flip": JointAugmentation(flip=True),
    "scale": JointAugmentation(scale=0.7),
    "crop": JointAugmentation(crop=0.4),
    "colour": JointAugmentation(colour=0.4),
    "all": JointAugmentation(flip=True, scale=0.8, crop=0.5, colour=0.3),
}


def scene(count: int = 48, side: int = 48, seed: int = 0) -> Scene:
    data = coloured_shapes(count, side=side, seed=seed)
    assert data.masks is not None
    tensors = [torch.from_numpy(array) for array in (data.images, data.objects, data.boxes, data.masks)]
    return Scene(*tensors)


@pytest.mark.parametrize("name", CHANGES)
def test_boxes_still_enclose_what_was_drawn(name: str) -> None:
    before = scene()
    after = augment(before, CHANGES[name], np.random.default_rng(0))
    assert after.masks is not None
    side, found, compared = 48, 0, 0
    for picture in range(len(after.images)):
        for row, number in enumerate(after.objects[picture].tolist()):
            inside = (after.masks[picture] == row + 1).nonzero()
            if number == NO_OBJECT:
                assert not len(inside)
                continue
            assert number == before.objects[picture, row]
            left, top, right, bottom = (to_corners(after.boxes[picture, row]) * side).tolist()
            assert 0 <= left < right <= side
            assert 0 <= top < bottom <= side
            found += 1
            if not len(inside):
                continue  # less than a pixel of it
            (high, low), (end, last) = inside.min(0).values.tolist(), (inside.max(0).values + 1).tolist()
            edges = np.array([low, high, last, end])
            box = np.array([left, top, right, bottom])
            # Nearest neighbours move an edge by up to a pixel, and more where it is magnified.
            slack = {"flip": 1e-3, "colour": 1e-3, "all": 2.0}.get(name, 1.5)
            outside = (box - edges) * [1, 1, -1, -1]
            assert outside.max() <= slack, (picture, row)
            if min(left, top) > 0 and max(right, bottom) < side:  # what is cut off may be the widest part of it
                assert outside.min() >= -slack, (picture, row)
                compared += 1
    assert found > 40
    assert compared > 0.4 * found


def test_a_mirrored_picture_is_the_mirror_image() -> None:
    before = scene()
    after = augment(before, CHANGES["flip"], np.random.default_rng(1))
    assert after.masks is not None
    assert before.masks is not None
    mirrored = 0
    for index in range(len(before.images)):
        same = torch.equal(after.images[index], before.images[index])
        turned = torch.equal(after.images[index], before.images[index].flip(1))
        assert same != turned
        mirrored += turned
        expected = before.boxes[index].clone()
        if turned:
            there = before.objects[index] != NO_OBJECT
            expected[there, 0] = 1 - expected[there, 0]
            assert torch.equal(after.masks[index], before.masks[index].flip(1))
        torch.testing.assert_close(after.boxes[index], expected, atol=1e-5, rtol=1e-5)
        assert torch.equal(after.objects[index], before.objects[index])
    assert 12 < mirrored < 36


def test_colours_leave_places_alone() -> None:
    before = scene(8)
    after = augment(before, CHANGES["colour"], np.random.default_rng(0))
    assert not torch.equal(after.images, before.images)
    torch.testing.assert_close(after.boxes, before.boxes, atol=1e-5, rtol=1e-5)
    assert after.masks is not None
    assert before.masks is not None
    assert torch.equal(after.masks, before.masks)


def test_an_object_that_is_cut_away_is_gone_and_one_that_is_cut_is_clipped() -> None:
    images = torch.zeros(32, 40, 40, 3, dtype=torch.uint8)
    corners = torch.tensor([[0.0, 0.0, 0.1, 0.1], [0.3, 0.3, 0.7, 0.7], [0.0, 0.4, 1.0, 0.6]])
    objects = torch.tensor([0, 1, 2]).expand(32, -1)
    before = Scene(images, objects, to_centres(corners).expand(32, -1, -1))
    after = augment(before, JointAugmentation(crop=0.15), np.random.default_rng(0))
    gone = after.objects == NO_OBJECT
    assert gone[:, 0].sum() > 0
    assert not after.boxes[gone].any()
    edges = to_corners(after.boxes[~gone])
    assert (edges >= -1e-6).all()
    assert (edges <= 1 + 1e-6).all()
    wide = after.boxes[:, 2][~gone[:, 2]]
    torch.testing.assert_close(
        wide[:, 2], torch.ones(len(wide)), atol=0.03, rtol=0
    )  # from side to side, whatever is left
    assert after.masks is None


def test_the_seed_decides_and_the_chance_of_others_is_left_alone() -> None:
    before = scene(6)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one = augment(before, CHANGES["all"], np.random.default_rng(3))
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(99)
    two = augment(before, CHANGES["all"], np.random.default_rng(3))
    other = augment(before, CHANGES["all"], np.random.default_rng(4))
    assert torch.equal(one.images, two.images)
    assert torch.equal(one.boxes, two.boxes)
    assert not torch.equal(one.images, other.images)
    assert augment(before, JointAugmentation(), np.random.default_rng(0)) is before


def test_pictures_without_objects() -> None:
    before = scene(3)
    empty = Scene(before.images, torch.full((3, 2), NO_OBJECT), torch.zeros(3, 2, 4))
    after = augment(empty, CHANGES["all"], np.random.default_rng(0))
    assert (after.objects == NO_OBJECT).all()
    assert not after.boxes.any()
    none = Scene(before.images, torch.zeros(3, 0, dtype=torch.int64), torch.zeros(3, 0, 4))
    assert augment(none, CHANGES["all"], np.random.default_rng(0)).boxes.shape == (3, 0, 4)


@pytest.mark.parametrize("options", [{"scale": 0.0}, {"scale": 1.5}, {"crop": 0.0}, {"crop": 2.0}, {"colour": -0.1}])
def test_changes_that_cannot_be_are_said(options: dict[str, float]) -> None:
    ((name, value),) = options.items()
    with pytest.raises(UserError, match=f"{name}={value}"):
        JointAugmentation(**options)

"""Augmentation: each operation against a plain loop, and the choice made for data."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from formwright.data import from_arrays, read_images
from formwright.data.augmentation import Augmentation, erase, gather_views, infer_augmentation, mix

IMAGES = torch.from_numpy(np.random.default_rng(0).integers(1, 256, (20, 7, 9, 3), dtype=np.uint8))
INDICES = torch.tensor([3, 3, 0, 19, 7])


MIRRORED = torch.tensor([True, False, False, True, False])


def views_by_loop(augmentation: Augmentation, seed: int, mirrored: torch.Tensor | None) -> np.ndarray:
    """The same draws, then NumPy's own padding and slicing, picture by picture."""
    random = np.random.default_rng(seed)
    shift = augmentation.shift
    offsets = random.integers(-shift, shift, (2, len(INDICES), 1), endpoint=True)[..., 0]
    views = []
    for number, index in enumerate(INDICES):
        padding = ((shift, shift), (shift, shift), (0, 0))
        picture = IMAGES[index].numpy()
        if augmentation.fill is None:
            padded = np.pad(picture, padding, mode="reflect")
        else:
            padded = np.pad(picture, padding, constant_values=augmentation.fill)
        top, left = offsets[:, number] + shift
        view = padded[top : top + 7, left : left + 9]
        views.append(view if mirrored is None or not mirrored[number] else view[:, ::-1])
    return np.stack(views)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("shift", [0, 1, 3])
@pytest.mark.parametrize("fill", [None, 0, 200])
@pytest.mark.parametrize("seed", range(3))
def test_views_are_the_padded_crops_of_the_pictures(flip, shift, fill, seed):
    augmentation, mirrored = Augmentation(shift=shift, fill=fill), MIRRORED if flip else None
    views = gather_views(IMAGES, INDICES, augmentation, np.random.default_rng(seed), mirrored)
    np.testing.assert_array_equal(views.numpy(), views_by_loop(augmentation, seed, mirrored))


def test_shifts_larger_than_the_picture_stay_inside():
    tiny = IMAGES[:, :1, :2]
    views = gather_views(tiny, INDICES, Augmentation(shift=5), np.random.default_rng(0))
    assert views.shape == (5, 1, 2, 3)
    for view, index in zip(views, INDICES, strict=True):
        assert {tuple(pixel) for pixel in view[0].tolist()} <= {tuple(pixel) for pixel in tiny[index][0].tolist()}


def test_the_data_are_not_changed():
    before = IMAGES.clone()
    gather_views(IMAGES, INDICES, Augmentation(shift=2, fill=0), np.random.default_rng(0), MIRRORED)
    assert torch.equal(before, IMAGES)


def test_erasing_takes_one_rectangle_of_a_share_of_the_pictures():
    images = torch.ones(400, 2, 32, 32).to(memory_format=torch.channels_last)
    erase(images, 0.5, np.random.default_rng(0))
    erased = images[:, 0] == 0
    assert torch.equal(erased, images[:, 1] == 0)
    touched = erased.any(2).any(1)
    assert 0.4 < touched.float().mean() < 0.6
    shares = erased[touched].float().mean((1, 2))
    assert shares.min() > 0.01
    assert shares.max() < 0.3
    for mask in erased[touched]:
        rows, columns = mask.any(1), mask.any(0)
        assert torch.equal(mask, rows[:, None] & columns[None])
        assert int(rows.int().diff().abs().sum()) <= 2


@pytest.mark.parametrize("augmentation", [Augmentation(mixup=0.8), Augmentation(cutmix=1.0)])
def test_mixed_labels_say_how_much_of_each_picture_is_there(augmentation):
    classes = 6
    labels = torch.arange(classes)
    images = labels.float()[:, None, None, None].expand(-1, 1, 16, 16).contiguous()
    for seed in range(20):
        mixed, probabilities = mix(images, labels, classes, augmentation, np.random.default_rng(seed))
        torch.testing.assert_close(probabilities.sum(1), torch.ones(classes))
        expected = (probabilities * torch.arange(classes)).sum(1)
        torch.testing.assert_close(mixed.mean((1, 2, 3)), expected, atol=1e-4, rtol=0)
        values = len(mixed[0].unique())
        assert values <= 2 if augmentation.cutmix else values == 1


def test_both_mixtures_take_turns():
    images = torch.arange(4.0)[:, None, None, None].expand(-1, 1, 8, 8).contiguous()
    augmentation = Augmentation(mixup=1.0, cutmix=1.0)
    kinds = {
        len(mix(images, torch.arange(4), 4, augmentation, np.random.default_rng(seed))[0][1].unique())
        for seed in range(20)
    }
    assert kinds == {1, 2}


def test_digits_are_moved_on_black_and_never_mirrored():
    assert infer_augmentation(read_images()) == Augmentation(flip=False, shift=1, fill=0)


def test_colour_pictures_are_mirrored_and_reflected():
    images = np.random.default_rng(0).integers(0, 256, (30, 32, 40, 3), dtype=np.uint8)
    assert infer_augmentation(from_arrays(images, np.arange(30) % 3)) == Augmentation(flip=True, shift=2, fill=None)


def test_photos_are_moved_by_a_sixteenth():
    images = np.random.default_rng(0).integers(0, 256, (12, 224, 224, 3), dtype=np.uint8)
    assert infer_augmentation(from_arrays(images, np.arange(12) % 2)) == Augmentation(flip=True, shift=14, fill=None)


def test_objects_on_white_are_moved_on_white():
    images = np.full((30, 16, 16, 3), 255, np.uint8)
    images[:, 4:12, 4:12] = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
    assert infer_augmentation(from_arrays(images, np.arange(30) % 3)).fill == 255

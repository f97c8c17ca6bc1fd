"""Batches: complete, normalised, reproducible, resumable."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from formwright.data import from_arrays, read_images
from formwright.data.augmentation import Augmentation
from formwright.data.batches import Batches, evaluation_batches, normalise, training_batches
from formwright.errors import UserError

EVERYTHING = Augmentation(flip=True, shift=2, erase=0.5, mixup=0.4, cutmix=1.0)


@pytest.fixture(scope="module")
def data():
    images = np.random.default_rng(0).integers(0, 256, (90, 8, 6, 3), dtype=np.uint8)
    return from_arrays(images, np.arange(90) % 3)


def same(first, second) -> bool:
    return torch.equal(first.inputs, second.inputs) and torch.equal(first.targets, second.targets)


def test_pictures_are_normalised_and_channels_last(data):
    batch = next(training_batches(data, batch_size=7))
    assert batch.inputs.shape == (7, 3, 8, 6)
    assert batch.inputs.dtype == torch.float32
    assert batch.inputs.is_contiguous(memory_format=torch.channels_last)
    assert batch.targets.dtype == torch.int64


@pytest.mark.parametrize("seed", [0, 3])
def test_each_picture_is_mirrored_in_every_second_epoch(seed):
    images = np.arange(40, dtype=np.uint8)[:, None, None, None] + np.array([0, 100], np.uint8)[:, None]
    labels = np.arange(40)
    how = {"batch_size": 8, "mean": (0.0,), "std": (1 / 255,), "classes": 40, "seed": seed}
    batches = Batches(images, labels, augmentation=Augmentation(flip=True), **how)
    epochs = []
    for _ in range(4):
        mirrored = {}
        for batch in (next(batches) for _ in range(5)):
            for picture, label in zip(batch.inputs, batch.targets, strict=True):
                pixels = picture.flatten().round().int().tolist()
                assert sorted(pixels) == [int(label), int(label) + 100]
                mirrored[int(label)] = pixels[0] > pixels[1]
        epochs.append(mirrored)
    assert epochs[0] == epochs[2]
    assert epochs[1] == epochs[3]
    assert all(epochs[0][label] != epochs[1][label] for label in range(40))
    assert 10 <= sum(epochs[0].values()) <= 30
    again = Batches(images, labels, augmentation=Augmentation(flip=True), **how)
    assert all(same(again.batch(step), batches.batch(step)) for step in range(20))


def test_normalising_follows_the_formula():
    images = torch.arange(2 * 3 * 4 * 3, dtype=torch.uint8).reshape(2, 3, 4, 3)
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    expected = (images.double() / 255 - torch.tensor(mean).double()) / torch.tensor(std).double()
    torch.testing.assert_close(normalise(images, mean, std).double(), expected.permute(0, 3, 1, 2), atol=1e-5, rtol=0)


def test_the_training_part_has_mean_0_and_deviation_1(data):
    images = torch.cat([batch.inputs for batch in evaluation_batches(data, "train")])
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(images.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0)


def test_an_epoch_takes_every_training_picture_once_in_a_new_order(data):
    numbered = np.arange(60, dtype=np.int64)
    batches = Batches(
        data.images[:60], numbered, batch_size=6, mean=data.mean, std=data.std, classes=60, indices=numbered[10:]
    )
    assert len(batches) == 8
    epochs = [torch.cat([next(batches).targets for _ in range(len(batches))]) for _ in range(2)]
    for labels in epochs:
        assert len(labels.unique()) == 48
        assert labels.min() >= 10
    assert not torch.equal(*epochs)
    assert batches.epoch == 2.0


def test_nothing_outside_the_part_is_trained_on(data):
    marked = data.images.copy()
    marked[data.split.train] = 255
    marked[data.split.val] = marked[data.split.test] = 0
    batches = Batches(
        marked, data.labels, batch_size=20, mean=(0.0,) * 3, std=(1.0,) * 3, classes=3, indices=data.split.train
    )
    assert all(next(batches).inputs.min() > 0.99 for _ in range(2 * len(batches)))


@pytest.mark.parametrize("augmentation", [None, EVERYTHING])
def test_a_resumed_run_gets_bit_equal_batches(data, augmentation):
    first = training_batches(data, batch_size=16, seed=5, augmentation=augmentation)
    for _ in range(len(first) + 2):  # into the second epoch
        next(first)
    state = json.loads(json.dumps(first.state_dict()))
    second = training_batches(data, batch_size=16, seed=5, augmentation=augmentation)
    next(second)
    second.load_state_dict(state)
    for _ in range(2 * len(first)):
        assert same(next(first), next(second))
    assert first.state_dict() == second.state_dict()


def test_another_seed_gives_other_batches(data):
    plain = [next(training_batches(data, batch_size=16, seed=seed)) for seed in (0, 1)]
    assert not same(*plain)


def test_a_picture_is_augmented_anew_in_every_epoch(data):
    one_picture = data.images[:1].repeat(50, axis=0)
    batches = Batches(
        one_picture,
        np.zeros(50, np.int64),
        batch_size=50,
        mean=data.mean,
        std=data.std,
        classes=3,
        augmentation=Augmentation(shift=2),
    )
    assert len(batches) == 1
    assert not same(next(batches), next(batches))


def test_global_random_states_are_neither_used_nor_changed(data):
    batches = [training_batches(data, batch_size=16, augmentation=EVERYTHING) for _ in range(2)]
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = next(batches[0])
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    assert same(first, next(batches[1]))


@pytest.mark.parametrize(("seed", "batch_size", "message"), [(1, 16, "seed 0"), (0, 8, "batch_size 16")])
def test_the_state_of_other_batches_is_refused(data, seed, batch_size, message):
    state = training_batches(data, batch_size=16).state_dict()
    with pytest.raises(UserError, match=message):
        training_batches(data, batch_size=batch_size, seed=seed).load_state_dict(state)


def test_a_batch_larger_than_the_data_is_the_data(data):
    batches = training_batches(data, batch_size=1000)
    assert len(batches) == 1
    assert len(next(batches).targets) == len(data.split.train)


def test_impossible_batches_are_refused(data):
    with pytest.raises(UserError, match="batch size of 0"):
        training_batches(data, batch_size=0)
    with pytest.raises(UserError, match="no pictures"):
        Batches(data.images[:0], data.labels[:0], batch_size=1, mean=data.mean, std=data.std, classes=3)


def test_evaluation_is_in_order_complete_and_plain(data):
    batches = list(evaluation_batches(data, "test", batch_size=4))
    labels = torch.cat([batch.targets for batch in batches])
    np.testing.assert_array_equal(labels.numpy(), data.labels[data.split.test])
    images = torch.cat([batch.inputs for batch in batches]).permute(0, 2, 3, 1).numpy()
    pixels = (images * data.std + data.mean) * 255
    np.testing.assert_allclose(pixels, data.images[data.split.test], atol=1e-3)


def test_a_few_evaluation_pictures_are_of_all_classes():
    images = np.random.default_rng(0).integers(0, 256, (90, 4, 4, 3), dtype=np.uint8)
    data = from_arrays(images, np.repeat([0, 1, 2], 30))
    (batch,) = evaluation_batches(data, "train", most=10)
    assert len(batch.targets) == 10
    assert set(batch.targets.tolist()) == {0, 1, 2}


def test_pictures_that_may_not_be_written_to_are_read_all_the_same(recwarn):
    data = read_images()
    data.images.flags.writeable = False
    next(training_batches(data, batch_size=4))
    assert not [warning for warning in recwarn if "writable" in str(warning.message)]

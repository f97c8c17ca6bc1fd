"""Batches of rows, grey pixels, and keys to recall."""

from __future__ import annotations

import numpy as np
import pytest

from formwright.data.images import from_arrays
from formwright.data.synthetic.pixels import LUMA, grey, pixel_sequences
from formwright.data.synthetic.recall import key_recall
from formwright.data.synthetic.sequences import SequenceBatches, evaluation_sequences
from formwright.errors import UserError


def test_an_epoch_has_every_row_once_and_goes_on_where_it_stopped() -> None:
    data = key_recall(10, 30)
    batches = SequenceBatches(data, batch_size=5, seed=1)
    first = [next(batches) for _ in range(2)]
    assert sorted(map(tuple, np.concatenate([b.inputs.numpy() for b in first]))) == sorted(map(tuple, data.ids))
    state = batches.state_dict()
    third = next(batches)
    again = SequenceBatches(data, batch_size=5, seed=1)
    again.load_state_dict(state)
    assert np.array_equal(next(again).inputs, third.inputs)
    with pytest.raises(UserError, match="The batches to continue have"):
        SequenceBatches(data, batch_size=5, seed=2).load_state_dict(state)
    with pytest.raises(UserError, match="batch size of 0"):
        SequenceBatches(data, batch_size=0)
    once = list(evaluation_sequences(data, 4))
    assert [len(batch.targets) for batch in once] == [4, 4, 2]
    assert np.array_equal(np.concatenate([batch.targets for batch in once]), data.labels)


def test_pixels_are_weighted_and_in_rows() -> None:
    random = np.random.default_rng(0)
    colour = random.integers(256, size=(40, 6, 4, 3), dtype=np.uint8)
    data = from_arrays(colour, np.arange(40) % 4)
    sequences = pixel_sequences(data, "train", most=7)
    assert sequences.ids.shape == (7, 24)
    assert (sequences.vocabulary, sequences.classes) == (256, 4)
    expected = sum(weight * colour[..., channel] for channel, weight in enumerate(LUMA))
    assert np.abs(grey(colour) - expected).max() <= 0.5 + 1e-3
    assert grey(np.full((1, 2, 2, 3), 255, np.uint8)).tolist() == [[[255, 255], [255, 255]]]
    assert np.array_equal(grey(colour[..., :1]), colour[..., 0])
    shown = {tuple(row) for row in grey(colour).reshape(40, -1)}
    assert all(tuple(row) in shown for row in sequences.ids)


def test_the_last_id_asks_for_a_key_whose_value_is_the_label() -> None:
    data = key_recall(200, 64, keys=6, values=5, pairs=3, noise=7, seed=2)
    for row, label in zip(data.ids, data.labels, strict=True):
        places = np.flatnonzero(row[:-1] < 6)
        assert len(places) == 3
        values = {row[place]: row[place + 1] - 6 for place in places}
        assert len(values) == 3
        assert values[row[-1]] == label
    assert data.ids.max() == 6 + 5 + 7 - 1
    assert np.bincount(data.labels).min() > 20
    with pytest.raises(UserError, match="9 pairs"):
        key_recall(4, 64, pairs=9)
    with pytest.raises(UserError, match="in 6 ids"):
        key_recall(4, 6, pairs=4)

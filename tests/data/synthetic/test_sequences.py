"""Batches of rows, and grey pixels."""

from __future__ import annotations

import numpy as np
import pytest

from formwright.data.images import from_arrays
from formwright.data.synthetic.pixels import LUMA, grey, pixel_sequences
from formwright.data.synthetic.sequences import LabelledSequences, SequenceBatches, evaluation_sequences
from formwright.errors import UserError


def test_an_epoch_has_every_row_once_and_goes_on_where_it_stopped() -> None:
    ids = np.random.default_rng(0).integers(20, size=(10, 30), dtype=np.int16)
    data = LabelledSequences(ids, np.arange(10) % 3, vocabulary=20, classes=3, padding=None, source="random ids")
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

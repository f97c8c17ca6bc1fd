"""Packing sequences into rows, and the way back."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from formwright.data import packing
from formwright.data.array_batches import ArrayBatches
from formwright.data.packing import next_ids, pack, unpack
from formwright.errors import UserError


def test_the_examples_hold() -> None:
    results = doctest.testmod(packing)
    assert results.attempted >= 5
    assert not results.failed


@pytest.mark.parametrize("length", [None, 9, 12, 200])
def test_unpacking_is_the_inverse(length: int | None) -> None:
    generator = np.random.default_rng(0)
    sequences = [generator.integers(0, 5, count) for count in (1, 9, 3, 3, 3, 1, 8, 2)]
    ids, segments = pack(sequences, length, padding=7)
    assert ids.shape == segments.shape == (len(ids), length or 30)
    for ours, sequence in zip(unpack(ids, segments), sequences, strict=True):
        assert np.array_equal(ours, sequence)
    assert (ids[segments < 0] == 7).all()
    assert (segments >= 0).sum() == 30
    scores = generator.normal(size=(*ids.shape, 4))
    assert sum(len(each) for each in unpack(scores, segments)) == 30


def test_nothing_makes_no_rows() -> None:
    ids, segments = pack([], 5)
    assert ids.shape == (0, 5)
    assert unpack(ids, segments) == []
    assert next_ids(ids, segments).shape == (0, 5)


def test_next_ids_stay_within_a_sequence() -> None:
    ids, segments = pack([[1, 2, 3], [4], [5, 6]], length=8)
    assert next_ids(ids, segments).tolist() == [[2, 3, -1, -1, 6, -1, -1, -1]]


@pytest.mark.parametrize(("sequences", "length"), [([[1], []], 4), ([[1, 2, 3]], 2), ([[[1, 2], [3, 4]]], 4)])
def test_what_cannot_be_packed_is_named(sequences: list, length: int) -> None:
    with pytest.raises(UserError, match=rf"can be packed in rows of {length}, and number {len(sequences) - 1} has"):
        pack(sequences, length)


def test_packed_rows_train_as_any_arrays_do() -> None:
    ids, segments = pack([[1, 2, 3], [4, 5], [6, 7, 8, 9], [1]], length=5)
    batch = next(iter(ArrayBatches({"input": ids, "segments": segments}, next_ids(ids, segments), batch_size=2)))
    assert batch.inputs["input"].shape == batch.inputs["segments"].shape == batch.targets.shape == (2, 5)

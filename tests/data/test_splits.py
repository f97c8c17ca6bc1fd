"""Parts: stratified, seeded, complete, and without a picture in two of them."""

from __future__ import annotations

import numpy as np
import pytest

from formwright.data.splits import (
    TEST,
    TRAIN,
    VAL,
    VAL_MOST,
    content_digests,
    evenly_spaced,
    fingerprint,
    split_pictures,
)
from formwright.errors import UserError


def split(labels, digests=None, parts=None, seed=0):
    labels = np.asarray(labels, np.int64)
    digests = np.arange(len(labels)) if digests is None else np.asarray(digests)
    parts = np.full(len(labels), TRAIN, np.int8) if parts is None else np.asarray(parts, np.int8)
    names = [f"class{label}" for label in range(labels.max() + 1)]
    return split_pictures(labels, digests.astype(np.uint64), parts, names, seed)


@pytest.mark.parametrize("seed", range(25))
def test_whatever_the_data_the_parts_keep_their_promises(seed):
    """Random class sizes, copies (within and across classes) and given parts."""
    random = np.random.default_rng(seed)
    classes = int(random.integers(2, 8))
    labels = np.concatenate([np.repeat(np.arange(classes), random.integers(8, 60, classes))])
    random.shuffle(labels)
    digests = np.arange(len(labels))
    for _ in range(int(random.integers(0, 8))):
        first, second = random.integers(0, len(labels), 2)
        digests[second] = digests[first]
    given = [TRAIN, *random.choice([VAL, TEST], random.integers(0, 3), replace=False)]
    parts = random.choice(
        given, len(labels), p=[0.7, *[0.3 / (len(given) - 1)] * (len(given) - 1)] if given[1:] else None
    )

    result = split(labels, digests, parts, seed)

    everything = np.concatenate([result.train, result.val, result.test, result.dropped])
    np.testing.assert_array_equal(np.sort(everything), np.arange(len(labels)))
    contents = [set(digests[part]) for part in (result.train, result.val, result.test)]
    assert not contents[0] & contents[1]
    assert not contents[0] & contents[2]
    assert not contents[1] & contents[2]
    assert result.copies == len(labels) - len(set(digests))
    assert set(labels[result.train]) == set(range(classes))
    for part, indices in ((VAL, result.val), (TEST, result.test)):
        if part in given:
            assert (parts[indices] == part).all()
        else:
            assert set(labels[indices]) == set(range(classes))
            assert (parts[indices] == TRAIN).all()
    if TEST in given:
        np.testing.assert_array_equal(result.test, np.flatnonzero(parts == TEST))
    again = split(labels, digests, parts, seed)
    np.testing.assert_array_equal(result.val, again.val)
    np.testing.assert_array_equal(result.test, again.test)


def test_shares_are_stratified():
    labels = np.repeat([0, 1, 2], [1000, 200, 40])
    result = split(labels)
    assert np.bincount(labels[result.test]).tolist() == [150, 30, 6]
    assert np.bincount(labels[result.val]).tolist() == [128, 26, 5]


def test_another_seed_draws_others():
    labels = np.repeat([0, 1], 100)
    assert set(split(labels, seed=0).test) != set(split(labels, seed=1).test)


def test_the_validation_part_is_capped():
    labels = np.arange(60_000) % 10
    result = split(labels, parts=np.repeat([TRAIN, TEST], [50_000, 10_000]))
    assert len(result.val) == VAL_MOST
    assert len(result.train) == 45_000


def test_three_pictures_are_enough_and_two_are_not():
    result = split(np.repeat([0, 1], 3))
    assert [len(result.part(part)) for part in ("train", "val", "test")] == [2, 2, 2]
    with pytest.raises(UserError, match=r"class1 \(2\); at least 3 per class"):
        split([0, 0, 0, 1, 1])
    with pytest.raises(UserError, match=r"class1 \(1\); at least 2 per class"):
        split([0, 0, 0, 1, 0, 1], parts=[TRAIN] * 4 + [TEST] * 2)


def test_a_test_picture_stays_in_the_test_part_and_leaves_the_others():
    labels = [0, 1] * 6
    digests = [0, 1, 2, 3, 4, 5, 6, 7, 0, 7, 8, 9]
    parts = [TRAIN] * 6 + [VAL] * 2 + [TEST] * 4
    result = split(labels, digests, parts)
    assert result.test.tolist() == [8, 9, 10, 11]
    assert result.val.tolist() == [6]
    assert result.dropped.tolist() == [0, 7]
    assert result.copies == 2


def test_pictures_under_two_labels_are_counted():
    result = split([0, 0, 0, 0, 1, 1, 1, 1, 1], [0, 1, 2, 3, 0, 5, 6, 7, 7])
    assert (result.copies, result.contradictions) == (2, 2)


def test_evenly_spaced_indices_span_the_whole():
    indices = np.arange(100, 200)
    assert evenly_spaced(indices, 3).tolist() == [100, 149, 199]
    np.testing.assert_array_equal(evenly_spaced(indices, 1000), indices)


def test_digests_differ_exactly_where_pictures_do():
    images = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 1), dtype=np.uint8)
    images[7] = images[3]
    images[9] = images[8]
    images[9, 0, 0, 0] ^= 1
    digests = content_digests(images)
    assert len(np.unique(digests)) == 49
    assert digests[7] == digests[3]


def test_the_fingerprint_sees_names_labels_and_contents():
    labels, digests = np.array([0, 1]), np.array([5, 6], np.uint64)
    same = fingerprint(["a", "b"], labels, digests)
    assert same == fingerprint(["a", "b"], labels, digests)
    assert same != fingerprint(["a", "c"], labels, digests)
    assert same != fingerprint(["a", "b"], labels[::-1], digests)
    assert same != fingerprint(["a", "b"], labels, digests + np.uint64(1))
    assert fingerprint(["\udcff"], labels[:1], digests[:1])  # a file name that is not UTF-8

"""Rows of bytes are passages of the texts, pairs are of one document or of two, and labels say so."""

from __future__ import annotations

import numpy as np
import pytest

from formwright.data.synthetic.byte_rows import (
    Documents,
    byte_classification,
    byte_retrieval,
    installed_sources,
    split_documents,
)
from formwright.errors import UserError


def documents(count: int = 20, size: int = 400) -> Documents:
    """Text ``n`` is the letter number ``n`` and a random digit, again and again; even ones are of class 0."""
    random = np.random.default_rng(0)
    texts = ["".join(chr(97 + n) + str(random.integers(10)) for _ in range(size // 2 + 7 * n)) for n in range(count)]
    return Documents(texts, np.arange(count) % 2, ("even", "odd"), "letters")


def text(row: np.ndarray) -> str:
    return bytes((row[row > 0] - 1).astype(np.uint8)).decode()


def test_each_text_is_a_row() -> None:
    found = byte_classification(documents(4), 410)
    assert found.ids.shape == (4, 410)
    for row, whole in zip(found.ids, documents(4).texts, strict=True):
        assert text(row) == whole[:410]
    assert found.labels.tolist() == [0, 1, 0, 1]
    assert (found.vocabulary, found.padding) == (257, 0)


def test_bytes_of_any_letters() -> None:
    found = byte_classification(Documents(["é\x00", "ÿ"], np.array([0, 1]), ("a", "b"), "two"), 4)
    assert found.ids.tolist() == [[0xC3 + 1, 0xA9 + 1, 1, 0], [0xC3 + 1, 0xBF + 1, 0, 0]]


def test_passages_are_of_texts_of_their_class() -> None:
    source = documents()
    found = byte_classification(source, 50, passages=101)
    assert np.bincount(found.labels).tolist() == [51, 50]
    for row, label in zip(found.ids, found.labels, strict=True):
        inside = [n for n, whole in enumerate(source.texts) if text(row) in whole]
        assert inside
        assert {n % 2 for n in inside} == {label}
    assert len(np.unique(found.ids, axis=0)) > 90


def test_pairs_are_of_one_document_without_overlap_or_of_two() -> None:
    source = documents(count=5)
    found = byte_retrieval(source, 150, 200)
    assert found.pairs
    assert found.labels.mean() == 0.5
    orders = set()
    for row, label in zip(found.ids, found.labels, strict=True):
        first, second = text(row[:150]), text(row[150:])
        places = [[whole.find(piece) for whole in source.texts] for piece in (first, second)]
        owners = [next(n for n, place in enumerate(found) if place >= 0) for found in places]
        assert (owners[0] == owners[1]) == (label == 1)
        if label:
            apart = places[1][owners[1]] - places[0][owners[0]]
            assert abs(apart) >= 150
            orders.add(apart > 0)
    assert orders == {True, False}, "either passage may come first"


def test_documents_are_trained_or_tested_with() -> None:
    train, test = split_documents(documents(21), test_share=0.2)
    assert set(train.texts) | set(test.texts) == set(documents(21).texts)
    assert not set(train.texts) & set(test.texts)
    assert len(test.texts) == 4
    assert set(test.labels.tolist()) == {0, 1}


def test_what_is_installed_will_do_for_a_text() -> None:
    source = installed_sources()
    assert len(source.texts) > 100
    assert set(source.labels.tolist()) == {0, 1}
    assert byte_retrieval(source, 1000, 10).ids.shape == (10, 2000)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: byte_classification(documents(), 0), "Rows of 0 bytes hold nothing"),
        (lambda: byte_classification(Documents(["a"], np.zeros(1, int), ("a", "b"), "one"), 4), "1 texts; at least 2"),
        (lambda: byte_classification(Documents(["a"] * 2, np.zeros(2, int), ("a",), "one"), 4), "one class, 'a'"),
        (
            lambda: byte_classification(Documents(["a", ""], np.array([0, 1]), ("a", "b"), "one"), 4, passages=4),
            "no bytes of its class number 1",
        ),
        (lambda: byte_retrieval(documents(), 10_000, 4), "0 texts of 10000 bytes"),
        (lambda: split_documents(documents(2)), "each class needs at least two"),
    ],
)
def test_texts_that_will_not_do_are_refused(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=message):
        make()

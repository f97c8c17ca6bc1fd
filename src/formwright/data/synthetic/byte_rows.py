"""Byte-level tasks made of anybody's texts: which class a text has, and whether two passages are of one document.

Source: the text and retrieval tasks of Long Range Arena, arXiv 2011.04006 (there reviews of films, and papers that cite
each other). Ids are bytes plus one; 0 is padding.
"""

from __future__ import annotations

import importlib.util
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from formwright.data.synthetic.sequences import Ids, LabelledSequences
from formwright.errors import UserError

PADDING = 0
VOCABULARY = 257

#: Longest part of a file that is read, and how many files of a package, in alphabetical order.
_MOST_BYTES, _MOST_FILES = 100_000, 200
_LEFT_OUT = {"site-packages", "test", "tests"}


@dataclass(frozen=True)
class Documents:
    """Texts, their classes, and where they are from."""

    texts: Sequence[str]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    source: str


def installed_sources() -> Documents:
    """Python sources that every installation has: the standard library's, and NumPy's.

    They stand in for a user's own texts where there are none.
    """
    numpy_spec = importlib.util.find_spec("numpy")
    assert numpy_spec is not None
    assert numpy_spec.origin is not None
    folders = {"standard library": Path(sysconfig.get_paths()["stdlib"]), "NumPy": Path(numpy_spec.origin).parent}
    texts, labels = [], []
    for label, folder in enumerate(folders.values()):
        files = [path for path in folder.rglob("*.py") if not _LEFT_OUT & set(path.relative_to(folder).parts)]
        for path in sorted(files)[:: max(len(files) // _MOST_FILES, 1)][:_MOST_FILES]:
            with path.open("rb") as file:
                texts.append(file.read(_MOST_BYTES).decode("utf-8", errors="ignore"))
                labels.append(label)
    return Documents(texts, np.array(labels), tuple(folders), "Python sources of the standard library and of NumPy")


def _concatenate(texts: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """All bytes on one axis, and where each text begins and how long it is."""
    encoded = [text.encode("utf-8", errors="surrogateescape") for text in texts]
    sizes = np.array([len(one) for one in encoded], np.int64)
    return np.frombuffer(b"".join(encoded), np.uint8), np.cumsum(sizes) - sizes, sizes


def _rows(content: NDArray[np.uint8], starts: NDArray[np.int64], sizes: NDArray[np.int64], length: int) -> Ids:
    """``(n, length)`` ids of the bytes from each start on, padded where a text ends before."""
    places = np.arange(length)
    inside = places < sizes[:, None]
    index = np.where(inside, starts[:, None] + places, 0)
    return np.where(inside, content[index].astype(np.int16) + 1, PADDING).astype(np.int16)


def _check(documents: Documents, length: int, least: int) -> None:
    if length < 1:
        raise UserError(f"Rows of {length} bytes hold nothing; choose a length of at least 1.")
    if len(documents.texts) < least:
        raise UserError(f"{documents.source} has {len(documents.texts)} texts; at least {least} are needed.")


def byte_classification(documents: Documents, length: int, *, passages: int = 0, seed: int = 0) -> LabelledSequences:
    """The beginning of each text as ``length`` bytes, or passages drawn from the texts, and its class.

    Args:
        documents: texts with classes.
        length: bytes of a row.
        passages: draw so many, from anywhere in the texts of every class alike; with 0 each text is a row.
        seed: decides the passages.

    Raises:
        UserError: there are fewer than two texts or classes, or no text of a class has any bytes.
    """
    _check(documents, length, 2)
    if len(documents.class_names) < 2:
        raise UserError(f"{documents.source} has one class, {documents.class_names[0]!r}; at least two are needed.")
    content, starts, sizes = _concatenate(documents.texts)
    labels = documents.labels
    if passages:
        random = np.random.default_rng(seed)
        labels = np.arange(passages) % len(documents.class_names)
        texts = _draw_texts(random, sizes, documents.labels, labels, documents.source)
        offset = random.integers(np.maximum(sizes[texts] - length, 0) + 1)
        starts, sizes = starts[texts] + offset, sizes[texts] - offset
    ids = _rows(content, starts, sizes, length)
    return LabelledSequences(ids, labels, VOCABULARY, len(documents.class_names), PADDING, documents.source)


def _draw_texts(
    random: np.random.Generator,
    sizes: NDArray[np.int64],
    text_labels: NDArray[np.int64],
    labels: NDArray[np.int64],
    source: str,
) -> NDArray[np.int64]:
    """A text of each wanted class, longer ones more often."""
    texts = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        weights = np.where(text_labels == label, sizes, 0).astype(np.float64)
        if not weights.sum():
            raise UserError(f"{source} has no bytes of its class number {label}; give texts that are not empty.")
        wanted = labels == label
        texts[wanted] = random.choice(len(sizes), size=int(wanted.sum()), p=weights / weights.sum())
    return texts


def byte_retrieval(documents: Documents, length: int, count: int, *, seed: int = 0) -> LabelledSequences:
    """Pairs of passages of ``length`` bytes; the class says whether they are from one document, without overlap.

    Args:
        documents: texts; those shorter than two passages serve for pairs of different documents alone.
        length: bytes of each passage.
        count: number of pairs, half of each class.
        seed: decides all.

    Raises:
        UserError: there are fewer than two texts with a passage, or none with two.
    """
    _check(documents, length, 2)
    content, starts, sizes = _concatenate(documents.texts)
    whole, twice = np.flatnonzero(sizes >= length), np.flatnonzero(sizes >= 2 * length)
    if len(whole) < 2 or not len(twice):
        raise UserError(
            f"{documents.source} has {len(whole)} texts of {length} bytes and {len(twice)} of twice as many; at least "
            "2 and 1 are needed: give longer texts, or choose a smaller length."
        )
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    first = np.where(labels == 1, random.choice(twice, count), random.choice(whole, count))
    other = whole[random.integers(len(whole) - 1, size=count)]
    other = np.where(other == first, whole[-1], other)  # any of the others, each as often
    second = np.where(labels == 1, first, other)
    spare = sizes[first] - np.where(labels == 1, 2, 1) * length
    begin = random.integers(spare + 1)
    later = begin + length + random.integers(spare - begin + 1)  # of one document: behind the first passage
    elsewhere = random.integers(sizes[second] - length + 1)
    passages = [starts[first] + begin, starts[second] + np.where(labels == 1, later, elsewhere)]
    swapped = random.random(count) < 0.5
    rows = [
        _rows(content, np.where(swapped, a, b), np.full(count, length), length) for a, b in (passages, passages[::-1])
    ]
    source = f"pairs of passages of {documents.source}"
    return LabelledSequences(np.concatenate(rows, axis=1), labels, VOCABULARY, 2, PADDING, source, pairs=True)


def split_documents(documents: Documents, *, test_share: float = 0.2, seed: int = 0) -> tuple[Documents, Documents]:
    """Documents to train and to test with, so that no passage of one is in both; every class in both where it can be.

    Raises:
        UserError: there are too few documents to have both.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(documents.texts))
    order = order[np.argsort(documents.labels[order], kind="stable")]
    _, place, counts = np.unique(documents.labels[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(place, counts)
    tested = rank < np.repeat(np.maximum(np.floor(test_share * counts), 1), counts)
    if tested.all():
        raise UserError(f"{documents.source} has {len(documents.texts)} texts; each class needs at least two.")

    def part(chosen: NDArray[np.int64]) -> Documents:
        texts = [documents.texts[index] for index in chosen]
        return Documents(texts, documents.labels[chosen], documents.class_names, documents.source)

    return part(np.sort(order[~tested])), part(np.sort(order[tested]))

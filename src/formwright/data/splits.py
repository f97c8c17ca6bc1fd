"""Training, validation and test parts: stratified, seeded, recorded, and without a picture in two of them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from formwright.errors import UserError
from formwright.files import write_atomically

TRAIN, VAL, TEST = 0, 1, 2
TEST_SHARE = 0.15
VAL_SHARE = 0.15
#: More validation pictures than this narrow the score's interval little and are missed in training.
VAL_MOST = 5_000
SCHEMA_VERSION = 1

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Ascending indices of the training, validation and test pictures; no picture's content is in two of them.

    ``dropped`` are in none: copies of a given test or validation picture that lay in a training or validation folder.
    ``copies`` counts the pictures whose content occurs earlier in the data already, ``contradictions`` those whose
    content occurs under another label too.
    """

    train: Indices
    val: Indices
    test: Indices
    dropped: Indices
    copies: int
    contradictions: int

    def part(self, name: str) -> Indices:
        """The indices of ``"train"``, ``"val"`` or ``"test"``."""
        return {"train": self.train, "val": self.val, "test": self.test}[name]


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Different names of classes: numbers by their values, then others by their letters."""

    def key(name: str) -> tuple[bool, float, str]:
        try:
            value = float(name)
        except ValueError:
            value = math.nan
        return (False, value, name) if math.isfinite(value) else (True, 0.0, name)

    return tuple(sorted(set(names), key=key))


def content_digests(images: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """One 64-bit digest (BLAKE2b) per picture of ``(n, ...)``: equal for equal pixels."""
    digests = (hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=8).digest() for image in images)
    return np.frombuffer(b"".join(digests), np.uint64)


def split_pictures(
    labels: NDArray[np.int64],
    digests: NDArray[np.uint64],
    parts: NDArray[np.int8],
    class_names: Sequence[str],
    seed: int,
    *,
    samples: str = "pictures",
) -> Split:
    """Divide the pictures, or what else the ``samples`` are.

    A part that is given (in ``parts``) is kept, a missing one is drawn from the training part.

    15 % of each class become the test part, then 15 % of the rest (5,000 pictures at most) the validation part, and
    at least one of each class in each. Pictures with the same content always go to the same part; where the given
    parts share content, the test part keeps it, then the validation part.

    Raises:
        UserError: a class has too few different pictures to be in every part.
    """
    _, groups = np.unique(digests, return_inverse=True)
    test = np.flatnonzero(parts == TEST)
    val = np.flatnonzero(parts == VAL)
    pool = np.flatnonzero(parts == TRAIN)
    val = val[~np.isin(groups[val], groups[test])]
    pool = pool[~np.isin(groups[pool], groups[np.concatenate([test, val])])]
    dropped = np.setdiff1d(np.arange(len(labels)), np.concatenate([pool, val, test]))
    given = {part for part, indices in ((TEST, test), (VAL, val)) if len(indices)}
    check_class_counts(
        np.bincount(labels[_first(groups, pool)], minlength=len(class_names)), class_names, given, samples
    )
    if TEST not in given:
        test = _draw(labels, groups, pool, TEST_SHARE, rng=np.random.default_rng([seed, TEST]))
        pool = np.setdiff1d(pool, test)
    if VAL not in given:
        share = min(VAL_SHARE, VAL_MOST / len(pool))
        val = _draw(labels, groups, pool, share, rng=np.random.default_rng([seed, VAL]))
        pool = np.setdiff1d(pool, val)
    return Split(
        train=pool,
        val=val,
        test=test,
        dropped=dropped,
        copies=len(groups) - len(np.unique(groups)),
        contradictions=_count_contradictions(labels, groups),
    )


def evenly_spaced(indices: Indices, most: int) -> Indices:
    """At most ``most`` of ``indices``, evenly spaced, the first and the last among them."""
    return indices[np.unique(np.linspace(0, len(indices) - 1, min(most, len(indices))).astype(np.int64))]


def _count_contradictions(labels: NDArray[np.int64], groups: Indices) -> int:
    pairs = np.unique(np.stack([groups, labels]), axis=1)[0]
    return int(np.isin(groups, np.flatnonzero(np.bincount(pairs) > 1)).sum())


def _first(groups: Indices, pool: Indices) -> Indices:
    """The first picture of each group of equal ones in ``pool``."""
    return np.sort(pool[np.unique(groups[pool], return_index=True)[1]])


def check_class_counts(
    counts: NDArray[np.int64], class_names: Sequence[str], given: Collection[int], samples: str = "pictures"
) -> None:
    """Check that each class has a picture for training and one for each part that is not given.

    Raises:
        UserError: names the classes that have too few.
    """
    needed = 1 + len({VAL, TEST} - set(given))
    scarce = [f"{name} ({count})" for name, count in zip(class_names, counts, strict=True) if count < needed]
    if scarce:
        listed = ", ".join(scarce[:5]) + (f" and {len(scarce) - 5} more" if len(scarce) > 5 else "")
        raise UserError(
            f"{len(scarce)} of {len(class_names)} classes have too few different {samples} to train on: {listed}; "
            f"at least {needed} per class are expected, so that each part has one: add {samples} or remove the class."
        )


def _draw(labels: NDArray[np.int64], groups: Indices, pool: Indices, share: float, rng: np.random.Generator) -> Indices:
    """Draw ``share`` of each class's different pictures, at least one; copies come along."""
    first = _first(groups, pool)
    chosen: list[Indices] = []
    for label in np.unique(labels[first]):
        candidates = rng.permutation(groups[first[labels[first] == label]])
        chosen.append(candidates[: max(1, round(share * len(candidates)))])
    return pool[np.isin(groups[pool], np.concatenate(chosen))]


def fingerprint(names: Sequence[str], labels: NDArray[np.int64], digests: NDArray[np.uint64]) -> str:
    """SHA-256 over every picture's name, label and content digest, in order."""
    total = hashlib.sha256()
    for name, label, digest in zip(names, labels.tolist(), digests.tolist(), strict=True):
        total.update(f"{name}\0{label}\0{digest:016x}\n".encode(errors="surrogateescape"))
    return total.hexdigest()


def save_splits(path: str | Path, split: Split, names: Sequence[str], data_hash: str, seed: int) -> None:
    """Record which picture is in which part, as JSON, atomically."""
    record: dict[str, object] = {"schema_version": SCHEMA_VERSION, "seed": seed, "data_hash": data_hash}
    for part in ("train", "val", "test", "dropped"):
        record[part] = [names[index] for index in getattr(split, part)]
    write_atomically(path, json.dumps(record, indent=0) + "\n")


def check_splits(
    path: str | Path, split: Split, names: Sequence[str], data_hash: str, samples: str = "pictures"
) -> None:
    """Check that the data and its parts are those that :func:`save_splits` recorded.

    Raises:
        UserError: the record cannot be read, or the pictures, their labels or their parts have changed since.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        version = record["schema_version"]
        same = record["data_hash"] == data_hash
        same_parts = all(
            record[part] == [names[index] for index in getattr(split, part)] for part in ("train", "val", "test")
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a record of splits ({error}); start a new run in an empty folder.") from error
    if version != SCHEMA_VERSION:
        raise UserError(f"{path} has schema version {version}; {SCHEMA_VERSION} is expected: start a new run.")
    if not same:
        raise UserError(
            f"The {samples} are not those that {path} was recorded with; the same files, labels and sizes are "
            "expected: restore them, or start a new run in an empty folder."
        )
    if not same_parts:
        raise UserError(f"The parts differ from those in {path}; give the same seed, or start a new run.")

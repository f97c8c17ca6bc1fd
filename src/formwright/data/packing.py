"""Several sequences in a row of tokens, so that few tokens are padding, and the way back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from formwright.errors import UserError

#: The segment of what fills up a row, which belongs to no sequence.
FILLING = -1


def pack(
    sequences: Sequence[ArrayLike], length: int | None = None, *, padding: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of ``length`` ids, each of as many whole sequences as fit, and the number of each id's sequence in its row.

    >>> ids, segments = pack([[5, 6, 7], [8], [9, 4]], length=4)
    >>> ids.tolist(), segments.tolist()
    ([[5, 6, 7, 8], [9, 4, 0, 0]], [[0, 0, 0, 1], [0, 0, -1, -1]])

    A network takes both, ``model(ids, segments=segments)``, and gives for each sequence what it gives for it alone.
    The order of the sequences is kept; :func:`unpack` is the inverse.

    Args:
        sequences: of ids, each of at least one.
        length: ids of a row; by default all sequences make one row.
        padding: the id that fills up a row; its segment is -1.

    Returns:
        Ids and segments, both ``(rows, length)``.

    Raises:
        UserError: a sequence is empty, or longer than a row.
    """
    arrays = [np.asarray(sequence, np.int64) for sequence in sequences]
    length = sum(map(len, arrays)) if length is None else length
    for index, array in enumerate(arrays):
        if array.ndim != 1 or not 0 < len(array) <= length:
            raise UserError(
                f"Sequences of 1 to {length} ids can be packed in rows of {length}, and number {index} has shape "
                f"{array.shape}; cut it, leave it out or choose longer rows."
            )
    rows: list[list[NDArray[np.int64]]] = []
    for array in arrays:
        if not rows or sum(map(len, rows[-1])) + len(array) > length:
            rows.append([])
        rows[-1].append(array)
    ids = np.full((len(rows), length), padding, np.int64)
    segments = np.full_like(ids, FILLING)
    for row, packed in enumerate(rows):
        joined = np.concatenate(packed)
        ids[row, : len(joined)] = joined
        segments[row, : len(joined)] = np.repeat(np.arange(len(packed)), [len(array) for array in packed])
    return ids, segments


def unpack(values: ArrayLike, segments: ArrayLike) -> list[NDArray[np.generic]]:
    """What belongs to each sequence, in the order of :func:`pack`: its ids, or what a model gave for each of them.

    >>> ids, segments = pack([[5, 6, 7], [8], [9, 4]], length=4)
    >>> [sequence.tolist() for sequence in unpack(ids, segments)]
    [[5, 6, 7], [8], [9, 4]]

    Args:
        values: ``(rows, length, ...)``.
        segments: ``(rows, length)``.
    """
    found: list[NDArray[np.generic]] = []
    for row, numbers in zip(np.asarray(values), np.asarray(segments), strict=True):
        pieces = np.split(row, np.flatnonzero(np.diff(numbers)) + 1)
        kinds = np.split(numbers, np.flatnonzero(np.diff(numbers)) + 1)
        found += [piece for piece, kind in zip(pieces, kinds, strict=True) if len(kind) and kind[0] >= 0]
    return found


def next_ids(ids: NDArray[np.int64], segments: NDArray[np.int64]) -> NDArray[np.int64]:
    """What comes next in the same sequence, the targets of a language model; -1 where nothing does.

    >>> next_ids(*pack([[5, 6, 7], [8], [9, 4]], length=4)).tolist()
    [[6, 7, -1, -1], [4, -1, -1, -1]]
    """
    targets = np.full_like(ids, -1)
    same = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] != FILLING)
    targets[:, :-1] = np.where(same, ids[:, 1:], -1)
    return targets

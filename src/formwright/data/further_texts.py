"""Further texts for a teacher to answer: pieces of those that are there, with words replaced by similar ones.

Source: Distilling Task-Specific Knowledge from BERT into Simple Neural Networks, arXiv 1903.12136 (pieces and left-out
words); TinyBERT, arXiv 1909.10351 (words replaced by near ones of a table of embeddings).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: Similar tokens to choose from, the share of tokens that is replaced, and the share of texts that are cut to a piece.
NEIGHBOURS, REPLACED, PIECES = 8, 0.3, 0.5
#: Fewest tokens of a piece, and rows of a table that are compared at once.
SHORTEST, _CHUNK = 2, 1024

Ids = NDArray[np.int64]


def nearest_rows(table: NDArray[np.float32], rows: Ids, count: int = NEIGHBOURS, *, leaving_out: Sequence[int]) -> Ids:
    """The ``count`` rows of a table that are most similar to each of ``rows`` by the cosine, itself left out.

    Shapes: ``(all, dim)`` and ``(rows,)`` to ``(rows, count)``.
    """
    unit = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-9)
    found = []
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        near = unit[chunk] @ unit.T
        near[np.arange(len(chunk)), chunk] = -np.inf
        near[:, list(leaving_out)] = -np.inf
        found.append(np.argpartition(-near, count, axis=1)[:, :count])
    return np.concatenate(found) if found else np.zeros((0, count), np.int64)


def further_texts(
    texts: Sequence[Ids], table: NDArray[np.float32], count: int, *, seed: int, special: Sequence[int] = ()
) -> list[Ids]:
    """``count`` texts made of those that are there.

    Args:
        texts: ids of each, without special tokens.
        table: embeddings of all tokens ``(vocabulary, dim)``.
        seed: of everything that is drawn.
        special: ids that replace none.
    """
    random = np.random.default_rng(seed)
    texts = [text for text in texts if len(text)]
    used = np.unique(np.concatenate(texts)) if texts else np.zeros(0, np.int64)
    near = nearest_rows(table, used, leaving_out=special)
    place = np.zeros(len(table), np.int64)
    place[used] = np.arange(len(used))
    made = []
    for chosen in random.integers(len(texts), size=count) if texts else ():
        text = texts[chosen]
        if random.random() < PIECES and len(text) > SHORTEST:
            length = int(random.integers(SHORTEST, len(text)))
            start = int(random.integers(len(text) - length + 1))
            text = text[start : start + length]
        similar = near[place[text], random.integers(near.shape[1], size=len(text))]
        made.append(np.where(random.random(len(text)) < REPLACED, similar, text))
    return made

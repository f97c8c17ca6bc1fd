"""Further texts for a teacher to answer: pieces of those that are there, with words replaced by similar ones.

Source: Distilling Task-Specific Knowledge from BERT into Simple Neural Networks, arXiv 1903.12136 (pieces and left-out
words); TinyBERT, arXiv 1909.10351 (words replaced by near ones of a table of embeddings).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

#: Similar tokens to choose from, the share of tokens that is replaced, and the share of texts that are cut to a piece.
NEIGHBOURS, REPLACED, PIECES = 8, 0.3, 0.5
#: Fewest tokens of a piece, and rows of a table that are compared at once.
SHORTEST, _CHUNK = 2, 1024

Ids = NDArray[np.int64]


class FurtherTexts:
    """Texts made of others.

    Args:
        texts: ids of each, without special tokens.
        table: embeddings of all tokens ``(vocabulary, dim)``.
        special: ids that replace none.
    """

    def __init__(self, texts: Sequence[Ids], table: NDArray[np.float32], *, special: Sequence[int] = ()) -> None:
        self._texts = [text for text in texts if len(text)]
        used = np.unique(np.concatenate(self._texts)) if self._texts else np.zeros(0, np.int64)
        self._near = nearest_rows(table, used, leaving_out=special)
        self._place = np.zeros(len(table), np.int64)
        self._place[used] = np.arange(len(used))

    def make(self, count: int, *, seed: int) -> list[Ids]:
        """So many texts; none where there are none to begin with."""
        random = np.random.default_rng(seed)
        made = []
        for chosen in random.integers(len(self._texts), size=count) if self._texts else ():
            text = self._texts[chosen]
            if random.random() < PIECES and len(text) > SHORTEST:
                length = int(random.integers(SHORTEST, len(text)))
                start = int(random.integers(len(text) - length + 1))
                text = text[start : start + length]
            similar = self._near[self._place[text], random.integers(self._near.shape[1], size=len(text))]
            made.append(np.where(random.random(len(text)) < REPLACED, similar, text))
        return made


def nearest_rows(table: NDArray[np.float32], rows: Ids, count: int = NEIGHBOURS, *, leaving_out: Sequence[int]) -> Ids:
    """The ``count`` rows of a table that are most similar to each of ``rows`` by the cosine, itself left out.

    Shapes: ``(all, dim)`` and ``(rows,)`` to ``(rows, count)``.
    """
    unit = torch.from_numpy(table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-9))
    found = [np.zeros((0, count), np.int64)]
    for chunk in torch.split(torch.from_numpy(rows), _CHUNK):
        near = unit[chunk] @ unit.T
        near[torch.arange(len(chunk)), chunk] = -torch.inf
        near[:, list(leaving_out)] = -torch.inf
        found.append(near.topk(count, sorted=False).indices.numpy())
    return np.concatenate(found)

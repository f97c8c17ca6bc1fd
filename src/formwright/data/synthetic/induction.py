"""Induction: what followed the sign when it was seen before?"""

from __future__ import annotations

import torch

from formwright.batch import IGNORED, Batch
from formwright.errors import UserError

SIGN = 0


def induction(batch: int, length: int, *, generator: torch.Generator, vocabulary: int = 16) -> Batch:
    """Rows of random ids in which ``SIGN`` stands once, and again at the end; the target there is what followed it.

    Args:
        batch: number of rows.
        length: ids of a row, the last sign included.
        generator: decides ids and places.
        vocabulary: number of ids, the sign included.

    Raises:
        UserError: the row is too short for the sign, what follows it and the sign again, or the vocabulary too small.

    Source: Mamba, arXiv 2312.00752, after In-context Learning and Induction Heads, arXiv 2209.11895.
    """
    if length < 3 or vocabulary < 2:
        raise UserError(
            f"Rows of {length} ids from a vocabulary of {vocabulary} hold no induction; choose at least 3 ids, and 2."
        )
    ids = torch.randint(1, vocabulary, (batch, length), generator=generator)
    places = torch.randint(length - 2, (batch, 1), generator=generator)
    ids.scatter_(1, places, SIGN)
    ids[:, -1] = SIGN
    targets = torch.full_like(ids, IGNORED)
    targets[:, -1:] = ids.gather(1, places + 1)
    return Batch(ids, targets)

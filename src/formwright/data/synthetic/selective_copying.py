"""Selective copying: say the tokens that stood among noise, in their order."""

from __future__ import annotations

import torch

from formwright.batch import IGNORED, Batch
from formwright.errors import UserError

NOISE, SAY = 0, 1
#: Ids that are no tokens to be copied.
SPECIAL = 2


def selective_copying(
    batch: int, length: int, *, generator: torch.Generator, tokens: int = 16, vocabulary: int = 16
) -> Batch:
    """Rows of ``length`` ids, ``tokens`` of them at random places and the rest noise, then ``tokens`` times ``SAY``.

    The targets at ``SAY`` are the tokens in their order, the others ``IGNORED``. Distances differ from row to row, so a
    model must choose what to remember by what it is, not by where it is.

    Args:
        batch: number of rows.
        length: ids before the first ``SAY``.
        generator: decides tokens and places.
        tokens: how many are to be copied.
        vocabulary: number of ids, noise and ``SAY`` included.

    Raises:
        UserError: the row is too short for its tokens, or the vocabulary has none.

    Source: Mamba, arXiv 2312.00752, after Unitary Evolution Recurrent Neural Networks, arXiv 1511.06464.
    """
    if not 1 <= tokens <= length or vocabulary <= SPECIAL:
        raise UserError(
            f"{tokens} tokens of {vocabulary - SPECIAL} kinds cannot stand among {length} ids; choose 1 to {length} "
            f"tokens, and a vocabulary of more than {SPECIAL}."
        )
    content = torch.randint(SPECIAL, vocabulary, (batch, tokens), generator=generator)
    places = torch.rand(batch, length, generator=generator).argsort(1)[:, :tokens].sort(1).values
    ids = torch.full((batch, length + tokens), NOISE)
    ids[:, length:] = SAY
    ids.scatter_(1, places, content)
    targets = torch.full_like(ids, IGNORED)
    targets[:, length:] = content
    return Batch(ids, targets)

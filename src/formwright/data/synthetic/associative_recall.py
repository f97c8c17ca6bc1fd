"""Multi-query associative recall: pairs of keys and values, then the keys again; what were their values?"""

from __future__ import annotations

import torch

from formwright.batch import IGNORED, Batch
from formwright.errors import UserError

BLANK = 0


def associative_recall(
    batch: int, length: int, *, pairs: int, generator: torch.Generator, vocabulary: int = 129
) -> Batch:
    """Rows that begin with ``pairs`` different keys, each followed by its value, and ask for every key once later.

    A question is the key followed by its value, at a random place; the rest is ``BLANK``. The target at the key of a
    question is the value, all others are ``IGNORED``. The lower half of the ids above ``BLANK`` are keys, the upper
    half values; a value may stand under several keys.

    Args:
        batch: number of rows.
        length: ids of a row.
        pairs: how many keys there are to be remembered in a row.
        generator: decides keys, values and places.
        vocabulary: number of ids, the blank included.

    Raises:
        UserError: the row is too short for its pairs and questions, or there are fewer keys than pairs.

    Source: Zoology: Measuring and Improving Recall in Efficient Language Models, arXiv 2312.04927. There questions
    come the sooner the likelier; here all places are alike.
    """
    keys = (vocabulary - 1) // 2
    slots = (length - 2 * pairs) // 2
    if pairs < 1 or pairs > keys or slots < pairs:
        raise UserError(
            f"{pairs} pairs do not fit rows of {length} ids with {keys} keys; choose 1 to {keys} pairs, and rows of at "
            "least 4 ids a pair."
        )
    key = 1 + torch.rand(batch, keys, generator=generator).argsort(1)[:, :pairs]
    value = torch.randint(1 + keys, 1 + 2 * keys, (batch, pairs), generator=generator)
    ids = torch.full((batch, length), BLANK)
    ids[:, : 2 * pairs] = torch.stack([key, value], dim=2).flatten(1)
    place = 2 * pairs + 2 * torch.rand(batch, slots, generator=generator).argsort(1)[:, :pairs]
    ids.scatter_(1, place, key).scatter_(1, place + 1, value)
    targets = torch.full_like(ids, IGNORED).scatter_(1, place, value)
    return Batch(ids, targets)

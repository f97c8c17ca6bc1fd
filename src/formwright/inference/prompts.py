"""The ids that a model is given to continue or to read, whatever runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

from formwright.errors import UserError


def check_prompts(rows: Sequence[Sequence[int]], vocabulary: int) -> None:
    """Refuse prompts without ids, or with ids that the vocabulary does not have.

    Raises:
        UserError: says which.
    """
    empty = [index for index, row in enumerate(rows) if not row]
    if empty or not rows:
        which = f"prompt {empty[0] + 1} of {len(rows)} is empty" if rows else "there is none"
        raise UserError(f"A text is continued from a prompt of at least one token, and {which}.")
    for row in rows:
        if min(row) < 0 or max(row) >= vocabulary:
            raise UserError(
                f"The vocabulary has {vocabulary} tokens, and a prompt has ids from {min(row)} to {max(row)}: it was "
                "split by another tokeniser than the model was made for."
            )


def in_one_array(rows: Sequence[Sequence[int]], padding: int | None) -> Int[NDArray[Any], "batch longest"]:
    """Rows of ids side by side, shorter ones filled up.

    Raises:
        UserError: they are not of one length, and there is no padding.
    """
    if padding is None and len({len(row) for row in rows}) > 1:
        raise UserError("The model knows no padding, so that it reads prompts of one length at a time; got several.")
    padded = np.full((len(rows), max(map(len, rows))), padding or 0, np.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded

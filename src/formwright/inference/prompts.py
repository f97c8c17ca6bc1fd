"""What a model of language is given to continue or to read, and gets back as text, whatever runs it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

from formwright.data.tokenization import Tokenizer
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


def in_text(
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    generate: Callable[[list[list[int]], set[int]], Iterable[list[int | None]]],
    *,
    vocabulary: int,
    stop: Collection[int],
) -> Iterator[list[str]]:
    """The next piece of each row's text, empty where there is none yet or the row has ended.

    Args:
        tokenizer: of the model.
        prompts: texts.
        generate: the next ids of rows of ids, given those that end a row.
        vocabulary: how many ids the model knows.
        stop: ids that end a row besides the tokeniser's end.

    Raises:
        UserError: the tokeniser belongs to another model.
    """
    tokenizer.check_fits(vocabulary)
    ended = {tokenizer.end} if tokenizer.end is not None else set()
    rows = [tokenizer.encode(prompt, special=True) for prompt in prompts]
    yield from tokenizer.pieces(generate(rows, {*stop, *ended}), len(rows))

"""A phonebook: names and their numbers, and then the numbers of some of them."""

from __future__ import annotations

import torch

from formwright.batch import IGNORED, Batch
from formwright.errors import UserError

ASK = 0
DIGITS = 10
#: Ids before those of the names.
SPECIAL = 1 + DIGITS


def phonebook(
    batch: int,
    *,
    generator: torch.Generator,
    entries: int = 20,
    digits: int = 3,
    queries: int = 1,
    names: int = 64,
) -> Batch:
    """Rows of ``entries`` different names, each with its number, then ``queries`` times ``ASK``, a name and its number.

    A name is one id, a digit another; their vocabulary is ``SPECIAL + names``. What is to be predicted is each digit of
    the answers, from what stands before it.

    Args:
        batch: number of rows.
        generator: decides names, numbers and queries.
        entries: names in the book.
        digits: digits of a number.
        queries: different names that are asked for.
        names: number of names there are.

    Raises:
        UserError: there are fewer names than entries, fewer entries than queries, or no digits.

    Source: An Empirical Study of Mamba-based Language Models, arXiv 2406.07887, whose names are words.
    """
    if not 1 <= queries <= entries <= names or digits < 1:
        raise UserError(
            f"A book of {entries} entries of {digits} digits with {queries} queries cannot be made of {names} names; "
            "queries, entries and names must grow in this order, and a number needs a digit."
        )
    chosen = torch.rand(batch, names, generator=generator).argsort(1)[:, :entries] + SPECIAL
    numbers = torch.randint(1, SPECIAL, (batch, entries, digits), generator=generator)
    book = torch.cat([chosen.unsqueeze(-1), numbers], dim=-1)
    asked = torch.rand(batch, entries, generator=generator).argsort(1)[:, :queries]
    answers = book.gather(1, asked.unsqueeze(-1).expand(-1, -1, 1 + digits))
    questions = torch.cat([torch.full_like(answers[..., :1], ASK), answers], dim=-1)
    ids = torch.cat([book.flatten(1), questions.flatten(1)], dim=1)
    wanted = torch.zeros_like(questions, dtype=torch.bool)
    wanted[..., 2:] = True
    is_answer = torch.cat([torch.zeros_like(book.flatten(1), dtype=torch.bool), wanted.flatten(1)], dim=1)
    targets = torch.where(is_answer, ids, IGNORED)
    return Batch(ids[:, :-1], targets[:, 1:])

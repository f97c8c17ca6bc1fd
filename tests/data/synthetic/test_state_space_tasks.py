"""Selective copying, induction and phonebooks: every row says what its targets are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from formwright.batch import IGNORED, Batch
from formwright.data.synthetic import induction as induction_module
from formwright.data.synthetic import phonebook as phonebook_module
from formwright.data.synthetic import selective_copying as copying_module
from formwright.data.synthetic.induction import induction
from formwright.data.synthetic.phonebook import phonebook
from formwright.data.synthetic.selective_copying import selective_copying
from formwright.errors import UserError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_what_is_to_be_copied_stands_in_the_row_in_order() -> None:
    ids, targets = selective_copying(50, 30, tokens=5, vocabulary=9, generator=generator())
    assert ids.shape == targets.shape == (50, 35)
    assert (ids[:, 30:] == copying_module.SAY).all()
    assert (targets[:, :30] == IGNORED).all()
    for row, wanted in zip(ids[:, :30], targets[:, 30:], strict=True):
        assert torch.equal(row[row != copying_module.NOISE], wanted)
        assert ((wanted >= copying_module.SPECIAL) & (wanted < 9)).all()


def test_what_followed_the_sign_is_asked() -> None:
    ids, targets = induction(200, 6, vocabulary=5, generator=generator())
    assert (targets[:, :-1] == IGNORED).all()
    sign = induction_module.SIGN
    for row, wanted in zip(ids.tolist(), targets[:, -1].tolist(), strict=True):
        assert row.count(sign) == 2
        assert row[-1] == sign
        assert row[row.index(sign) + 1] == wanted != sign


def test_numbers_of_a_phonebook_are_those_of_the_book() -> None:
    entries, digits, queries = 6, 3, 2
    ids, targets = phonebook(40, entries=entries, digits=digits, queries=queries, names=12, generator=generator())
    for row, wanted in zip(ids.tolist(), targets.tolist(), strict=True):
        book = {
            row[start]: row[start + 1 : start + 1 + digits] for start in range(0, entries * (1 + digits), 1 + digits)
        }
        assert len(book) == entries
        rest = row[entries * (1 + digits) :]
        for query in range(queries):
            start = query * (2 + digits)
            assert rest[start] == phonebook_module.ASK
            answers = wanted[entries * (1 + digits) + start + 1 :][:digits]
            assert answers == book[rest[start + 1]]
        assert sum(value != IGNORED for value in wanted) == queries * digits


TASKS: dict[str, tuple[Callable[..., Batch], dict[str, Any], dict[str, Any]]] = {
    "selective-copying": (selective_copying, {"length": 20}, {"length": 5}),
    "induction": (induction, {"length": 20}, {"length": 2}),
    "phonebook": (phonebook, {}, {"entries": 65}),
}


@pytest.mark.parametrize("name", TASKS)
def test_the_seed_decides(name: str) -> None:
    make, options, _ = TASKS[name]
    first, again, other = (make(8, generator=generator(seed), **options) for seed in (1, 1, 2))
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.targets, again.targets)
    assert not torch.equal(first.inputs, other.inputs)


@pytest.mark.parametrize("name", TASKS)
def test_what_does_not_fit_is_refused(name: str) -> None:
    make, _, options = TASKS[name]
    with pytest.raises(UserError, match=r"choose|must"):
        make(8, generator=generator(), **options)

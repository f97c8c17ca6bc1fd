"""ListOps rows are trees of the grammar, and their labels what a reader of the text computes."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from formwright.data.synthetic.listops import as_text, listops
from formwright.errors import UserError

OPERATORS = {
    "[MIN": min,
    "[MAX": max,
    "[MED": lambda values: int(statistics.median(values)),
    "[SM": lambda values: sum(values) % 10,
}


def evaluate(text: str) -> tuple[int, int, list[int]]:
    """Value, levels and numbers of arguments of a tree, read from left to right with a stack."""
    stack: list[list] = [[]]
    deepest, arguments = 1, []
    for token in text.split():
        if token in OPERATORS:
            stack.append([token])
            deepest = max(deepest, len(stack))
        elif token == "]":
            operator, *values = stack.pop()
            arguments.append(len(values))
            stack[-1].append(OPERATORS[operator](values))
        else:
            stack[-1].append(int(token))
    assert len(stack) == 1
    assert len(stack[0]) == 1
    return stack[0][0], deepest, arguments


def test_the_reader_reads_rightly() -> None:
    assert evaluate("[MAX 2 9 [MIN 4 7 ] 0 ]") == (9, 3, [2, 4])
    assert evaluate("[SM 8 9 ]")[0] == 7
    assert evaluate("[MED 1 2 3 4 ]")[0] == 2


def test_labels_are_what_the_lists_come_to() -> None:
    data = listops(200, seed=1)
    arguments = []
    for ids, label in zip(data.ids, data.labels, strict=True):
        value, levels, counts = evaluate(as_text(ids))
        assert value == label
        assert levels <= 10
        arguments += counts
        assert 500 < (ids != 0).sum() < 2000
        assert (ids[(ids != 0).sum() :] == 0).all(), "padding is behind the tree"
    assert set(arguments) == set(range(2, 11))
    assert np.mean(arguments) == pytest.approx(6, abs=0.1)
    assert len(np.unique(data.ids, axis=0)) == 200
    assert set(np.unique(data.labels)) == set(range(10))
    assert (data.vocabulary, data.classes, data.length) == (16, 10, 2000)


def test_the_same_seed_gives_the_same_trees() -> None:
    first, again, other = (listops(20, seed=seed).ids for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_short_ones_too() -> None:
    data = listops(500, min_length=10, max_length=40, max_depth=4, max_arguments=5)
    for ids, label in zip(data.ids, data.labels, strict=True):
        value, levels, counts = evaluate(as_text(ids))
        assert (value == label, levels <= 4, max(counts) <= 5) == (True, True, True)


@pytest.mark.parametrize("options", [{"min_length": 50, "max_length": 40}, {"max_depth": 1}, {"max_arguments": 1}])
def test_what_cannot_be_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(UserError, match="ListOps was asked for 5 trees"):
        listops(5, **options)


def test_trees_that_are_not_found_are_given_up() -> None:
    with pytest.raises(UserError, match="allow more lengths or levels"):
        listops(5, min_length=500, max_length=600, max_depth=2)

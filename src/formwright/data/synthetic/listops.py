"""ListOps: nested lists of digits under MIN, MAX, MED and SM (the sum modulo ten), and what they come to.

``[MAX 2 9 [MIN 4 7 ] 0 ]`` is 9. Trees of all rows grow, are computed and are written down together, a level at a time.

Sources: ListOps: A Diagnostic Dataset for Latent Tree Learning, arXiv 1804.06028; the grammar and lengths of Long Range
Arena, arXiv 2011.04006: a node is an operator with probability 1/4, has 2 to 10 arguments, and a tree has at most 10
levels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from formwright.data.synthetic.sequences import LabelledSequences
from formwright.errors import UserError

PADDING = 0
FIRST_DIGIT = 1
OPERATORS = ("[MIN", "[MAX", "[MED", "[SM")
FIRST_OPERATOR = FIRST_DIGIT + 10
END = FIRST_OPERATOR + len(OPERATORS)
#: What each id stands for.
TOKENS = ("", *map(str, range(10)), *OPERATORS, "]")
VOCABULARY = len(TOKENS)

_OPERATOR_SHARE = 0.25
_CANDIDATES = 4096
_MOST_CANDIDATES = 4_000_000

Numbers = NDArray[np.int64]


class _Level(NamedTuple):
    """The nodes of one depth, children of one parent side by side."""

    row: Numbers
    parent: Numbers
    operator: Numbers  # its number, or -1 for a digit
    value: Numbers
    length: Numbers


def listops(
    count: int,
    *,
    min_length: int = 500,
    max_length: int = 2000,
    max_depth: int = 10,
    max_arguments: int = 10,
    seed: int = 0,
) -> LabelledSequences:
    """Distinct trees of more than ``min_length`` and fewer than ``max_length`` tokens, padded to the latter.

    Args:
        count: number of trees.
        max_depth: levels of a tree, a single digit having one.
        max_arguments: most arguments of an operator; the fewest are 2.
        seed: decides all.

    Raises:
        UserError: such trees do not exist, or are too rare to be found.
    """
    if count < 1 or not 0 <= min_length < max_length or max_arguments < 2 or max_depth < 2:
        raise UserError(
            f"ListOps was asked for {count} trees of {min_length} to {max_length} tokens, {max_depth} levels and up to "
            f"{max_arguments} arguments; choose at least one tree, a longer than a shorter length, 2 levels and 2 "
            "arguments."
        )
    random = np.random.default_rng(seed)
    ids: NDArray[np.int16] = np.zeros((0, max_length), np.int16)
    labels: Numbers = np.zeros(0, np.int64)
    tried = 0
    while len(ids) < count:
        if tried >= _MOST_CANDIDATES and len(ids) < count * tried / (100 * _MOST_CANDIDATES):
            raise UserError(
                f"Of {tried:,} trees {len(ids)} had {min_length} to {max_length} tokens, and {count} are needed; allow "
                "more lengths or levels."
            )
        levels = _grow(random, _CANDIDATES, max_depth, max_arguments)
        tried += _CANDIDATES
        length = levels[0].length
        fits = (length > min_length) & (length < max_length)
        if fits.any():
            ids = np.concatenate([ids, _write(levels, fits, max_length)])
            labels = np.concatenate([labels, levels[0].value[fits]])
            _, first = np.unique(ids, axis=0, return_index=True)
            ids, labels = ids[np.sort(first)], labels[np.sort(first)]
    return LabelledSequences(
        ids[:count], labels[:count], VOCABULARY, 10, PADDING, f"ListOps, {min_length} to {max_length} tokens"
    )


def _grow(random: np.random.Generator, trees: int, max_depth: int, max_arguments: int) -> list[_Level]:
    """The levels of so many trees, from the root down."""
    kinds: list[tuple[Numbers, Numbers, Numbers, Numbers]] = []
    row: Numbers = np.arange(trees)
    parent: Numbers = np.full(trees, -1)
    for depth in range(1, max_depth + 1):
        inner = (random.random(len(row)) < _OPERATOR_SHARE) & (depth < max_depth)
        operator = np.where(inner, random.integers(len(OPERATORS), size=len(row)), -1)
        kinds.append((row, parent, operator, random.integers(10, size=len(row))))
        parents = np.flatnonzero(inner)
        children = random.integers(2, max_arguments + 1, size=len(parents))
        parent = np.repeat(parents, children)
        row = row[parent]
        if not len(row):
            break
    levels: list[_Level] = []
    for row, parent, operator, digit in reversed(kinds):
        value, length = digit, np.ones(len(row), np.int64)
        if levels:
            value, length = _compute(levels[-1], operator, digit)
        levels.append(_Level(row, parent, operator, value, length))
    return levels[::-1]


def _compute(children: _Level, operator: Numbers, digit: Numbers) -> tuple[Numbers, Numbers]:
    """Values and lengths of a level from those of the one below."""
    value, length = digit.copy(), np.ones(len(digit), np.int64)
    inner = np.flatnonzero(operator >= 0)
    starts = np.searchsorted(children.parent, inner)
    counts = np.diff(np.append(starts, len(children.parent)))
    ordered = children.value[np.lexsort((children.value, children.parent))]
    low, high = ordered[starts + (counts - 1) // 2], ordered[starts + counts // 2]
    results = (
        ordered[starts],
        ordered[starts + counts - 1],
        (low + high) // 2,  # the authors cut the half off
        np.add.reduceat(children.value, starts) % 10,
    )
    value[inner] = np.choose(operator[inner], results)
    length[inner] = 2 + np.add.reduceat(children.length, starts)
    return value, length


def _write(levels: list[_Level], wanted: NDArray[np.bool_], width: int) -> NDArray[np.int16]:
    """The wanted trees as rows of ids."""
    ids = np.zeros((int(wanted.sum()), width), np.int16)
    line = np.cumsum(wanted) - 1
    start: Numbers = np.zeros(len(wanted), np.int64)
    for depth, level in enumerate(levels):
        if depth:
            before = np.cumsum(level.length) - level.length  # of all nodes of the level to the left
            first = np.searchsorted(level.parent, level.parent)  # the eldest sibling
            start = start[level.parent] + 1 + before - before[first]
        kept = wanted[level.row]
        rows, places = line[level.row[kept]], start[kept]
        operator = level.operator[kept]
        ids[rows, places] = np.where(operator < 0, FIRST_DIGIT + level.value[kept], FIRST_OPERATOR + operator)
        inner = operator >= 0
        ids[rows[inner], places[inner] + level.length[kept][inner] - 1] = END
    return ids


def as_text(ids: NDArray[np.int16]) -> str:
    """A row as it is written: ``[MAX 2 9 [MIN 4 7 ] 0 ]``."""
    return " ".join(TOKENS[number] for number in ids if number != PADDING)

"""Successive halving in seconds: every rung doubles the training time and keeps the better half.

Candidates pause at a rung and go on at the next, so nothing is trained twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Rung:
    """``entrants`` candidates are trained until each has had ``seconds`` of training; ``survivors`` go on."""

    entrants: int
    seconds: float
    survivors: int


def plan_rungs(candidates: int, seconds: float, *, overhead: float = 0.0, finalists: int = 1) -> list[Rung]:
    """Rungs for so many candidates that take ``seconds`` in all.

    The first rung gives each candidate ``r`` seconds, the next one ``2 r`` to half of them, and so on; the whole takes
    ``r (n_1 + n_2 + 2 n_3 + 4 n_4 + ...)`` plus ``overhead`` seconds (evaluation) a candidate and rung.
    """
    entrants = []
    remaining = candidates
    while remaining > finalists:
        entrants.append(remaining)
        remaining = max(finalists, math.ceil(remaining / 2))
    if not entrants:
        return []
    shares = [1.0 if index == 0 else 2.0 ** (index - 1) for index in range(len(entrants))]
    available = max(seconds - overhead * sum(entrants), 0.1 * seconds)
    unit = available / sum(share * count for share, count in zip(shares, entrants, strict=True))
    survivors = [*entrants[1:], finalists]
    return [
        Rung(count, unit * 2.0**index, after)
        for index, (count, after) in enumerate(zip(entrants, survivors, strict=True))
    ]


def survivors(scores: dict[int, float], keep: int, *, favoured: int | None = None, margin: float = 0.0) -> list[int]:
    """The ``keep`` candidates with the best scores, best first; of equal ones the earlier.

    One that is ``favoured`` goes on in place of the last of them while it is within ``margin`` of that one.
    """
    kept = sorted(scores, key=lambda number: (-scores[number], number))[:keep]
    if kept and favoured in scores and favoured not in kept and scores[favoured] >= scores[kept[-1]] - margin:
        kept[-1] = favoured
    return kept

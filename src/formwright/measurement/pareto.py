"""The Pareto front: what no other point beats in every respect."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

Point = TypeVar("Point")


def _costs(point: Any, minimise: Sequence[str], maximise: Sequence[str]) -> tuple[float, ...]:
    def value(name: str) -> float:
        found = point[name] if isinstance(point, Mapping) else getattr(point, name)
        return math.nan if found is None else float(found)

    return (*(value(name) for name in minimise), *(-value(name) for name in maximise))


def pareto_front(points: Sequence[Point], *, minimise: Sequence[str] = (), maximise: Sequence[str] = ()) -> list[Point]:
    """The points that no other point dominates, in their order.

    ``q`` dominates ``p`` if it is at least as good in everything named and better in one. ``minimise`` and
    ``maximise`` name attributes, or keys where points are mappings. A point with a value that is missing (``None``,
    not a number) cannot be compared and is left out; equal points stay together.
    """
    if not minimise and not maximise:
        raise ValueError("a Pareto front needs something to minimise or to maximise")
    costs = [_costs(point, minimise, maximise) for point in points]
    known = [(point, cost) for point, cost in zip(points, costs, strict=True) if not any(map(math.isnan, cost))]

    def dominated(cost: tuple[float, ...]) -> bool:
        return any(other != cost and all(o <= c for o, c in zip(other, cost, strict=True)) for _, other in known)

    return [point for point, cost in known if not dominated(cost)]

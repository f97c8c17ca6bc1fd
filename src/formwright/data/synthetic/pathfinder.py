"""Pathfinder: two dots among dashed curves, and whether one of the curves joins them.

Two long curves and several short ones grow dash by dash, never nearer to each other than a distance. The dots lie at
both ends of one long curve, or at one end of each. All pictures of a chunk are grown and drawn together.

Sources: the task of Learning Long-Range Spatial Dependencies with Horizontal Gated-Recurrent Units, arXiv 1805.08315,
in the sizes of Long Range Arena, arXiv 2011.04006. The pictures are our own: curves grow from any place, and where they
would meet, they turn or begin again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formwright.data.synthetic.sequences import LabelledSequences
from formwright.errors import UnknownNameError, UserError

Floats = NDArray[np.floating[Any]]

#: Dashes of a long curve, by difficulty; a short one has a third of them.
LEVELS: Mapping[str, int] = MappingProxyType({"easy": 6, "intermediate": 9, "hard": 14})
DISTRACTORS = 5

_STARTS, _DISTRACTOR_STARTS, _TURNS = 24, 64, 5  # how many beginnings of a curve, and turns, are tried at once
_CHUNK = 256
_MOST_ROUNDS = 400


@dataclass(frozen=True)
class Geometry:
    """Lengths in pixels, and the largest turn from dash to dash in radians."""

    dash: float
    gap: float
    thickness: float
    marker: float
    apart: float
    dots_apart: float
    turn: float


#: By side of the picture. Dash, marker, thickness and the distance of the dots are those of the arena's generator for
#: 32 and 128 pixels; the others follow them.
GEOMETRIES: Mapping[int, Geometry] = MappingProxyType(
    {
        32: Geometry(dash=2.0, gap=0.8, thickness=0.5, marker=1.5, apart=2.2, dots_apart=7.0, turn=0.9),
        64: Geometry(dash=3.5, gap=1.5, thickness=0.8, marker=2.0, apart=4.0, dots_apart=12.0, turn=0.9),
        128: Geometry(dash=5.0, gap=2.5, thickness=1.5, marker=3.0, apart=7.0, dots_apart=20.0, turn=0.8),
        256: Geometry(dash=10.0, gap=5.0, thickness=2.0, marker=5.0, apart=13.0, dots_apart=40.0, turn=0.8),
    }
)


@dataclass(frozen=True)
class Scenes:
    """What is drawn in each picture.

    Attributes:
        curves: corners of each curve, ``(n, dashes + 1, 2)`` an entry, the two long ones first. A dash begins at a
            corner and ends a gap before the next one.
        markers: the two dots, ``(n, 2, 2)``.
        labels: 1 where one curve joins the dots.
    """

    curves: tuple[Floats, ...]
    markers: Floats
    labels: NDArray[np.int64]


def pathfinder(
    count: int, *, side: int = 32, level: str = "hard", seed: int = 0, scenes: Scenes | None = None
) -> LabelledSequences:
    """Grey pictures as rows of ``side * side`` brightnesses from 0 to 255; half of them of each class.

    Args:
        count: number of pictures.
        side: 32, 64, 128 (Path-X) or 256 pixels.
        level: how long the curves are: easy, intermediate or hard.
        seed: decides all.
        scenes: draw these instead.

    Raises:
        UserError: there is no such side or level.
    """
    scenes = pathfinder_scenes(count, side=side, level=level, seed=seed) if scenes is None else scenes
    chunk = max(1, _CHUNK * 32 * 32 // (side * side))
    pictures = [_draw(scenes, slice(start, start + chunk), side) for start in range(0, len(scenes.labels), chunk)]
    ids = np.concatenate(pictures).reshape(len(scenes.labels), side * side)
    source = f"Pathfinder, {side} x {side}, {level}"
    return LabelledSequences(ids, scenes.labels, 256, 2, None, source)


def pathfinder_scenes(count: int, *, side: int = 32, level: str = "hard", seed: int = 0) -> Scenes:
    """The curves and dots of :func:`pathfinder`."""
    if level not in LEVELS:
        raise UnknownNameError("level of Pathfinder", level, LEVELS)
    if side not in GEOMETRIES:
        raise UserError(f"Pathfinder has pictures of {', '.join(map(str, GEOMETRIES))} pixels a side, not of {side}.")
    if count < 2:
        raise UserError(f"{count} pictures cannot have two classes; ask for at least 2.")
    geometry, dashes = GEOMETRIES[side], LEVELS[level]
    random = np.random.default_rng([seed, side])
    found: dict[int, list[tuple[Floats, ...]]] = {0: [], 1: []}
    missing = {0: count // 2, 1: count - count // 2}
    for _ in range(_MOST_ROUNDS + count):
        if max(missing.values()) <= 0:
            break
        curves = _grow_all(random, min(_CHUNK, 4 * sum(missing.values()) + 16), side, dashes, geometry)
        for label in (0, 1):
            other = curves[1] if label == 0 else curves[0][:, ::-1]
            far = np.linalg.norm(curves[0][:, 0] - other[:, 0], axis=-1) >= geometry.dots_apart
            half = np.arange(len(far)) % 2 == label  # a picture serves one class
            chosen = np.flatnonzero(far & half)[: max(missing[label], 0)]
            found[label].append(tuple(curve[chosen] for curve in curves))
            missing[label] -= len(chosen)
    else:
        raise UserError(f"Too few pictures of Pathfinder at {side} pixels and level {level!r} had room for all curves.")
    labels = np.repeat([0, 1], [count // 2, count - count // 2])
    order = random.permutation(count)
    merged = tuple(np.concatenate(parts)[order] for parts in zip(*found[0], *found[1], strict=True))
    labels = labels[order]
    ends = np.where(labels[:, None] == 0, merged[1][:, 0], merged[0][:, -1])
    return Scenes(merged, np.stack([merged[0][:, 0], ends], axis=1), labels)


def _grow_all(
    random: np.random.Generator, count: int, side: int, dashes: int, geometry: Geometry
) -> tuple[Floats, ...]:
    """All curves of about ``count`` pictures; those without room for all are left out."""
    taken: Floats = np.zeros((count, 0, 2), np.float32)
    curves: list[Floats] = []
    plan = [(dashes, _STARTS)] * 2 + [(max(dashes // 3, 1), _DISTRACTOR_STARTS)] * DISTRACTORS
    for length, starts in plan:
        curve, grown = _grow(random, taken, side, length, starts, geometry)
        taken = np.concatenate([taken, curve], axis=1)[grown]
        curves = [one[grown] for one in [*curves, curve]]
    return tuple(curves)


def _grow(
    random: np.random.Generator, taken: Floats, side: int, dashes: int, starts: int, geometry: Geometry
) -> tuple[Floats, NDArray[np.bool_]]:
    """A curve for each picture, away from what is taken, ``(n, dashes + 1, 2)``; and whether it found room."""
    count, border = len(taken), geometry.marker + 1
    step = geometry.dash + geometry.gap
    corners = random.uniform(border, side - border, (count, starts, 1, 2)).astype(np.float32)
    direction = random.uniform(-np.pi, np.pi, (count, starts)).astype(np.float32)
    alive: NDArray[np.bool_] = _far(corners[:, :, 0, None], taken[:, None], geometry.apart)[..., 0]
    for _ in range(dashes):
        turns = random.uniform(-geometry.turn, geometry.turn, (count, starts, _TURNS)).astype(np.float32)
        angles = direction[..., None] + turns
        ahead = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        reached = corners[:, :, -1, None] + step * ahead
        free = np.all((reached > border) & (reached < side - border), axis=-1)
        free &= _far(reached, taken[:, None], geometry.apart)
        free &= _far(reached, corners[:, :, :-1], geometry.apart)
        chosen = free.argmax(-1)[..., None]
        alive = alive & free.any(-1)
        direction = np.take_along_axis(angles, chosen, -1)[..., 0]
        corners = np.concatenate([corners, np.take_along_axis(reached, chosen[..., None], 2)], axis=2)
    best = alive.argmax(-1)
    return corners[np.arange(count), best], np.any(alive, axis=-1)


def _far(points: Floats, taken: Floats, distance: float) -> NDArray[np.bool_]:
    """Whether each of ``points`` ``(n, starts, turns, 2)`` is away from all of ``taken`` ``(n, 1 or starts, m, 2)``."""
    apart = np.ones(points.shape[:-1], np.bool_)
    for index in range(taken.shape[2]):
        gap = points - taken[:, :, None, index]
        apart &= (gap * gap).sum(-1) >= distance * distance
    return apart


def _draw(scenes: Scenes, rows: slice, side: int) -> NDArray[np.int16]:
    """Pictures ``(n, side, side)``: each pixel as bright as the nearest dash or dot covers it."""
    geometry = GEOMETRIES[side]
    grid = np.stack(np.meshgrid(*[np.arange(side, dtype=np.float32) + 0.5] * 2, indexing="ij"), axis=-1)
    share = geometry.dash / (geometry.dash + geometry.gap)
    markers = scenes.markers[rows]
    covered = np.zeros((len(markers), side, side), np.float32)

    def cover(distance: Floats, radius: float) -> None:
        np.maximum(covered, np.clip(radius + 0.5 - distance, 0, 1), out=covered)

    for curve in scenes.curves:
        corners = curve[rows]
        for index in range(corners.shape[1] - 1):
            dash = share * (corners[:, index + 1] - corners[:, index])
            cover(_distance(grid, corners[:, index], dash), geometry.thickness / 2)
    for index in range(2):
        cover(_distance(grid, markers[:, index], np.zeros_like(markers[:, index])), geometry.marker)
    return np.round(255 * covered).astype(np.int16)


def _distance(grid: Floats, start: Floats, along: Floats) -> Floats:
    """From each pixel ``(side, side, 2)`` to the segment from ``start`` to ``start + along`` of each picture."""
    offset = grid[None] - start[:, None, None]
    squared = np.maximum((along * along).sum(-1), 1e-9)[:, None, None]
    place = np.clip(np.einsum("nxyc,nc->nxy", offset, along) / squared, 0, 1)
    gap = offset - place[..., None] * along[:, None, None]
    return np.sqrt((gap * gap).sum(-1))

"""Ridge regressions of the steps ahead, from the moments of windows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from formwright.nn.lag_table import same_phase

Values = NDArray[np.float64]

#: How much the size of standardised weights counts beside the mean squared error.
PENALTIES = (1e-4, 1e-3, 1e-2, 0.1, 0.3, 1.0, 3.0)
#: Shares of the windows, in their order: what comes before one is learned from, what follows up to the next is judged.
ORIGINS = (0.5, 0.75)
#: Steps ahead that choose the setting, at most.
CHOOSING_STEPS = 8


@dataclass(frozen=True)
class Setting:
    """How a step is found.

    Attributes:
        anchor: what is added to the answer: the last value before the step that is so many steps' multiples before it
            (the last one for 1); nothing for 0, where windows count from nought and else from their last value.
        look_back: how many of the latest values are columns.
        penalty: how much the size of standardised weights counts.
    """

    anchor: int
    look_back: int
    penalty: float


@dataclass(frozen=True)
class Moments:
    """Sums of products of columns, among each other and with the answer, and how many rows there are.

    The last column is 1.
    """

    products: Values
    answers: Values
    squares: float

    def __add__(self, other: Self) -> Moments:
        return Moments(self.products + other.products, self.answers + other.answers, self.squares + other.squares)

    def mapped(self, columns: Values, anchor: Values) -> Moments:
        """With ``columns @ matrix`` in place of the columns, and the answer less ``columns @ anchor``."""
        answers = self.answers - self.products @ anchor
        squares = self.squares - 2 * anchor @ self.answers + anchor @ self.products @ anchor
        return Moments(columns.T @ self.products @ columns, columns.T @ answers, float(squares))

    def errors(self, weights: Values) -> float:
        """The sum of squared errors of these weights."""
        return float(self.squares - 2 * weights @ self.answers + weights @ self.products @ weights)

    def solved(self, penalties: Sequence[float]) -> list[Values]:
        """The weights of a ridge with each penalty; that of the last column is free."""
        count = self.products[-1, -1]
        if count < 1:
            return [np.zeros(len(self.answers)) for _ in penalties]
        mean, middle = self.products[-1, :-1] / count, self.answers[-1] / count
        covariance = self.products[:-1, :-1] / count - np.outer(mean, mean)
        deviation = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        scale = np.where(deviation > 1e-6, 1 / np.maximum(deviation, 1e-6), 0.0)
        together = (self.answers[:-1] / count - mean * middle) * scale
        values, vectors = np.linalg.eigh(covariance * np.outer(scale, scale))
        projected = vectors.T @ together
        found = []
        for penalty in penalties:
            weights = vectors @ (projected / (np.maximum(values, 0.0) + penalty)) * scale
            found.append(np.append(weights, middle - weights @ mean))
        return found


class Ridge:
    """Ridge regressions of each step ahead, the same for all variates.

    Args:
        windows: ``(windows, variates, time)``, in their order.
        known: what is known of each step, ``(windows, horizon, features)``.
        targets: ``(windows, horizon, variates)``, not a number where missing.
        seasons: that may come again.
    """

    def __init__(self, windows: Values, known: Values, targets: Values, seasons: Sequence[int]) -> None:
        self.windows, self.known, self.targets = windows, known, targets
        self.length, self.horizon, self.features = windows.shape[-1], targets.shape[1], known.shape[-1]
        self.seasons = [season for season in seasons if 1 < season <= self.length]
        count = len(windows)
        gap = min(self.horizon, count // 16)
        cuts = [0, *(edge for share in ORIGINS for edge in (round(share * count), round(share * count) + gap)), count]
        #: what is learned from, a gap, what is judged and then learned from, a gap, what is judged
        self.segments = [slice(*ends) for ends in itertools.pairwise(cuts)]
        self.whole = bool(np.isfinite(targets).all())
        self._of_windows: dict[int, Values] = {}

    def weights(self) -> Values:
        """``(horizon, time + features + 1)``: of a window, of what is known and of nothing, with the best setting."""
        setting = self.setting()
        found = np.empty((self.horizon, self.length + self.features + 1))
        for step in range(self.horizon):
            moments = self._moments(step, 0)
            for segment in range(1, len(self.segments)):
                moments += self._moments(step, segment)
            columns, anchor = self._frame(step, setting.anchor, setting.look_back)
            (weights,) = moments.mapped(columns, anchor).solved([setting.penalty])
            found[step] = anchor + columns @ weights
        return found

    def setting(self) -> Setting:
        """That with the least error after the origins."""
        reach = {self.length, *(min(2 * season, self.length) for season in self.seasons), *self.seasons}
        reach |= {max(self.length // 2, 1)}
        pairs = list(itertools.product((*self.seasons, 1, 0), sorted(reach)))
        errors = dict.fromkeys((Setting(*pair, penalty) for pair in pairs for penalty in PENALTIES), 0.0)
        steps = np.unique(np.linspace(0, self.horizon - 1, CHOOSING_STEPS).astype(np.int64))
        for step in steps:
            learned, gap, first, _, last = (self._moments(int(step), one) for one in range(5))
            for before, after in ((learned, first), (learned + gap + first, last)):
                for anchor, look_back in pairs:
                    columns, added = self._frame(int(step), anchor, look_back)
                    judged = after.mapped(columns, added)
                    solved = before.mapped(columns, added).solved(PENALTIES)
                    for penalty, weights in zip(PENALTIES, solved, strict=True):
                        errors[Setting(anchor, look_back, penalty)] += judged.errors(weights)
        return min(errors, key=lambda setting: errors[setting])

    def _frame(self, step: int, anchor: int, look_back: int) -> tuple[Values, Values]:
        """The columns of a setting as sums of all columns, and the anchor of a step."""
        size = self.length + self.features + 1
        added = np.zeros(size)
        columns = np.eye(size)[:, self.length - look_back :]
        if anchor:
            added[same_phase(self.length, anchor, self.horizon)[step]] = 1.0
            columns[self.length - 1, :look_back] -= 1.0
        return columns, added

    def _moments(self, step: int, segment: int) -> Moments:
        rows = self.segments[segment]
        windows, known, answers = self.windows[rows], self.known[rows, step], self.targets[rows, step]
        there = np.isfinite(answers)
        answers = np.where(there, answers, 0.0)
        counts = there.sum(1).astype(np.float64)
        if self.whole:
            among = self._of_windows.get(segment)
            if among is None:
                flat = windows.reshape(-1, self.length)
                among = self._of_windows[segment] = flat.T @ flat
        else:
            flat = windows[there]
            among = flat.T @ flat
        beside = np.concatenate([known, np.ones((len(known), 1))], axis=1)
        across = np.einsum("nvt,nv->nt", windows, there.astype(np.float64)).T @ beside
        products = np.block([[among, across], [across.T, (beside * counts[:, None]).T @ beside]])
        with_answers = np.concatenate([np.einsum("nvt,nv->t", windows, answers), beside.T @ answers.sum(1)])
        return Moments(products, with_answers, float(np.square(answers).sum()))

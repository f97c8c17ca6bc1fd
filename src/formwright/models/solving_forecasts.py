"""Forecasters by a solver: a ridge in closed form, and boosted trees by scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from formwright.models.forecast_ridge import Ridge

if TYPE_CHECKING:
    from formwright.candidates import Take
    from formwright.models.network import Network

Values = NDArray[np.float64]
Tree = tuple[Tensor, ...]

#: Products of numbers that the moments of windows take at most.
MOST_PRODUCTS = 4e10
#: Numbers of a table and rows that trees learn from, at most; the share of the windows, the last ones, that says how
#: many trees there are.
MOST_NUMBERS, MOST_ROWS, HELD_OUT = 30_000_000, 40_000, 0.2
#: Of these rows, how many say how many trees there are, and the trees that tell what they learn from.
MOST_CHOOSING, FEW_TREES = 20_000, 32
#: Of boosted trees: the learning rate, and rows of a leaf at least.
RATE, LEAST_ROWS = 0.1, 20
CHUNK = 256


def fit_ridge(model: Network, take: Take, seed: int) -> None:
    """Find the weights of a chain with a :class:`~formwright.nn.forecast_heads.CovariateLinearHead`.

    A ridge for each step ahead: columns are the latest values of a window and what is known of the step, the answer is
    the value of the step, or how far it is from the last value or from that a season before, in which case the values
    of the window count from its last one. Which of these, how many values and which penalty is chosen by the windows
    after two origins, for some of the steps together.
    """
    network: Any = model
    head, length = network.head, network.specification.input.length
    inputs, targets = take(max(int(MOST_PRODUCTS / length**2), 64))
    with torch.no_grad():
        known = np.zeros((len(inputs), head.horizon, 0)) if head.beside is None else head.known(inputs.mT).numpy()
    windows = inputs[..., : targets.shape[-1]].mT.double().numpy()
    weights = Ridge(windows, known.astype(np.float64), np.asarray(targets, np.float64), head.seasons).weights()
    with torch.no_grad():
        head.linear.weight.copy_(torch.from_numpy(weights[:, :length]))
        head.linear.bias.copy_(torch.from_numpy(weights[:, -1]))
        if head.beside is not None:
            head.beside.copy_(torch.from_numpy(weights[:, length:-1]))


def fit_trees(model: Network, take: Take, seed: int) -> None:
    """Find the trees of a chain of a :class:`~formwright.nn.lag_table.LagTable` and
    :class:`~formwright.nn.boosted_trees.BoostedTrees`.

    They learn how far the value of a step is from the level of its window, or from the value a season before, in
    deviations of the window. How many trees there are, and from which of the two they learn, the last windows say; then
    all windows are learned.
    """
    network: Any = model
    head, embed = network.head, network.backbone.embed
    inputs, targets = take(max(MOST_NUMBERS // (network.backbone.dim * embed.targets), 64))
    with torch.no_grad():
        found = [embed(chunk) for chunk in torch.split(inputs, CHUNK)]
    statistics = torch.cat([context.statistics for _, context in found])
    level, deviation = (one.numpy() for one in statistics[:, :, None].unbind(-1))
    columns = torch.cat([table for table, _ in found]).numpy()
    columns = columns.reshape(*columns.shape[:-1], head.horizon, -1)
    answers = (np.asarray(targets, np.float64).swapaxes(1, 2) - level) / deviation
    table = _Table(columns, answers, seed)
    first = min((0.0, 1.0), key=lambda share: table.count(share, FEW_TREES, MOST_CHOOSING // 2, head))
    _, count = table.count(first, len(head.feature), MOST_CHOOSING, head)
    trees, base = table.learned(first, count, head)
    head.set_trees(trees, base, first)


@dataclass(frozen=True)
class _Table:
    """Rows of windows, variates and steps: columns and answers."""

    columns: NDArray[np.float32]
    answers: Values
    seed: int

    def rows(self, windows: slice, first: float, most: int) -> tuple[NDArray[np.float32], Values]:
        """What there is of some windows, as many as can be learned; ``first`` is the share of the first column."""
        columns, answers = self.columns[windows], self.answers[windows]
        there = np.flatnonzero(np.isfinite(answers))
        if len(there) > most:
            there = np.sort(np.random.default_rng(self.seed).choice(there, most, replace=False))
        chosen = columns.reshape(-1, columns.shape[-1])[there]
        return chosen, answers.reshape(-1)[there] - first * chosen[:, 0]

    def count(self, first: float, most: int, rows: int, head: Any) -> tuple[float, int]:
        """The error on the last windows of the number of trees, ``most`` at most, that err least, and that number."""
        count = len(self.columns)
        end = round((1 - HELD_OUT) * count)
        model = self._fitted(first, slice(0, end), most, head, rows)
        held = slice(min(end + min(head.horizon, count // 16), count - 1), count)
        columns, answers = self.rows(held, first, rows)
        errors = [float(np.square(answers - given).sum()) for given in model.staged_predict(columns)]
        best = int(np.argmin(errors))
        return errors[best], best + 1

    def learned(self, first: float, count: int, head: Any) -> tuple[list[Tree], float]:
        """So many trees of all windows, and what they begin with."""
        model = self._fitted(first, slice(None), count, head, MOST_ROWS)
        return [tree_of(predictors[0].nodes) for predictors in model._predictors], float(
            model._baseline_prediction[0, 0]
        )

    def _fitted(self, first: float, windows: slice, count: int, head: Any, most: int) -> Any:
        from sklearn.ensemble import HistGradientBoostingRegressor
        from threadpoolctl import threadpool_limits

        columns, answers = self.rows(windows, first, most)
        model = HistGradientBoostingRegressor(
            learning_rate=RATE,
            max_iter=count,
            max_leaf_nodes=(head.feature.shape[1] + 1) // 2,
            max_depth=head.depth,
            min_samples_leaf=LEAST_ROWS,
            early_stopping=False,
            random_state=self.seed,
        )
        with threadpool_limits(1, "openmp"):  # several wait for each other where a machine has other work
            return model.fit(columns, answers)


def tree_of(nodes: Any) -> Tree:
    """Feature, threshold, left child and value of the nodes of one of scikit-learn's trees, children side by side.

    Thresholds are rounded down to float32, which compares numbers of float32 as before.
    """
    order, children = [0], list[int]()
    for place in order:  # it grows on the way
        node = nodes[place]
        children.append(len(children) if node["is_leaf"] else len(order))
        order += [] if node["is_leaf"] else [int(node["left"]), int(node["right"])]
    kept = nodes[np.array(order)]
    exact = kept["num_threshold"].astype(np.float64)
    rounded = exact.astype(np.float32)
    rounded = np.where(rounded > exact, np.nextafter(rounded, np.float32(-np.inf)), rounded)
    leaf = kept["is_leaf"].astype(bool)
    parts = (
        np.where(leaf, 0, kept["feature_idx"]).astype(np.int32),
        np.where(leaf, np.float32(np.inf), rounded),
        np.array(children, np.int32),
        np.where(leaf, kept["value"], 0.0).astype(np.float32),
    )
    return tuple(map(torch.from_numpy, parts))

"""Many series to pretrain on, and others to be judged by, some of another origin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from formwright.batch import Batch
from formwright.data.synthetic.series import synthetic_series
from formwright.errors import UserError

Floats = NDArray[np.float64]

#: Share of a series, from its beginning, that is trained on; what comes after is for judging.
TRAIN_SHARE = 0.7
#: The most windows that a set is judged by.
EVALUATION_WINDOWS = 512


@dataclass(frozen=True, eq=False)
class Corpus:
    """Univariate series to train on, and windows to judge by.

    Attributes:
        name: what it is, as a person would say it.
        train: series of any lengths, each ``(time,)``, not a number where missing.
        evaluations: windows ``(n, length)`` by the name of their set; the first set is of the origin of the training
            series (in distribution), the others are not.
    """

    name: str
    train: tuple[Floats, ...]
    evaluations: Mapping[str, Floats]

    @property
    def points(self) -> int:
        """Points of the training series."""
        return sum(len(series) for series in self.train)

    def limited_to(self, points: int) -> Corpus:
        """The same with so many points to train on at most: whole series as long as they fit, then the rest of one.

        Raises:
            UserError: fewer than one point.
        """
        if points < 1:
            raise UserError(f"At least one point to train on is expected, got {points}.")
        kept, left = [], points
        for series in self.train:
            if left <= 0:
                break
            kept.append(series[:left])
            left -= len(series)
        return Corpus(self.name, tuple(kept), self.evaluations)


def synthetic_corpus(count: int = 4_000, length: int = 512, *, seed: int = 0) -> Corpus:
    """Seasonal series to train on; other seasonal series, and waves, to judge by."""
    others = {
        name: synthetic_series(EVALUATION_WINDOWS, length, kind=kind, seed=seed + 1)
        for name, kind in (("seasonal (in distribution)", "seasonal"), ("waves (out of distribution)", "waves"))
    }
    return Corpus("synthetic", tuple(synthetic_series(count, length, seed=seed)), others)


def read_corpus(train: Sequence[str | Path], test: Sequence[str | Path] = (), *, length: int = 512) -> Corpus:
    """Every numeric column of CSV files is a series; the first 70 % of ``train`` are trained on, the rest judged by.

    The files of ``test`` are out of distribution; windows of ``length`` are taken from their last 30 %.

    Raises:
        UserError: a file is missing, holds no numbers, or is too short to be divided.
    """
    if not train:
        raise UserError("At least one CSV file to train on is expected.")
    series = {Path(path).stem: _columns(Path(path), length) for path in (*train, *test)}
    trained = [Path(path).stem for path in train]
    evaluations = {" and ".join(trained) + " (in distribution)": _windows([series[n] for n in trained], length)}
    for path in test:
        name = Path(path).stem
        evaluations[f"{name} (out of distribution)"] = _windows([series[name]], length)
    parts = tuple(column[: int(TRAIN_SHARE * len(column))] for name in trained for column in series[name])
    return Corpus(" and ".join(trained), parts, evaluations)


def _columns(path: Path, length: int) -> list[Floats]:
    import pandas as pd

    if not path.is_file():
        raise UserError(f"There is no file {path}.")
    try:
        table = pd.read_csv(path).select_dtypes("number")
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as CSV: {error}.") from None
    if table.shape[1] == 0:
        raise UserError(f"{path} has no column of numbers.")
    if (1 - TRAIN_SHARE) * len(table) < length:
        raise UserError(
            f"{path} has {len(table)} rows; its last {1 - TRAIN_SHARE:.0%} have to hold a window of {length}: give a "
            "longer series, or a shorter window."
        )
    return [table[name].to_numpy(np.float64) for name in table]


def _windows(groups: Sequence[Sequence[Floats]], length: int) -> Floats:
    """Evenly spaced windows of the last part of all columns, as many of each."""
    columns = [column for group in groups for column in group]
    each = max(1, EVALUATION_WINDOWS // len(columns))
    found = []
    for column in columns:
        first = int(TRAIN_SHARE * len(column))
        starts = np.linspace(first, len(column) - length, each).astype(int)
        found += [column[start : start + length] for start in np.unique(starts)]
    return np.stack(found)


class CorpusBatches:
    """Endless batches of random windows of a corpus' training series, a series being the likelier the longer it is.

    A series that is shorter than a window is padded in front with what is not a number. A batch depends on the seed and
    its step alone.
    """

    def __init__(self, corpus: Corpus, *, length: int, batch_size: int, seed: int = 0) -> None:
        if batch_size < 1 or not corpus.train:
            raise UserError(f"Batches of {batch_size} windows of {len(corpus.train)} series cannot be drawn.")
        self.length, self.batch_size, self._seed = length, batch_size, seed
        self._series = [
            np.concatenate([np.full(max(0, length - len(series)), np.nan), series]) for series in corpus.train
        ]
        sizes = np.array([len(series) for series in self._series], np.float64)
        self._shares = sizes / sizes.sum()
        self.step = 0

    def __iter__(self) -> CorpusBatches:
        return self

    def __next__(self) -> Batch:
        random = np.random.default_rng([self._seed, self.step])
        self.step += 1
        windows = []
        for owner in random.choice(len(self._series), self.batch_size, p=self._shares):
            start = random.integers(0, len(self._series[owner]) - self.length + 1)
            windows.append(self._series[owner][start : start + self.length])
        inputs = torch.from_numpy(np.stack(windows)).float()
        return Batch(inputs, inputs)

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`load_state_dict` needs to continue."""
        return {"seed": self._seed, "batch_size": self.batch_size, "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where ``state`` was taken.

        Raises:
            UserError: it was taken with another seed or batch size.
        """
        if (state.get("seed"), state.get("batch_size")) != (self._seed, self.batch_size):
            raise UserError("The batches to continue were drawn with another seed or batch size; start a new run.")
        self.step = int(state["step"])

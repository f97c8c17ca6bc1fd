"""Forecasts of published protocols: models that are trained as their authors trained them, and their test errors.

The protocol of ETT's hourly sets: 12, 4 and 4 months of 30 days to train, to choose by and to test, seven variates that
are all forecast, scaled by the training part, errors on scaled values over every window of the test part.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import nn

from formwright.data.calendar import ramps
from formwright.data.series import ColumnRoles, Part, Series, SeriesData, arrange, fill_forward
from formwright.data.series_batches import SeriesBatches, Windows, evaluation_windows
from formwright.data.series_files import read_table
from formwright.errors import UserError
from formwright.metrics.forecast_baselines import seasonal_naive
from formwright.metrics.forecasting import mean_absolute_error, mean_squared_error
from formwright.models import Network, create_model
from formwright.nn.specification import NetworkSpec
from formwright.objectives import Forecasting
from formwright.reporting import SILENT, Reporter
from formwright.training import Progress, Schedule, Trainer
from formwright.training.recipe import plain_adam

SEEDS = (0, 1, 2)
MONTH = 30 * 24
_HOUR = 3_600_000_000_000


@dataclass(frozen=True)
class PublishedTraining:
    """Adam on the squared error; the rate is kept for two epochs and halves after each one; early stopping.

    The weights of the epoch with the least validation error are kept. These are the settings of the authors of
    Informer, Autoformer, iTransformer and of what compares with them.
    """

    learning_rate: float = 1e-4
    batch_size: int = 32
    epochs: int = 10
    patience: int = 3


class Errors(NamedTuple):
    """Mean squared and mean absolute error over all windows, steps and variates, on scaled values."""

    mse: float
    mae: float


def ett_folder() -> Path | None:
    """Where ``ETTh1.csv`` and ``ETTh2.csv`` lie: the folder ``ett`` of ``FORMWRIGHT_DATA``, or none."""
    if "FORMWRIGHT_DATA" not in os.environ:
        return None
    folder = Path(os.environ["FORMWRIGHT_DATA"]) / "ett"
    return folder if all((folder / f"{name}.csv").is_file() for name in ("ETTh1", "ETTh2")) else None


@functools.lru_cache(maxsize=4)
def ett(name: str, *, horizon: int, length: int = 96, calendar: bool = True) -> SeriesData:
    """``ETTh1`` or ``ETTh2`` with the published parts, with or without the calendar's features.

    Raises:
        UserError: the files are not there.
    """
    folder = ett_folder()
    if folder is None:
        raise UserError(
            f"{name}.csv is not here: put ETTh1.csv and ETTh2.csv into the folder ett of FORMWRIGHT_DATA "
            "(github.com/zhouhaoyi/ETDataset), which this claim is about."
        )
    table = read_table(folder / f"{name}.csv")
    used = slice(0, 20 * MONTH)
    return arrange(
        [Series(one.name, one.times[used], one.values[used]) for one in table.series],
        table.layout,
        dataclasses.replace(table.frequency, features=ramps(_HOUR) if calendar else ()),
        horizon=horizon,
        length=length,
        source=name,
        held_out=(4 * MONTH, 4 * MONTH),
    )


def forecast_errors(model: nn.Module, windows: Windows) -> Errors:
    """Errors over all windows, in eval mode."""
    model.eval()
    squared = absolute = count = 0.0
    with torch.inference_mode():
        for batch in evaluation_windows(windows):
            difference = (model(batch.inputs) - batch.targets).double()
            squared += float(difference.square().sum())
            absolute += float(difference.abs().sum())
            count += difference.numel()
    return Errors(squared / count, absolute / count)


def train_as_published(
    specification: NetworkSpec,
    data: SeriesData,
    *,
    training: PublishedTraining = PublishedTraining(),
    seed: int = 0,
    steps: int | None = None,
    reporter: Reporter = SILENT,
) -> Network:
    """A model after the published training; with ``steps``, after so many steps of it and no choice among epochs.

    Where the authors give calendar features, they are those of the look-back.
    """
    torch.manual_seed(seed)
    model = create_model(specification)
    windows, validation = (Windows(data, part, shift=0) for part in ("train", "val"))
    batches = SeriesBatches(windows, batch_size=training.batch_size, seed=seed)
    recipe = plain_adam(training.learning_rate, batch_size=training.batch_size)
    trainer = Trainer(model, Forecasting(), batches, recipe, seed=seed)
    trainer.schedule = Schedule(recipe.warmup, halve_every=len(batches))
    total = training.epochs * len(batches) if steps is None else steps

    def show(progress: Progress) -> None:
        if progress.step % 16 == 1:
            epoch = (progress.step - 1) // len(batches) + 1
            reporter.progress((progress.step - 1) / total, f"{specification.name}, seed {seed}, epoch {epoch}")

    if steps is not None:
        trainer.train(steps=steps, on_step=show)
        return model.eval()
    best = trainer.fit(
        epochs=training.epochs,
        evaluate=lambda trained: -forecast_errors(trained, validation).mse,
        patience=training.patience,
        on_step=show,
    )
    return cast(Network, best)


def restrict(data: SeriesData, targets: tuple[str, ...]) -> SeriesData:
    """The same data with these columns alone."""
    chosen = [data.layout.columns.index(name) for name in targets]
    series = tuple(Series(one.name, one.times, one.values[:, chosen]) for one in data.series)
    return dataclasses.replace(data, series=series, layout=ColumnRoles(targets))


def few_windows(data: SeriesData, part: Part, stride: int) -> Windows:
    """Every so many windows of a part."""
    windows = Windows(data, part, shift=0)
    for name in ("starts", "owners", "origins"):
        setattr(windows, name, getattr(windows, name)[::stride])
    return windows


def naive_errors(data: SeriesData, windows: Windows) -> Errors:
    """Errors of repeating the season before, on windows of the only series of ``data``."""
    scaled = fill_forward(data.scalings[0].apply(data.series[0].values))[:, : data.variates]
    forecast = seasonal_naive(scaled, windows.origins, data.horizon, data.frequency.season)
    targets = windows.take(np.arange(len(windows))).targets.numpy()
    return Errors(mean_squared_error(forecast, targets), mean_absolute_error(forecast, targets))


def mean_errors(errors: list[Errors]) -> Errors:
    return Errors(*(float(value) for value in np.mean(errors, axis=0)))

"""Claims of the survey of Transformers for series: where its headings live here, and two of its small experiments."""

from __future__ import annotations

import importlib
import statistics

import torch
from torch import nn

from formwright.catalog.cards import read_cards
from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.experiments.forecasts import SEEDS, ett, ett_folder, few_windows, forecast_errors
from formwright.data.series_batches import SeriesBatches, Windows
from formwright.models import create_model
from formwright.models.series.seasonal_trend import SeasonalTrend
from formwright.models.series.temporal import temporal_transformer
from formwright.objectives import Forecasting
from formwright.reporting import Reporter
from formwright.training import Trainer
from formwright.training.recipe import plain_adam

#: The survey's headings that have a home here: a module, and a name in it or the id of a system.
HOMES = {
    "sinusoidal positions": ("formwright.nn.positions", "sine_table"),
    "learned positions": ("formwright.nn.embeddings", "LearnedPositions"),
    "calendar features": ("formwright.data.calendar", "calendar_features"),
    "attention by windows": ("formwright.nn.functional.attention", "sliding_window_attention"),
    "normalisation of windows": ("formwright.nn.series", "take_out_statistics"),
    "moving-average decomposition": ("formwright.models.series.seasonal_trend", "SeasonalTrend"),
    "patches": ("formwright.models.series.foundation", "cut_into_patches"),
    "pre-training": ("formwright.objectives.series", "PatchLikelihood"),
}
SYSTEMS = ("itransformer", "tempo", "tsfm-scaling-laws", "t2", "tiny-t2")
LENGTH = HORIZON = 96
STEPS, BATCH, RATE, TEST_STRIDE = 120, 32, 1e-3, 8
LOOK_BACKS = (48, 96, 192)
MISSING = "not run: put ETTh1.csv and ETTh2.csv into the folder ett of FORMWRIGHT_DATA"


def _taxonomy(reporter: Reporter) -> ClaimResult:
    absent = [
        heading for heading, (module, name) in HOMES.items() if not hasattr(importlib.import_module(module), name)
    ]
    absent += [system for system in SYSTEMS if system not in read_cards()]
    found = len(HOMES) + len(SYSTEMS) - len(absent)
    return ClaimResult(f"{found} of {len(HOMES) + len(SYSTEMS)}", not absent, ", ".join(absent))


def _error(length: int, seed: int, *, decompose: bool) -> float:
    """Mean squared error on ETTh2 of a plain Transformer after a short training."""
    data = ett("ETTh2", horizon=HORIZON, length=length, calendar=False)
    torch.manual_seed(seed)
    specification = temporal_transformer(dim=64, hidden=64, depth=2, heads=4, dropout=0.0, length=length)
    model: nn.Module = create_model(specification)
    if decompose:
        model = SeasonalTrend(model, length=length, horizon=HORIZON)
    batches = SeriesBatches(Windows(data, "train", shift=0), batch_size=BATCH, seed=seed)
    Trainer(model, Forecasting(), batches, plain_adam(RATE, batch_size=BATCH), seed=seed).train(steps=STEPS)
    return forecast_errors(model, few_windows(data, "test", TEST_STRIDE)).mse


def _decomposition(reporter: Reporter) -> ClaimResult:
    if ett_folder() is None:
        return ClaimResult(MISSING, False)
    errors: dict[bool, list[float]] = {True: [], False: []}
    runs = [(seed, decompose) for seed in SEEDS for decompose in errors]
    for index, (seed, decompose) in enumerate(runs):
        reporter.progress(index / len(runs), f"{'with' if decompose else 'without'} decomposition, seed {seed}")
        errors[decompose].append(_error(LENGTH, seed, decompose=decompose))
    gain = 1 - statistics.mean(errors[True]) / statistics.mean(errors[False])
    return ClaimResult(
        f"{gain:.0%} lower: with {_told(errors[True])}, without {_told(errors[False])}",
        max(errors[True]) < min(errors[False]),
        _conditions(),
    )


def _input_length(reporter: Reporter) -> ClaimResult:
    if ett_folder() is None:
        return ClaimResult(MISSING, False)
    errors: dict[int, list[float]] = {length: [] for length in LOOK_BACKS}
    runs = [(seed, length) for seed in SEEDS for length in LOOK_BACKS]
    for index, (seed, length) in enumerate(runs):
        reporter.progress(index / len(runs), f"look-back {length}, seed {seed}")
        errors[length].append(_error(length, seed, decompose=False))
    means = {length: statistics.mean(values) for length, values in errors.items()}
    return ClaimResult(
        "; ".join(f"{length}: {_told(values)}" for length, values in errors.items()),
        means[LOOK_BACKS[-1]] > means[LOOK_BACKS[0]],
        _conditions(),
    )


def _told(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def _conditions() -> str:
    return (
        f"mean squared error on ETTh2, horizon {HORIZON}, tokens of time steps, width 64, {STEPS} batches of {BATCH}, "
        f"{len(SEEDS)} seeds, every {TEST_STRIDE}th test window"
    )


CLAIMS: list[Claim] = [
    Claim(
        id="taxonomy",
        kind="count",
        statement="headings of the survey that have a home here, and systems of the catalogue that belong to it",
        published=f"{len(HOMES)} headings and {len(SYSTEMS)} systems",
        run=_taxonomy,
    ),
    Claim(
        id="decomposition-helps",
        kind="direction",
        statement="a plain Transformer forecasts ETTh2 better around a moving-average decomposition, every seed",
        published="errors lower by 50 to 80 % on ETTm2",
        run=_decomposition,
        slow=True,
    ),
    Claim(
        id="longer-input-does-not-help",
        kind="direction",
        statement="a plain Transformer's error is larger with a look-back of 192 than with one of 48",
        published="longer inputs often make plain Transformers worse (ETTm2)",
        run=_input_length,
        slow=True,
    ),
]

"""Claims of TEMPO: sizes, the authors' outputs, a series that was never seen, and what the decomposition is worth."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.experiments.forecasts import MONTH, ett_folder
from formwright.catalog.figures import output_claims
from formwright.data.array_batches import ArrayBatches
from formwright.data.decomposition import stl_components
from formwright.data.synthetic.series import synthetic_series
from formwright.metrics.forecasting import mean_squared_error
from formwright.models import empty_copy
from formwright.models.series.tempo import Tempo, TempoSpec
from formwright.objectives.series import DecomposedForecast
from formwright.reporting import Reporter
from formwright.training import Recipe, Trainer

Floats = NDArray[np.floating]

SEEDS = (0, 1, 2)
STEPS, BATCH = 200, 64
LENGTH = HORIZON = 96
DAY = 24
#: A GPT-2 of two narrow blocks with random weights; ids of the prompts are any, as its words mean nothing.
SMALL = TempoSpec(
    length=LENGTH,
    horizon=HORIZON,
    dim=64,
    depth=2,
    heads=4,
    vocabulary=16,
    positions=128,
    sentences=tuple((*range(1, 9), last) for last in (9, 10, 11)),
)
#: The authors' parameter counts: GPT-2 of six blocks, its adapters, the three heads, and the maps of trend and season.
PUBLISHED = {"GPT-2": 81_912_576, "adapters": 294_912, "heads": 9_290_016, "trend": 113_232, "season": 904_848}


def _counts(reporter: Reporter) -> ClaimResult:
    model = empty_copy(TempoSpec())
    language = {name: p.numel() for name, p in model.named_parameters() if name.startswith("language.")}
    found = {
        "GPT-2": sum(count for name, count in language.items() if "lora" not in name),
        "adapters": sum(count for name, count in language.items() if "lora" in name),
        **{
            name: sum(parameter.numel() for parameter in model.get_submodule(name).parameters())
            for name in ("heads", "trend", "season")
        },
    }
    return ClaimResult(_counted(found), found == PUBLISHED)


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _train(specification: TempoSpec, inputs: Floats, targets: dict[str, Floats], seed: int) -> Tempo:
    torch.manual_seed(seed)
    model = Tempo(specification)
    recipe = Recipe(
        optimizer="adamw", learning_rate=2e-3, weight_decay=0.01, batch_size=BATCH, warmup=STEPS // 10, ema_decay=0.98
    )
    wanted = {name: np.asarray(values, np.float32) for name, values in targets.items()}
    batches = ArrayBatches(inputs, wanted, batch_size=BATCH, seed=seed)
    trainer = Trainer(model, DecomposedForecast(), batches, recipe, seed=seed)
    trainer.finish_at(STEPS)
    trainer.train(steps=STEPS)
    averaged = trainer.averaged_model()
    assert isinstance(averaged, Tempo)
    return averaged


@torch.inference_mode()
def _error(model: Tempo, windows: Floats) -> float:
    """Mean squared error of the steps after the look-back of ``(n, length + horizon, 1)``."""
    inputs = torch.from_numpy(np.asarray(windows[:, :LENGTH], np.float32))
    forecast = torch.cat([model(part) for part in torch.split(inputs, 256)]).numpy()
    return mean_squared_error(forecast, windows[:, LENGTH:])


def _windows(series: Floats, first: int, last: int, stride: int) -> Floats:
    """All variates of ``(time, variates)`` one by one: ``(n, length + horizon, 1)``."""
    starts = np.arange(first, last - LENGTH - HORIZON + 1, stride)
    cut = np.stack([series[start : start + LENGTH + HORIZON] for start in starts])
    return cut.transpose(0, 2, 1).reshape(-1, LENGTH + HORIZON, 1)


def _ett(name: str) -> NDArray[np.float64]:
    """All variates, scaled by the twelve months of training."""
    import pandas as pd

    folder = ett_folder()
    assert folder is not None
    values = pd.read_csv(Path(folder) / f"{name}.csv").select_dtypes("number").to_numpy(np.float64)
    known = values[: 12 * MONTH]
    return (values - known.mean(0)) / known.std(0)


def _unseen(reporter: Reporter) -> ClaimResult:
    if ett_folder() is None:
        return ClaimResult("not run: put ETTh1.csv and ETTh2.csv into the folder ett of FORMWRIGHT_DATA", False)
    known, other = _ett("ETTh2")[: 12 * MONTH], _ett("ETTh1")
    windows = _windows(known, 0, len(known), 8)
    parts = [_windows(part, 0, len(known), 8)[:, :LENGTH] for part in stl_components(known, DAY)]
    targets = {"forecast": windows[:, LENGTH:], "parts": np.stack(parts, axis=1)}
    test = _windows(other, 16 * MONTH - LENGTH, 20 * MONTH, 16)
    last = mean_squared_error(np.repeat(test[:, LENGTH - 1 : LENGTH], HORIZON, axis=1), test[:, LENGTH:])
    day = mean_squared_error(np.tile(test[:, LENGTH - DAY : LENGTH], (1, HORIZON // DAY, 1)), test[:, LENGTH:])
    errors = []
    for index, seed in enumerate(SEEDS):
        reporter.progress(index / len(SEEDS), f"seed {seed}")
        errors.append(_error(_train(SMALL, windows[:, :LENGTH], targets, seed), test))
    return ClaimResult(
        f"{_told(errors)}; the last value again {last:.3f}, the last day again {day:.3f}",
        max(errors) < last,
        f"mean squared error on ETTh1, horizon {HORIZON}, trained on ETTh2; {_conditions()}",
    )


def _decomposition(reporter: Reporter) -> ClaimResult:
    """Series with trend, seasons and noise, with and without taking them apart."""
    series = synthetic_series(1_400, LENGTH + HORIZON, seed=0)
    series = (series - series[:, :LENGTH].mean(1, keepdims=True)) / series[:, :LENGTH].std(1, keepdims=True)
    train, test = series[:1_000, :, None], series[1_000:, :, None]
    errors: dict[bool, list[float]] = {True: [], False: []}
    runs = [(seed, decompose) for seed in SEEDS for decompose in errors]
    for index, (seed, decompose) in enumerate(runs):
        reporter.progress(index / len(runs), f"{'with' if decompose else 'without'} decomposition, seed {seed}")
        model = _train(replace(SMALL, decompose=decompose), train[:, :LENGTH], {"forecast": train[:, LENGTH:]}, seed)
        errors[decompose].append(_error(model, test))
    return ClaimResult(
        f"with {_told(errors[True])}, without {_told(errors[False])}",
        statistics.mean(errors[True]) < statistics.mean(errors[False]),
        f"mean squared error on synthetic series of trend, seasons and noise; {_conditions()}",
    )


def _told(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def _conditions() -> str:
    return f"a random GPT-2 of {SMALL.depth} blocks and width {SMALL.dim}, {STEPS} steps, {len(SEEDS)} seeds"


CLAIMS: list[Claim] = [
    Claim(
        id="parameters",
        kind="count",
        statement="parameters of the parts of the published size, look-back 336 and horizon 96",
        published=_counted(PUBLISHED),
        run=_counts,
    ),
    *output_claims("tempo", "DC-research/TEMPO"),
    Claim(
        id="unseen-series",
        kind="direction",
        statement="trained on ETTh2 alone, it forecasts ETTh1 better than repeating its last value does",
        published="mean squared error 0.428 on ETTh1, trained on other sets (mean of four horizons)",
        run=_unseen,
        slow=True,
    ),
    Claim(
        id="decomposition-helps",
        kind="direction",
        statement="taking a window apart lowers the error on series of trend, seasons and noise",
        published="the decomposition lowers the error",
        run=_decomposition,
        slow=True,
    ),
]

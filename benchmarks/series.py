"""``python -m benchmarks.series``: iTransformer beside neuralforecast's, and forecasts of 10,000 series.

Both sides have the same size, batch, loss (squared error) and optimiser (fused Adam in the step; each library's own
training loop in the epoch, after two steps that do not count). Medians of turns that take place one after the other, in
one run. With ``--processor-time`` and one thread, seconds are those of the processor: for a machine that is busy.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import formwright  # noqa: F401  # before PyTorch: it says how idle threads wait

# isort: split
import numpy as np
import torch

from benchmarks.peer import ROOT, Peer
from benchmarks.timing import take_turn
from formwright.data.calendar import clock_frequency
from formwright.data.series import ColumnRoles, Scaling, Series, arrange
from formwright.data.series_batches import SeriesBatches, Windows
from formwright.models import Model
from formwright.models.series.itransformer import itransformer
from formwright.objectives import Forecasting
from formwright.training import Recipe, Trainer

ENVIRONMENT = ROOT / ".venv-neuralforecast"
PACKAGES = ("neuralforecast==3.3.0",)
HOUR, DAY = 3_600_000_000_000, 86_400_000_000_000
#: ETTh1 by the authors' script at a horizon of 96, without calendar features, which the peer lacks.
SIZE: dict[str, Any] = {
    "length": 96,
    "horizon": 96,
    "variates": 7,
    "dim": 256,
    "hidden": 256,
    "depth": 2,
    "heads": 8,
    "dropout": 0.1,
    "batch": 32,
    "rows": 8640,
}
SERIES, ROWS, AHEAD = 10_000, 60, 14
GOALS = {"step": 1.0, "epoch": 1.3}


def neuralforecast_python(given: Path | None) -> Path:
    """A Python that can import neuralforecast: the given one, or that of an environment, which is made if missing."""
    if given is not None:
        return given
    python = ENVIRONMENT / "bin" / "python"
    if not (ENVIRONMENT / "ready").is_file():
        print(f"Installing neuralforecast in {ENVIRONMENT} (once) ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        torch_version = torch.__version__.partition("+")[0]
        packages = (f"torch=={torch_version}", *PACKAGES)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
        (ENVIRONMENT / "ready").touch()
    return python


def model() -> Model:
    torch.manual_seed(0)
    names = ("dim", "hidden", "depth", "heads", "dropout", "length", "horizon", "variates")
    return Model(itransformer(**{name: SIZE[name] for name in names}))


def our_step(clock: Callable[[], float]) -> Callable[[], float]:
    network = model().train()
    x = torch.randn(SIZE["batch"], SIZE["length"], SIZE["variates"])
    y = torch.randn(SIZE["batch"], SIZE["horizon"], SIZE["variates"])
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(network(x), y).backward()
        optimizer.step()

    return lambda: take_turn(step, clock)


def our_inference(clock: Callable[[], float]) -> Callable[[], float]:
    network = model().eval()
    x = torch.randn(SIZE["batch"], SIZE["length"], SIZE["variates"])

    @torch.inference_mode()
    def infer() -> object:
        return network(x)

    return lambda: take_turn(infer, clock)


def our_epoch(steps: int, clock: Callable[[], float]) -> float:
    """Seconds from values in memory to a trained model: windows, batches, steps, averaged weights."""
    times = np.datetime64("2016-07-01", "ns") + np.arange(SIZE["rows"] * 10 // 7) * np.timedelta64(1, "h")
    values = np.random.default_rng(0).normal(size=(len(times), SIZE["variates"]))
    names = tuple(f"v{index}" for index in range(SIZE["variates"]))
    started = clock()
    hourly = clock_frequency(HOUR)
    bare = type(hourly)(hourly.name, hourly.step, season=hourly.season)
    data = arrange(
        [Series("", times, values)], ColumnRoles(names), bare, horizon=SIZE["horizon"], length=SIZE["length"]
    )
    batches = SeriesBatches(Windows(data, "train"), batch_size=SIZE["batch"])
    recipe = Recipe(optimizer="adamw", learning_rate=1e-4, weight_decay=0.0, batch_size=SIZE["batch"], clip=None)
    Trainer(model(), Forecasting(), batches, recipe).train(steps=steps)
    return clock() - started


def many_series() -> tuple[float, float]:
    """Seconds to write nothing but forecasts of 10,000 series of 60 days: reading the file, and all of it."""
    import pandas as pd

    from formwright.deployment.export import export_onnx
    from formwright.deployment.prediction import MODEL_FILE, predict
    from formwright.deployment.preparations.forecasting import ForecastPreparation
    from formwright.inference.intervals import Intervals

    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        specification = itransformer(dim=64, hidden=128, heads=4, length=28, horizon=AHEAD, variates=1, covariates=3)
        export_onnx(Model(specification), folder / MODEL_FILE, specification.input.example(2))
        daily = clock_frequency(DAY)
        ForecastPreparation(
            layout=ColumnRoles(("y",)),
            frequency=daily,
            length=28,
            horizon=AHEAD,
            time_column="ds",
            series_column="unique_id",
            scalings={"": Scaling(np.zeros(1), np.ones(1))},
            intervals=Intervals(-np.ones((AHEAD, 1)), np.ones((AHEAD, 1)), 0.9, np.inf),
        ).save(folder)
        frame = pd.DataFrame(
            {
                "unique_id": np.repeat([f"s{index:05d}" for index in range(SERIES)], ROWS),
                "ds": np.tile(pd.date_range("2024-01-01", periods=ROWS, freq="D"), SERIES),
                "y": random.normal(10, 2, SERIES * ROWS).round(3),
            }
        )
        frame.to_csv(folder / "series.csv", index=False)
        started = time.perf_counter()
        ForecastPreparation.load(folder).read(folder / "series.csv")
        reading = time.perf_counter() - started
        started = time.perf_counter()
        found = predict(folder, [folder / "series.csv"])
        whole = time.perf_counter() - started
        assert len(found) == SERIES
    return reading, whole


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.series", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--epochs", type=int, default=1, help="epochs of each side, one after the other")
    parser.add_argument("--steps", type=int, default=264, help="steps of an epoch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=("step", "inference", "epoch", "many"), nargs="+")
    parser.add_argument("--neuralforecast-python", type=Path)
    parser.add_argument("--processor-time", action="store_true", help="with one thread, on a busy machine")
    options = parser.parse_args()
    clock = time.process_time if options.processor_time else time.perf_counter
    torch.set_num_threads(options.threads)
    wanted = options.only or ("step", "inference", "epoch", "many")
    if set(wanted) & {"step", "inference", "epoch"}:
        with Peer(neuralforecast_python(options.neuralforecast_python), "benchmarks.neuralforecast_worker") as peer:
            for kind in [kind for kind in ("step", "inference", "epoch") if kind in wanted]:
                request = {
                    "kind": kind,
                    "size": SIZE,
                    "threads": options.threads,
                    "steps": options.steps,
                    "clock": clock.__name__,
                }
                parameters = peer.ask(prepare=request)["parameters"]
                assert parameters == model().parameter_count(), "the two sides have the same size"
                makers: dict[str, Callable[[Callable[[], float]], Callable[[], float]]] = {
                    "step": our_step,
                    "inference": our_inference,
                    "epoch": lambda clock: lambda: our_epoch(options.steps, clock),
                }
                ours = makers[kind](clock)
                if kind == "epoch":
                    our_epoch(2, clock)
                turns = options.epochs if kind == "epoch" else options.rounds
                pairs = [(peer.take_turn(), ours()) for _ in range(turns)]
                theirs, own = (statistics.median(side) for side in zip(*pairs, strict=True))
                goal = f" (goal {GOALS[kind]})" if kind in GOALS else ""
                print(
                    f"{kind:<10} neuralforecast {1e3 * theirs:9.2f} ms, ours {1e3 * own:9.2f} ms: "
                    f"{theirs / own:.2f} times as fast{goal}",
                    flush=True,
                )
    if "many" in wanted:
        reading, whole = many_series()
        print(
            f"{SERIES:,} series of {ROWS} rows, {AHEAD} steps ahead: {whole:.1f} s from file to forecasts, of which "
            f"reading {reading:.1f} s"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

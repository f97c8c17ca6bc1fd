"""neuralforecast's side, in a process of its own: one JSON object a line in, one a line out.

``{"prepare": {"kind": "step", "inference" or "epoch", ...}}`` builds its iTransformer and answers its number of
parameters; ``{"run": 1}`` takes a turn (an epoch is run once) and answers its seconds.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.timing import take_turn


def build(size: dict[str, Any], steps: int = 1) -> Any:
    from neuralforecast.losses.pytorch import MSE
    from neuralforecast.models import iTransformer

    torch.manual_seed(0)
    return iTransformer(
        h=size["horizon"],
        input_size=size["length"],
        n_series=size["variates"],
        hidden_size=size["dim"],
        n_heads=size["heads"],
        e_layers=size["depth"],
        d_ff=size["hidden"],
        dropout=size["dropout"],
        loss=MSE(),
        max_steps=steps,
        learning_rate=1e-4,
        batch_size=size["batch"],
        windows_batch_size=size["batch"],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        logger=False,
        accelerator="cpu",
    )


def prepare(
    kind: str, size: dict[str, Any], threads: int, clock: str, steps: int = 1
) -> tuple[int, Callable[[], float]]:
    torch.set_num_threads(threads)
    watch: Callable[[], float] = getattr(time, clock)
    model = build(size)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if kind == "epoch":
        epoch(size, 2, watch)  # whatever is loaded at first use does not count
        return parameters, lambda: epoch(size, steps, watch)
    x = torch.randn(size["batch"], size["length"], size["variates"])
    if kind == "inference":
        model.eval()

        @torch.inference_mode()
        def infer() -> object:
            return model({"insample_y": x})

        return parameters, lambda: take_turn(infer, watch)
    y = torch.randn(size["batch"], size["horizon"], size["variates"])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    model.train()

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model({"insample_y": x}), y).backward()
        optimizer.step()

    return parameters, lambda: take_turn(step, watch)


def epoch(size: dict[str, Any], steps: int, clock: Callable[[], float]) -> float:
    """Seconds of ``NeuralForecast.fit`` over so many steps on series as long as the training part."""
    import numpy as np
    import pandas as pd
    from neuralforecast import NeuralForecast

    values = np.random.default_rng(0).normal(size=(size["rows"], size["variates"]))
    times = pd.date_range("2016-07-01", periods=size["rows"], freq="h")
    frame = pd.concat(
        [
            pd.DataFrame({"unique_id": str(index), "ds": times, "y": values[:, index]})
            for index in range(size["variates"])
        ]
    )
    learner = NeuralForecast(models=[build(size, steps)], freq="h")
    started = clock()
    learner.fit(frame)
    return clock() - started


def main() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr
    os.environ["NIXTLA_ID_AS_COL"] = "1"
    warnings.simplefilter("ignore")
    for name in ("pytorch_lightning", "lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    call: Callable[[], float] | None = None
    for line in sys.stdin:
        request = json.loads(line)
        if "prepare" in request:
            parameters, call = prepare(**request["prepare"])
            answer: dict[str, Any] = {"parameters": parameters}
        else:
            assert call is not None, "prepare comes before run"
            answer = {"seconds": call()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()

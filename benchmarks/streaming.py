"""Tokens a second of one text, PyTorch beside ONNX Runtime: ``python -m benchmarks.streaming``.

The same models, the same ids, in one run: ``model.stream`` with its caches written in place, and the exported step with
its state passed from call to call. Both are timed in turns, a stretch of tokens at a time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import formwright  # noqa: F401  # before PyTorch: it says how idle threads wait

# isort: split
import numpy as np
import torch

from formwright.deployment import OnnxStream, export_step
from formwright.models import Network, create_model

DIM, DEPTH, VOCABULARY, CAPACITY = 256, 4, 8192, 1024
#: Places in a text at which a stretch of so many tokens is timed.
PLACES, STRETCH, ROUNDS = (0, 200, 900), 50, 7
MODELS: dict[str, Callable[[], Network]] = {
    "llama": lambda: create_model(
        "llama3_2_1b", dim=DIM, depth=DEPTH, heads=4, kv_heads=2, head_dim=64, hidden=688, vocabulary=VOCABULARY
    ),
    **{
        name: lambda name=name: create_model(  # type: ignore[misc]
            "decoder_tiny", dim=DIM, depth=DEPTH, heads=4, mixers=name, vocabulary=VOCABULARY
        )
        for name in ("mamba", "mamba2", "gated_linear_attention")
    },
}


def stretches(model: Network, path: Path, place: int, threads: int) -> dict[str, Callable[[], None]]:
    """A stretch of tokens behind ``place`` others, by what computes it."""
    ids = torch.randint(VOCABULARY, (1, place + STRETCH))
    whole = model.init_state(1, CAPACITY)
    exported = OnnxStream(path, threads=threads)
    arrays = exported.init_state(1)
    if place:
        _, whole = model.stream(ids[:, :place], whole)
        _, arrays = exported.stream(ids[:, :place].numpy(), arrays)

    def pytorch() -> None:
        state = whole
        for step in ids[:, place:].split(1, dim=1):
            _, state = model.stream(step, state)

    def onnxruntime() -> None:
        state = arrays
        for step in np.split(ids[:, place:].numpy(), STRETCH, axis=1):
            _, state = exported.stream(step, state)

    return {"pytorch": pytorch, "onnxruntime": onnxruntime}


def rows(names: list[str], threads: int) -> Iterator[dict[str, Any]]:
    """Median tokens a second by model and place."""
    for name in names:
        torch.manual_seed(0)
        model = MODELS[name]().eval()
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode(False), torch.no_grad():
            path = Path(folder) / "step.onnx"
            export_step(model, path, capacity=CAPACITY)
            for place in PLACES:
                sides = stretches(model, path, place, threads)
                seconds: dict[str, list[float]] = {side: [] for side in sides}
                for _ in range(ROUNDS):
                    for side, run in sides.items():
                        started = time.perf_counter()
                        run()
                        seconds[side].append(time.perf_counter() - started)
                speed = {side: STRETCH / statistics.median(times[1:]) for side, times in seconds.items()}
                yield {"model": name, "place": place, "tokens_per_second": speed}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streaming", description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object on the standard output, nothing else")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = []
    for row in rows(options.models, options.threads):
        found.append(row)
        if not options.json:
            ours, theirs = row["tokens_per_second"]["onnxruntime"], row["tokens_per_second"]["pytorch"]
            print(
                f"{row['model']:<24} at {row['place']:>4}: PyTorch {theirs:7.0f}, ONNX Runtime {ours:7.0f} tokens a "
                f"second ({ours / theirs:.2f} times)",
                flush=True,
            )
    if options.json:
        json.dump({"threads": options.threads, "dim": DIM, "depth": DEPTH, "rows": found}, sys.stdout, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())

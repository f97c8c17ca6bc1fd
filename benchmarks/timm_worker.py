"""timm's side, in a process of its own: one JSON object a line in, one a line out.

``{"prepare": {"model": ..., "batch": ..., "size": ..., "kind": "inference" or "training", "threads": ...}}`` builds the
model and answers its number of parameters; ``{"run": 1}`` takes a turn and answers its seconds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.timing import take_turn


def import_timm() -> Any:
    """Import timm although torchvision's compiled operators do not fit a PyTorch for CPUs; no model here needs them."""
    register = torch.library.register_fake

    def register_known(name: Any, *arguments: Any, **options: Any) -> Any:
        if str(name).startswith("torchvision::"):
            return lambda function: function
        return register(name, *arguments, **options)

    torch.library.register_fake = register_known
    try:
        import timm
        import torchvision  # noqa: F401
    finally:
        torch.library.register_fake = register
    return timm


def prepare(timm: Any, model: str, batch: int, size: int, kind: str, threads: int) -> tuple[int, Callable[[], object]]:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = timm.create_model(model)
    x = torch.randn(batch, 3, size, size)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    if kind == "training":
        network = network.train().to(memory_format=torch.channels_last)
        return parameters, training_step(network, x.contiguous(memory_format=torch.channels_last))
    network.eval()

    @torch.inference_mode()
    def infer() -> object:
        return network(x)

    return parameters, infer


def training_step(network: torch.nn.Module, x: torch.Tensor) -> Callable[[], object]:
    """Forward, loss, backward and fused AdamW: one function for both sides."""
    labels = torch.arange(len(x))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(x), labels).backward()
        optimizer.step()

    return step


def main() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints must not be taken for an answer
    timm = import_timm()
    call: Callable[[], object] | None = None
    for line in sys.stdin:
        request = json.loads(line)
        if "prepare" in request:
            call = None  # one model at a time is in memory
            parameters, call = prepare(timm, **request["prepare"])
            answer = {"version": timm.__version__, "parameters": parameters}
        else:
            assert call is not None, "prepare comes before run"
            answer = {"seconds": take_turn(call)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()

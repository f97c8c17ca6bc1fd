"""What this machine can do at best: the floor under every latency."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

MATRIX = 1024  # three float32 matrices of this side (12 MB) feed large caches and hide call overhead
COPY_BYTES = 256 * 2**20  # far beyond any cache
SECONDS = 0.3  # for each of the rates


@contextmanager
def torch_threads(threads: int | None) -> Iterator[int]:
    """Run PyTorch's operators on ``threads`` threads (``None``: as set), and put the number back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield threads or before
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Machine:
    """Measured rates: multiply-accumulates a second by data type, and bytes a second to and from memory."""

    threads: int
    macs_per_second: dict[str, float]
    bytes_per_second: float

    def floor_seconds(self, macs: float, size: float = 0.0, dtype: str = "float32") -> float:
        """The least time for ``macs`` multiply-accumulates that move ``size`` bytes: max(macs / rate, size / rate).

        Arithmetic and traffic can overlap, hence the larger of the two and not their sum.
        """
        return max(macs / self.macs_per_second[dtype], size / self.bytes_per_second)


def _fastest(function: Callable[[], Any]) -> float:
    """The shortest of repeated calls: a floor asks for the best that the machine did, not for what is typical."""
    function()
    start, best = time.perf_counter(), float("inf")
    while time.perf_counter() - start < SECONDS:
        before = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - before)
    return best


def _matmul_rate(dtype: torch.dtype) -> float:
    left, right = (torch.ones(MATRIX, MATRIX, dtype=dtype) for _ in range(2))
    out = torch.empty_like(left)
    return MATRIX**3 / _fastest(lambda: torch.mm(left, right, out=out))


def _bandwidth() -> float:
    source = torch.zeros(COPY_BYTES // 4)
    target = torch.zeros_like(source)
    return 2 * COPY_BYTES / _fastest(lambda: target.copy_(source))  # each byte is read once and written once


@functools.cache
def _measure(threads: int) -> Machine:
    with torch_threads(threads), torch.inference_mode():
        rates = {str(dtype).removeprefix("torch."): _matmul_rate(dtype) for dtype in (torch.float32, torch.bfloat16)}
        return Machine(threads, rates, _bandwidth())


def machine_rates(threads: int | None = None) -> Machine:
    """This machine's CPU with ``threads`` threads (``None``: PyTorch's number), measured once a process (about 1 s)."""
    return _measure(threads or torch.get_num_threads())


def floor_seconds(macs: float, size: float = 0.0, *, dtype: str = "float32", threads: int | None = None) -> float:
    """:meth:`Machine.floor_seconds` of this machine."""
    return machine_rates(threads).floor_seconds(macs, size, dtype)

"""Wall-clock time of calls: medians of repeats after warm-up, and fair comparisons of interleaved repeats."""

from __future__ import annotations

import gc
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from formwright.measurement.budget import format_seconds


@dataclass(frozen=True)
class Latency:
    """Seconds of one call: the median of ``repeats`` calls, and their 10th and 90th percentile."""

    median: float
    low: float
    high: float
    repeats: int

    @classmethod
    def of(cls, seconds: list[float]) -> Latency:
        ordered = sorted(seconds)
        last = len(ordered) - 1
        low, high = ordered[math.floor(0.1 * last)], ordered[math.ceil(0.9 * last)]
        return cls(statistics.median(ordered), low, high, len(ordered))

    def __str__(self) -> str:
        return f"{format_seconds(self.median)} ({format_seconds(self.low)} to {format_seconds(self.high)})"


@dataclass(frozen=True)
class Comparison:
    """Times of several functions, taken in turns: ``seconds[name][round]``."""

    seconds: dict[str, list[float]]

    @property
    def latencies(self) -> dict[str, Latency]:
        return {name: Latency.of(times) for name, times in self.seconds.items()}

    def speedup(self, name: str, over: str) -> float:
        """How many times faster ``name`` is than ``over``: the median over rounds of the ratio within a round.

        Neighbours in time share the machine's state, so their ratio is steadier than the ratio of two medians.
        """
        pairs = zip(self.seconds[over], self.seconds[name], strict=True)
        return statistics.median(slow / fast for slow, fast in pairs)


def _finish_queued_work() -> None:
    """Wait for a GPU's queue, where PyTorch has one in use; calls only put work there."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _time_once(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    _finish_queued_work()
    return time.perf_counter() - start


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def measure_latency(
    function: Callable[[], Any], *, min_time: float = 0.5, min_repeats: int = 10, warmup: int = 3
) -> Latency:
    """The latency of ``function()``, repeated for ``min_time`` seconds and at least ``min_repeats`` times.

    The first ``warmup`` calls (allocation, code generation, caches) are not counted.
    """
    return compare({"": function}, min_time=min_time, min_rounds=min_repeats, warmup=warmup).latencies[""]


def compare(
    functions: Mapping[str, Callable[[], Any]], *, min_time: float = 1.0, min_rounds: int = 10, warmup: int = 3
) -> Comparison:
    """Time ``functions`` in turns (A B C, A B C, ...), so that drift of the machine meets all of them alike.

    Rounds go on for ``min_time`` seconds in all and at least ``min_rounds`` times, after ``warmup`` uncounted ones.
    """
    for function in functions.values():
        for _ in range(warmup):
            function()
    _finish_queued_work()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    with _without_garbage_collection():
        start, rounds = time.perf_counter(), 0
        while rounds < min_rounds or time.perf_counter() - start < min_time:
            for name, function in functions.items():
                seconds[name].append(_time_once(function))
            rounds += 1
    return Comparison(seconds)

"""One side's turn in an interleaved comparison; the peer's environment imports it too: standard library only."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

SECONDS = 0.15  # of calls in a turn
CALLS = 3  # at least


def take_turn(call: Callable[[], object]) -> float:
    """The median seconds of a few calls after an uncounted one, which finds the other side's data in the caches."""
    call()
    seconds: list[float] = []
    while len(seconds) < CALLS or sum(seconds) < SECONDS:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)

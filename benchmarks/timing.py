"""One side's turn in an interleaved comparison; the peer's environment imports it too: standard library only."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

SECONDS = 0.15  # of calls in a turn


def take_turn(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """The median seconds of a few calls after an uncounted one, which finds the other side's data in the caches."""
    call()
    seconds: list[float] = []
    while sum(seconds) < SECONDS:
        start = clock()
        call()
        seconds.append(clock() - start)
    return statistics.median(seconds)

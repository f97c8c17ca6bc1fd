"""The time that a run may take, over kills and continuations."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Seconds used and left of ``limit``; ``spent`` are those of earlier sessions of the same run."""

    def __init__(self, limit: float, *, spent: float = 0.0, stages: dict[str, float] | None = None) -> None:
        self.limit = limit
        self._stages = dict(stages or {})
        self._running: tuple[str, float] | None = None
        self._started = time.monotonic() - spent

    @property
    def spent(self) -> float:
        return time.monotonic() - self._started

    @property
    def left(self) -> float:
        return max(0.0, self.limit - self.spent)

    def deadline(self, seconds_from_start: float) -> float:
        """The value of ``time.monotonic()`` when so many seconds of the run have passed."""
        return self._started + seconds_from_start

    @property
    def stages(self) -> dict[str, float]:
        """Seconds of each stage, the one that is running included, so that a kill does not lose them."""
        stages = dict(self._stages)
        if self._running is not None:
            name, start = self._running
            stages[name] = stages.get(name, 0.0) + time.monotonic() - start
        return stages

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of the block towards a stage of the report."""
        self._running = name, time.monotonic()
        try:
            yield
        finally:
            self._stages = self.stages
            self._running = None

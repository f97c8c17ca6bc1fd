"""What a run of the arena found, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Score:
    """How well a mixer did on a task.

    Attributes:
        accuracy: on the test rows, one a seed.
        tested: how many test rows there were time for.
        majority: what always saying the most frequent class reaches on them.
        steps: how many training steps all mixers had.
        seconds: how long training took, evaluation left out.
        parameters: of the model.
        length: ids of a row.
        source: what the rows were made of.
    """

    task: str
    mixer: str
    accuracy: tuple[float, ...]
    tested: int
    majority: float
    steps: int
    seconds: float
    parameters: int
    length: int
    source: str

    @property
    def mean(self) -> float:
        return sum(self.accuracy) / len(self.accuracy)


@dataclass(frozen=True)
class Speed:
    """How fast a mixer trains on rows of a length; without figures where it was left out, and why.

    Attributes:
        steps_per_second: training steps, forward and backward, with one row.
        peak_memory: bytes by which the process grows in a step, where the system tells.
    """

    mixer: str
    length: int
    steps_per_second: float | None = None
    peak_memory: int | None = None
    skipped: str = ""


@dataclass(frozen=True)
class ArenaResult:
    """A run of the arena.

    Attributes:
        frame: the sizes that all models share.
        budget: seconds that were asked for.
        seconds: that it took.
    """

    tasks: tuple[str, ...]
    mixers: tuple[str, ...]
    frame: str
    scores: tuple[Score, ...]
    speeds: tuple[Speed, ...]
    budget: float
    seconds: float
    machine: str
    seeds: tuple[int, ...]

    @property
    def lengths(self) -> list[int]:
        return sorted({speed.length for speed in self.speeds})

    def score(self, task: str, mixer: str) -> Score | None:
        return next((one for one in self.scores if (one.task, one.mixer) == (task, mixer)), None)

    def speed(self, mixer: str, length: int) -> Speed | None:
        return next((one for one in self.speeds if (one.mixer, one.length) == (mixer, length)), None)

    def average(self, mixer: str) -> float | None:
        """The mean accuracy over all tasks that were run; none if there was none."""
        found = [one.mean for one in self.scores if one.mixer == mixer]
        return sum(found) / len(found) if found else None

    def ranked(self) -> Sequence[str]:
        """The mixers, best average first; in the order in which they were given where there are no scores."""
        return sorted(self.mixers, key=lambda mixer: -(self.average(mixer) or 0))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

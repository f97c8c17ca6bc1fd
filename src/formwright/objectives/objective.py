"""What is optimised: ``(model, batch, progress) -> Outcome``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from formwright.batch import Batch


@dataclass(frozen=True)
class Outcome:
    """The loss of a batch, and what else was counted on it.

    Attributes:
        loss: what is differentiated, a scalar.
        sums: totals over the batch by name (summed losses, right answers), without gradient.
        counts: over how many things each of them was summed. Batches of different sizes, and batches of several
            devices, average rightly when their sums and counts are added first.
    """

    loss: Tensor
    sums: Mapping[str, Tensor] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)


def means(outcomes: Iterable[Outcome]) -> dict[str, float]:
    """The mean of every sum over all ``outcomes``: ``sum of sums / sum of counts``."""
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    for outcome in outcomes:
        for name, value in outcome.sums.items():
            sums[name] = sums[name] + value if name in sums else value
            counts[name] = counts.get(name, 0) + outcome.counts[name]
    return {name: float(value) / counts[name] for name, value in sums.items() if counts[name]}


class Objective(nn.Module, ABC):
    """Runs the model on a batch and says how wrong it was.

    An objective may own teachers, projectors and queues. Its parameters are trained with the model's and are never
    saved with them. An objective that refines another one wraps it.
    """

    @abstractmethod
    def forward(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
        """The outcome of ``model`` on ``batch``, ``progress`` being the share of the training that is done, 0 to 1."""

    def after_step(self) -> None:
        """Called after each step of the optimiser: the place to move an averaged teacher or a queue."""

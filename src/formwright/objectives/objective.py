"""What is optimised: ``(model, batch, progress) -> Outcome``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from formwright.batch import Batch
from formwright.errors import UserError


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


@dataclass(frozen=True)
class Phase:
    """One turn of a training step: a loss, and whom it trains.

    Attributes:
        run: ``(model, batch, progress) -> Outcome``, as an objective is called.
        modules: whose parameters get gradients and are stepped; all others are as if they were frozen.
        name: what messages and records call it.
    """

    run: Callable[[nn.Module, Batch, float], Outcome]
    modules: tuple[nn.Module, ...]
    name: str = ""


class Objective(nn.Module, ABC):
    """Runs the model on a batch and says how wrong it was.

    An objective may own teachers, discriminators, projectors and queues. Its parameters are trained beside the model's,
    its state is part of a training's checkpoints, and neither is saved with the model. An objective that refines
    another one wraps it.
    """

    @abstractmethod
    def forward(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
        """The outcome of ``model`` on ``batch``, ``progress`` being the share of the training that is done, 0 to 1."""

    def phases(self, model: nn.Module) -> tuple[Phase, ...]:
        """The turns that a training step takes with one batch, in order: one, which trains everything.

        An objective whose own parts learn something else than the model (a discriminator) has several.

        Raises:
            UserError: an objective inside this one has several, and this one does not say what becomes of them.
        """
        for inner in self.modules():
            if isinstance(inner, Objective) and inner is not self and len(inner.phases(model)) > 1:
                raise UserError(
                    f"{type(self).__name__} trains in one phase and wraps {type(inner).__name__}, which has several; "
                    "wrap the objective of one phase, or define the phases of the wrapper."
                )
        return (Phase(self, (model, self)),)

    def after_step(self) -> None:
        """Called after each step, when all phases are over: the place to move an averaged teacher or a queue."""

"""What a part tells a training besides its output: losses to be weighed, and statistics to be watched.

A part reports by name while it runs; whoever trains collects. Where nobody does (evaluation, export, a plain call)
nothing is computed or kept:

    if collects(self):
        report_loss(self, "balance", self.balance(...))
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from formwright.errors import UserError

#: Where a module finds who collects from it; there only while somebody does.
_ATTRIBUTE = "_auxiliary"


class Auxiliary:
    """What the modules of a model reported during its forwards, by name and by the module's path.

    A module that ran several times has reported several times: its losses are summed, its statistics averaged.

    Attributes:
        losses: scalars with their gradients, ``losses[name][path]``.
    """

    def __init__(self) -> None:
        self.losses: dict[str, dict[str, Tensor]] = {}
        self._totals: dict[str, dict[str, Tensor]] = {}
        self._calls: dict[str, dict[str, int]] = {}

    def loss(self, name: str) -> Tensor:
        """The sum of a loss over all modules that reported it.

        Raises:
            UserError: none did.
        """
        if name not in self.losses:
            reported = ", ".join(self.losses) or "none"
            raise UserError(f"No part of the model reported a loss {name!r}; the losses reported are: {reported}.")
        return sum(self.losses[name].values())  # type: ignore[return-value]

    @property
    def statistics(self) -> dict[str, dict[str, Tensor]]:
        """Means over a module's calls, without gradient, ``statistics[name][path]``."""
        return {
            name: {path: total / self._calls[name][path] for path, total in totals.items()}
            for name, totals in self._totals.items()
        }

    def statistic(self, name: str) -> Tensor:
        """The mean of a statistic over all modules that reported it."""
        values = self.statistics[name].values()
        return sum(values) / len(values)  # type: ignore[return-value]

    def _add_loss(self, name: str, path: str, value: Tensor) -> None:
        losses = self.losses.setdefault(name, {})
        losses[path] = losses[path] + value if path in losses else value

    def _add_statistic(self, name: str, path: str, value: Tensor) -> None:
        totals, calls = self._totals.setdefault(name, {}), self._calls.setdefault(name, {})
        totals[path] = totals[path] + value if path in totals else value
        calls[path] = calls.get(path, 0) + 1


def collects(module: nn.Module) -> bool:
    """Whether anybody collects what ``module`` reports: ask before computing anything for a report alone."""
    return getattr(module, _ATTRIBUTE, None) is not None


def report_loss(module: nn.Module, name: str, value: Tensor) -> None:
    """Report a scalar that an objective may add to its loss, with its gradient.

    Raises:
        UserError: the value is no scalar.
    """
    if value.ndim:
        raise UserError(
            f"{type(module).__name__} reports the loss {name!r} of shape {tuple(value.shape)}; a scalar is expected: "
            "take its sum or mean."
        )
    for auxiliary, path in getattr(module, _ATTRIBUTE, None) or ():
        auxiliary._add_loss(name, path, value)


def report_statistic(module: nn.Module, name: str, value: Tensor) -> None:
    """Report a number worth watching; it is cut off from the gradient."""
    for auxiliary, path in getattr(module, _ATTRIBUTE, None) or ():
        auxiliary._add_statistic(name, path, value.detach())


@contextmanager
def collect(model: nn.Module) -> Iterator[Auxiliary]:
    """Collect what the modules of ``model`` report while it runs; collectors inside one another all get everything.

    >>> with collect(model) as auxiliary:                 # doctest: +SKIP
    ...     scores = model(inputs)
    >>> auxiliary.losses["balance"]                       # doctest: +SKIP
    {'backbone.stages.0.blocks.0.branches.1.part': tensor(1.02, grad_fn=<MulBackward0>)}
    """
    auxiliary = Auxiliary()
    before = [(module, module.__dict__.get(_ATTRIBUTE)) for module in model.modules()]
    for path, module in model.named_modules():
        module.__dict__[_ATTRIBUTE] = (*(module.__dict__.get(_ATTRIBUTE) or ()), (auxiliary, path))
    try:
        yield auxiliary
    finally:
        for module, collectors in before:
            if collectors is None:
                del module.__dict__[_ATTRIBUTE]
            else:
                module.__dict__[_ATTRIBUTE] = collectors

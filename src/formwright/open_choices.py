"""The kinds of choices that a candidate leaves open: one of a few values, a whole number, a number on a log scale."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from formwright.errors import UserError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

Value = str | int | float | bool | None


class Open(ABC):
    """A choice that is open."""

    @property
    @abstractmethod
    def first(self) -> Value:
        """What is tried first if nothing else is said."""

    @abstractmethod
    def offers(self, value: object) -> bool:
        """Whether ``value`` can be chosen."""

    @abstractmethod
    def distribution(self) -> BaseDistribution:
        """The same for Optuna."""

    @abstractmethod
    def suggest(self, trial: Trial, name: str) -> Any:
        """What Optuna chooses in a trial, where the choice has this name."""


@dataclass(frozen=True)
class Categorical(Open):
    """One of ``values``; where they have an order, from small to large.

    Raises:
        UserError: there are none.
    """

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise UserError("A categorical choice needs at least one value.")

    @property
    def first(self) -> Value:
        return self.values[0]

    def offers(self, value: object) -> bool:
        return value in self.values

    def distribution(self) -> BaseDistribution:
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.values)

    def suggest(self, trial: Trial, name: str) -> Value:
        return trial.suggest_categorical(name, self.values)


@dataclass(frozen=True)
class Integer(Open):
    """A whole number from ``low`` to ``high``, both included, in steps of ``step``.

    Raises:
        UserError: there is no such number, or ``high`` is not reached by whole steps.
    """

    low: int
    high: int
    step: int = 1

    def __post_init__(self) -> None:
        if self.step < 1 or self.high < self.low or (self.high - self.low) % self.step:
            raise UserError(
                f"A whole number is chosen from low to high in positive steps that reach high, and got {self.low} to "
                f"{self.high} in steps of {self.step}."
            )

    @property
    def values(self) -> tuple[int, ...]:
        return tuple(range(self.low, self.high + 1, self.step))

    @property
    def first(self) -> int:
        return self.low

    def offers(self, value: object) -> bool:
        return isinstance(value, int) and value in self.values

    def distribution(self) -> BaseDistribution:
        from optuna.distributions import IntDistribution

        return IntDistribution(self.low, self.high, step=self.step)

    def suggest(self, trial: Trial, name: str) -> int:
        return trial.suggest_int(name, self.low, self.high, step=self.step)


@dataclass(frozen=True)
class LogUniform(Open):
    """A number from ``low`` to ``high`` whose logarithm is as likely here as there; first tried in the middle.

    Raises:
        UserError: it is not positive, or ``high`` is below ``low``.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high:
            raise UserError(
                f"On a log scale a number is chosen from a positive low to a high that is no smaller, and got "
                f"{self.low:g} to {self.high:g}."
            )

    @property
    def first(self) -> float:
        return float((self.low * self.high) ** 0.5)

    def offers(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high

    def distribution(self) -> BaseDistribution:
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high, log=True)

    def suggest(self, trial: Trial, name: str) -> float:
        return trial.suggest_float(name, self.low, self.high, log=True)

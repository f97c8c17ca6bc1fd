"""What a search space is: families of models, the choices that each leaves open, and what is made of them."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from formwright.errors import UserError
from formwright.nn.specification import ChainSpec
from formwright.search.open_choices import Categorical, Integer, Open
from formwright.training.recipe import Recipe

#: What is open in the training of every family: a factor on its own learning rate.
TRAINING: Mapping[str, Open] = {"rate": Categorical((1.0, 0.5, 2.0))}


@dataclass(frozen=True)
class Proposal:
    """A candidate: what it is called, what it is, how it is trained, and the choices that led to it."""

    family: str
    name: str
    choices: dict[str, Any]
    specification: ChainSpec
    recipe: Recipe


@dataclass(frozen=True)
class Family:
    """A family in a space: how it is built, how trained, and what it leaves open.

    Attributes:
        build: the specification, from the shape of the data and the choices by name.
        choices: what is open in the model, by name; what the space says for all if unset.
        first: what is tried first of the choices other than ``scale``, where it is not their own first value.
        scale: the choice, with values from small to large, by which a candidate is made as large as a machine can
            afford; if the family has no such choice, there is one size.
        narrow: the scale below which the own first values are tried in place of ``first``.
    """

    build: Callable[..., ChainSpec]
    recipe: Recipe = field(default_factory=Recipe)
    choices: Mapping[str, Open] | None = None
    first: Mapping[str, Any] = field(default_factory=dict)
    scale: str = "width"
    narrow: int = 24


class Space(ABC):
    """What may be proposed for a task.

    Attributes:
        families: by name, in the order in which they are tried when time is short.
        shared: what is open in the models of all families that declare nothing of their own, which makes them
            comparable: a width, which a machine can afford or not, and a depth.
        shape: what the space knows of the data.
        left_out: what to say when no family can take the data; an example of why follows.
    """

    families: Mapping[str, Family]
    shared: Mapping[str, Open]
    shape: Any
    left_out: str = "No family can take data of this shape"

    def choices(self, family: str) -> dict[str, Open]:
        """What is open for a family, by name: in the model first, then in its training."""
        own = self.families[family].choices
        return {**(self.shared if own is None else own), **TRAINING}

    def ladder(self, family: str) -> list[dict[str, Any]]:
        """What is tried first of a family, from the smallest model to the largest."""
        entry, choices = self.families[family], self.choices(family)
        least = {name: choice.first for name, choice in choices.items()}
        scale = choices.get(entry.scale)
        if not isinstance(scale, Categorical | Integer):
            return [{**least, **entry.first}]
        rungs = []
        for size in scale.values:
            assert isinstance(size, int | float)
            rungs.append({**least, **(entry.first if size >= entry.narrow else {}), entry.scale: size})
        return rungs

    def propose(self, family: str, **chosen: Any) -> Proposal:
        """The candidate that these choices lead to; what is not chosen has its first value.

        Raises:
            UserError: the family leaves no such choice open, or does not offer the value.
        """
        entry, choices = self.families[family], self.choices(family)
        for name, value in chosen.items():
            if name not in choices or not choices[name].offers(value):
                known = ", ".join(f"{known} of {choice}" for known, choice in choices.items())
                raise UserError(f"{family} does not offer {name} = {value!r}; it leaves open: {known}.")
        whole = {name: choice.first for name, choice in choices.items()} | dict(entry.first) | chosen
        model = {name: value for name, value in whole.items() if name not in TRAINING}
        specification = entry.build(self.shape, **model)
        rate = whole["rate"]
        recipe = dataclasses.replace(
            self.recipe(entry.recipe),
            learning_rate=entry.recipe.learning_rate * rate,
            vector_learning_rate=entry.recipe.vector_learning_rate * rate,
        )
        return Proposal(
            family, self.title(family, specification, model), {"family": family, **whole}, specification, recipe
        )

    @abstractmethod
    def recipe(self, recipe: Recipe) -> Recipe:
        """A family's recipe with the batches and the warm-up that suit the data."""

    @abstractmethod
    def title(self, family: str, specification: ChainSpec, choices: Mapping[str, Any]) -> str:
        """What people call a candidate."""

    def from_weights(self, specification: ChainSpec) -> list[Proposal]:
        """Candidates that start from a user's checkpoint; none where the task has no use for one."""
        return []

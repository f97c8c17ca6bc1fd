"""What a search space is: families of models, the choices that each leaves open, and what is made of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from formwright.candidates import CANDIDATES, Candidate
from formwright.errors import UserError
from formwright.models import MODELS
from formwright.nn.specification import ChainSpec, NetworkSpec
from formwright.open_choices import Categorical, Integer, Open
from formwright.search.starts import starts
from formwright.shapes import Shape
from formwright.training.recipe import Recipe

#: What is open in the training of every family: a factor on its own learning rate.
TRAINING: Mapping[str, Open] = {"rate": Categorical((1.0, 0.5, 2.0))}


@dataclass(frozen=True)
class Proposal:
    """A candidate: what it is called, what it is, how it is trained, and the choices that led to it."""

    family: str
    name: str
    choices: dict[str, Any]
    specification: NetworkSpec
    recipe: Recipe


class Space:
    """What may be proposed for a task.

    Args:
        families: by name, in the order in which they are tried when time is short.
        shape: what is known of the data.
    """

    def __init__(self, families: Mapping[str, Candidate], shape: Shape) -> None:
        self.families, self.shape = families, shape

    @property
    def left_out(self) -> str:
        """What to say when no family can take the data; an example of why follows."""
        return f"No family can take {self.shape}"

    @property
    def plain(self) -> tuple[str, str] | None:
        """The plain model beside every result: what it is called, and its family."""
        return next(((entry.plain, name) for name, entry in self.families.items() if entry.plain), None)

    def choices(self, family: str) -> dict[str, Open]:
        """What is open for a family, by name: in the model first, then in its training."""
        entry = self.families[family]
        own = self.shape.sizes if entry.choices is None else entry.choices
        return {**own, **({} if entry.fit else self.shape.choices), **TRAINING}

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
        recipe = Recipe(**{"batch_size": self.shape.batch, "warmup": self.shape.warmup, **entry.recipe})
        rates = {rate: whole["rate"] * getattr(recipe, rate) for rate in ("learning_rate", "vector_learning_rate")}
        return Proposal(
            family,
            ", ".join(
                [
                    entry.called or family.replace("_", " "),
                    *(f"{name.replace('_', ' ')} {value}" for name, value in model.items()),
                ]
            ),
            {"family": family, **whole},
            self.shape.built(entry.build, **model),
            dataclasses.replace(recipe, **rates),
        )

    def from_weights(self, specification: ChainSpec, place: int, name: str = "") -> list[Proposal]:
        """Candidates that start from a user's checkpoint, the one at ``place`` among several.

        Args:
            specification: its model.
            place: which checkpoint it is.
            name: what it is called; as its model, if unset.
        """
        own = self.shape.adapted(specification)
        return [
            Proposal(
                specification.family,
                f"{name or specification.name}, your weights, {start.how}",
                {"weights": place, **start.choices},
                start.specification,
                start.recipe,
            )
            for start in starts(own, batch=self.shape.batch)
        ]


def space_for(task: str, shape: Shape, only: Sequence[str] = ()) -> Space:
    """What the families of the library, and of plug-ins, offer for a task; those named alone, if any are.

    Raises:
        UserError: none does, or one that was named does not.
    """
    MODELS.names()  # imports plug-ins, whose families are candidates too
    families = CANDIDATES.get(task, {})
    if not families:
        raise UserError(f"No family is a candidate for {task}: register one (formwright.candidates).")
    unknown = [name for name in only if name not in families]
    if unknown:
        raise UserError(
            f"{unknown[0]} is no family for {task}; name some of {', '.join(sorted(families))} (--families)."
        )
    families = {name: entry for name, entry in families.items() if not only or name in only}
    return Space(dict(sorted(families.items(), key=lambda item: item[1].order)), shape)

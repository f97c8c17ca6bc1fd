"""What a family says of itself to be proposed by ``fit``; the entry stands in the family's own file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from formwright.open_choices import Open

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from formwright.nn.specification import NetworkSpec

    #: So many samples at most, evenly spaced: inputs as the model takes them, and the target of each.
    Take = Callable[[int], tuple[Tensor, NDArray[np.int64]]]
    #: Sets the weights of a network that was just built, from samples and a seed.
    Fit = Callable[[Any, Take, int], None]

Build = TypeVar("Build", bound="Callable[..., NetworkSpec]")


@dataclass(frozen=True)
class Candidate:
    """A family as it may be proposed for a task.

    Attributes:
        build: the specification, from the shape of the data (:mod:`formwright.shapes`) and the choices by name.
        order: those with lower ones are tried earlier, should time be short.
        recipe: how it is trained, where that is not the default of :class:`~formwright.training.recipe.Recipe`; batches
            and warm-up follow the data.
        choices: what is open in the model, by name; what the shape says for all if unset.
        first: what is tried first of the choices other than ``scale``, where it is not their own first value.
        scale: the choice, with values from small to large, by which a candidate is made as large as a machine can
            afford; if the family has no such choice, there is one size.
        narrow: the scale below which the own first values are tried in place of ``first``.
        plain: what it is called as the plain model beside every result, if it is that of its task.
        start: what is done to a network that was just built, before it is trained: what the data say of its weights.
        fit: for a simple competitor, which is not trained step by step: what finds its weights at once.
        called: what a simple competitor is called.
    """

    build: Callable[..., NetworkSpec]
    order: int
    recipe: Mapping[str, Any] = field(default_factory=dict)
    choices: Mapping[str, Open] | None = None
    first: Mapping[str, Any] = field(default_factory=dict)
    scale: str = "width"
    narrow: int = 24
    plain: str = ""
    start: Fit | None = None
    fit: Fit | None = None
    called: str = ""


#: By task, then by family.
CANDIDATES: dict[str, dict[str, Candidate]] = {}


def candidate(task: str, family: str, **options: Any) -> Callable[[Build], Build]:
    """Propose what the decorated function builds for a task; the options are those of :class:`Candidate`.

    >>> @candidate("image-classification", "poolformer", order=60, first={"depth": 2})      # doctest: +SKIP
    ... def _for_pictures(shape: PictureShape, width: int, depth: int) -> ChainSpec: ...
    """

    def register(build: Build) -> Build:
        known = CANDIDATES.setdefault(task, {})
        if family in known:
            raise ValueError(f"There is already a candidate {family!r} for {task}.")
        known[family] = Candidate(build, **options)
        return build

    return register

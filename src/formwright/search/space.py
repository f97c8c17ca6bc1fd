"""What a search space is: families of models with the same few choices, and what is made of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from formwright.nn.specification import ChainSpec
from formwright.registry import Registry
from formwright.training.recipe import Recipe

#: Factors on a family's own learning rate.
RATES = (1.0, 0.5, 2.0)


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
    """A family in a space: how it is built from (shape of the data, width, depth), how trained, the depth tried first.

    Attributes:
        narrow: the width below which the least depth is tried first.
    """

    build: Callable[[Any, int, int], ChainSpec]
    recipe: Recipe = field(default_factory=Recipe)
    depth: int = 2
    narrow: int = 24

    def first_depth(self, width: int, depths: Sequence[int]) -> int:
        return depths[0] if width < self.narrow else self.depth


@dataclass(frozen=True)
class Peer:
    """The plain model that stands beside every result: what it is called, and its family in the space."""

    name: str
    family: str


class Space(ABC):
    """What may be proposed for a task.

    Every family has the same choices (width, depth, learning rate), which makes families comparable and a width that a
    machine can afford easy to find.

    Attributes:
        families: by name, in the order in which they are tried when time is short.
        widths, depths, rates: what may be chosen, from small to large.
        peer: the plain model beside every result.
        left_out: what to say when no family can take the data; an example of why follows.
    """

    families: Mapping[str, Family]
    widths: Sequence[int]
    depths: Sequence[int]
    rates: Sequence[float] = RATES
    peer: Peer
    left_out: str = "No family can take data of this shape"

    @abstractmethod
    def propose(self, family: str, *, width: int, depth: int, rate: float = 1.0) -> Proposal:
        """The candidate that these choices lead to."""

    def from_weights(self, specification: ChainSpec) -> list[Proposal]:
        """Candidates that start from a user's checkpoint; none where the task has no use for one."""
        return []


#: What may be proposed for each task, by its name, given the shape of the data.
SPACES: Registry[Callable[[Any], Space]] = Registry("space", group="formwright.spaces", package="formwright.search")

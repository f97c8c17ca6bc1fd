"""Which smaller networks a network holds, and how they are drawn, changed and crossed: the space of its choices."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from formwright.errors import UserError
from formwright.models.choices import Choice, network_in
from formwright.models.network import Network
from formwright.nn.edits.groups import groups_of, width_groups
from formwright.nn.frame import Branch
from formwright.nn.parts import Part

#: Shares of its entries that an axis may have if nothing else is said.
RATIOS = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class ChoiceSpace:
    """The sizes that each axis of a network may have, and the branches that it may do without.

    Attributes:
        sizes: by path and axis, in ascending order.
        branches: paths of the branches that may be dropped.
    """

    sizes: Mapping[tuple[str, str], tuple[int, ...]]
    branches: tuple[str, ...] = ()

    @property
    def largest(self) -> Choice:
        """The largest size of every axis, with all branches."""
        return Choice({key: sizes[-1] for key, sizes in self.sizes.items()})

    @property
    def smallest(self) -> Choice:
        """The smallest size of every axis, without the branches that may be dropped."""
        return Choice({key: sizes[0] for key, sizes in self.sizes.items()}, frozenset(self.branches))

    def sample(self, chance: random.Random) -> Choice:
        """Each size of an axis with the same chance, and each branch with a chance of one half."""
        sizes = {key: chance.choice(sizes) for key, sizes in self.sizes.items()}
        return Choice(sizes, frozenset(path for path in self.branches if chance.random() < 0.5))

    def mutate(self, choice: Choice, chance: random.Random, rate: float = 0.1) -> Choice:
        """``choice``, each of its sizes and branches drawn anew with a probability of ``rate``."""
        return self._mixed(choice, self.sample(chance), chance, rate)

    def cross(self, first: Choice, second: Choice, chance: random.Random) -> Choice:
        """Each size and each branch as in one of the two, with the same chance."""
        return self._mixed(first, second, chance, 0.5)

    def _mixed(self, first: Choice, second: Choice, chance: random.Random, rate: float) -> Choice:
        sizes = {
            key: (second if chance.random() < rate else first).sizes.get(key, self.sizes[key][-1]) for key in self.sizes
        }
        dropped = (path for path in self.branches if path in (second if chance.random() < rate else first).dropped)
        return Choice(sizes, frozenset(dropped))


def space_of(
    model: nn.Module,
    ratios: Sequence[float] | Mapping[str, Sequence[float]] = RATIOS,
    *,
    multiple: int = 1,
    drop: bool = True,
) -> ChoiceSpace:
    """The choices that ``model`` offers: shares of the entries of its axes, and its residual branches.

    >>> space = space_of(model, {"heads": (0.5, 1), "hidden": (0.25, 0.5, 1)}, multiple=8)      # doctest: +SKIP
    >>> small = extract(model, space.sample(random.Random(0)))                                  # doctest: +SKIP

    Args:
        model: a network, or a module that wraps one.
        ratios: shares of its entries that an axis may have; or shares by the name of an axis (``heads``, ``hidden``,
            ``residual``), while axes that are not named stay whole.
        multiple: channels are chosen in multiples of this, or all of them; heads are not.
        drop: whether branches may be dropped. Of those that alone take what the network offers (the memory of an
            encoder), one stays.

    Raises:
        UserError: a ratio is not in (0, 1], no axis has a name that is given, or ``multiple`` is not positive.
    """
    network = network_in(model)
    groups = [*groups_of(network), *width_groups(network)]
    by_name = ratios if isinstance(ratios, Mapping) else {group.axis: ratios for group in groups}
    unknown = sorted(by_name.keys() - {group.axis for group in groups})
    if unknown:
        known = ", ".join(sorted({group.axis for group in groups})) or "none"
        raise UserError(f"{network.specification.name} has no axis {unknown[0]!r}; its axes are: {known}.")
    if multiple < 1 or not all(0 < ratio <= 1 for shares in by_name.values() for ratio in shares):
        raise UserError("Sizes are chosen by shares above 0 and up to 1, in positive multiples.")
    sizes = {}
    for group in groups:
        unit = 1 if group.single else multiple
        offered = {_rounded(ratio * group.size, unit, group.size) for ratio in by_name.get(group.axis, ())}
        if offered - {group.size}:
            sizes[group.target, group.axis] = tuple(sorted(offered))
    return ChoiceSpace(sizes, tuple(_branches(network)) if drop else ())


def _rounded(size: float, unit: int, whole: int) -> int:
    """``size`` to the nearest multiple, at least one; all that there is where that is more."""
    return min(whole, max(1, round(size / unit)) * unit)


def _branches(network: Network) -> list[str]:
    """The branches that may be dropped together: others, or one of them that stays, take what the network offers."""
    parts = {path: part for path, part in network.named_modules() if isinstance(part, Part)}
    branches = [path for path, module in network.named_modules() if isinstance(module, Branch)]
    for offer in sorted(network.offers.union(*(part.offers for part in parts.values()))):
        takers = [path for path, part in parts.items() if offer in part.uses]
        if takers and all(any(_within(taker, branch) for branch in branches) for taker in takers):
            branches = [branch for branch in branches if not _within(takers[0], branch)]
    return branches


def _within(path: str, branch: str) -> bool:
    return path.startswith(f"{branch}.")

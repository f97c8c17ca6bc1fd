"""What can be cut out of a model: the named axes of its parts, the width of its tokens, and what an entry costs."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from formwright.batch import call, moved
from formwright.errors import UserError
from formwright.measurement import count_macs
from formwright.models import Network, empty_copy
from formwright.nn.edits import apply_edits, find_axis, keep_entries, named_axes, widths_of
from formwright.nn.part import Axis, Part
from formwright.nn.specification import EditSpec


@dataclass(frozen=True)
class Group:
    """Entries that can be cut one by one: the heads or the hidden channels of a part, or the channels of the tokens.

    Attributes:
        target: where the part is in the model; where the tokens begin to have these channels.
        axis: which of its axes.
        size: how many entries it has.
        single: whether an entry is a block by itself (a head); channels are better kept in multiples.
    """

    target: str
    axis: str
    size: int
    single: bool


def groups_of(model: nn.Module) -> list[Group]:
    """Everything that can be cut in the parts, in the order of the model."""
    groups = []
    for target, part in model.named_modules():
        if isinstance(part, Part):
            for axis, attribute in part.resizable.items():
                single = any(named.block > 1 for _, _, named in named_axes(part, axis))
                groups.append(Group(target, axis, int(getattr(part, attribute)), single))
    return groups


def width_groups(model: nn.Module) -> list[Group]:
    """The channels of the tokens, one group for all stages that share them; those that cannot be cut are left out."""
    groups = []
    for width in widths_of(model):
        target, axis = width.members[0]
        with contextlib.suppress(UserError):
            groups.append(Group(target, axis, find_axis(model, target, axis).size, single=False))
    return groups


def parameters_of(model: nn.Module, group: Group) -> Iterator[tuple[str, int, Axis]]:
    """The parameters that have the axis: name in the model, dimension, and how the entries lie there."""
    found = find_axis(model, group.target, group.axis)
    own = dict(found.holder.named_parameters())
    for name, dimension, axis in found.axes:
        if name in own:
            yield (name if found.holder is model else f"{group.target}.{name}"), dimension, axis


class Skeleton:
    """A model without weights: what cutting saves is counted on it, and nothing is computed.

    Args:
        model: the model, cut before or not.
        macs: count multiply-accumulates of one input; parameters otherwise.
    """

    def __init__(self, model: Network, *, macs: bool) -> None:
        self.macs = macs
        self.model = empty_copy(model.specification).eval()
        if macs:  # norms cost nothing in this count, and much time while it is taken
            apply_edits(self.model, [EditSpec("fold")])
        self.example = moved(model.example(1), torch.device("meta"))

    def cost(self, sizes: Iterable[tuple[Group, int]] = ()) -> int:
        """What the whole model costs with ``sizes`` entries left of groups."""
        smaller = copy.deepcopy(self.model)
        for group, size in sizes:
            if size < group.size:
                keep_entries(smaller, group.target, group.axis, range(size))
        return self._count(smaller, (self.example,))

    def entry_costs(self, groups: Iterable[Group]) -> list[float]:
        """What one entry of each group costs, while the others are as they are."""
        groups = list(groups)
        parts = {group.target for group in groups if not self._shared(group)}
        inputs = self._inputs(parts) if self.macs else {}
        costs = []
        for group in groups:
            if self._shared(group):
                costs.append((self.cost() - self.cost([(group, 1)])) / max(group.size - 1, 1))
                continue
            smaller = nn.ModuleList([copy.deepcopy(self.model.get_submodule(group.target))])
            example = inputs.get(group.target, ())
            before = self._count(smaller[0], example)
            keep_entries(smaller, "0", group.axis, [0])
            costs.append((before - self._count(smaller[0], example)) / max(group.size - 1, 1))
        return costs

    def _shared(self, group: Group) -> bool:
        return find_axis(self.model, group.target, group.axis).holder is self.model

    def _inputs(self, targets: set[str]) -> dict[str, tuple[Any, ...]]:
        """What each part is called with."""
        seen: dict[str, tuple[Any, ...]] = {}

        def listen(target: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
            seen[target] = inputs

        handles = [
            self.model.get_submodule(target).register_forward_pre_hook(functools.partial(listen, target))
            for target in targets
        ]
        with torch.no_grad():
            call(self.model, self.example)
        for handle in handles:
            handle.remove()
        return seen

    def _count(self, module: nn.Module, inputs: tuple[Any, ...]) -> int:
        if self.macs:
            return count_macs(module, *inputs)
        return sum(parameter.numel() for parameter in module.parameters())

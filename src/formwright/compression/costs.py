"""What a model costs with some of its entries and branches left out, counted without weights."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from formwright.batch import call, moved
from formwright.measurement import count_macs
from formwright.models import Network, empty_copy
from formwright.models.choices import WHOLE, Choice, narrowed
from formwright.nn.edits import apply_edits, find_axis, keep_entries
from formwright.nn.edits.groups import Group
from formwright.nn.specification import EditSpec


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

    def cost(self, choice: Choice = WHOLE) -> int:
        """What the whole model costs with the sizes and branches of a choice."""
        with narrowed(self.model, choice):
            return self._count(self.model, (self.example,))

    def entry_costs(self, groups: Iterable[Group]) -> list[float]:
        """What one entry of each group costs, while the others are as they are."""
        groups = list(groups)
        parts = {group.target for group in groups if not self._shared(group)}
        inputs = self._inputs(parts) if self.macs else {}
        costs = []
        for group in groups:
            if self._shared(group):
                saved = self.cost() - self.cost(Choice({(group.target, group.axis): 1}))
                costs.append(saved / max(group.size - 1, 1))
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

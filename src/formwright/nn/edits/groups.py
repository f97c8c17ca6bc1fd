"""What can be cut out of a model: the named axes of its parts, and the widths of its tokens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from formwright.errors import UserError
from formwright.nn.edits.axes import named_axes, widths_of
from formwright.nn.edits.keeping import find_axis
from formwright.nn.parts import Axis, Part


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

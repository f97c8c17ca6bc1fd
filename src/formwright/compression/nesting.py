"""Models cut out of the one that they were trained in."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from formwright.errors import UserError
from formwright.models import Network
from formwright.nn.edits import keep_entries, named_axes
from formwright.nn.nesting import AXIS, RATIOS, hidden_widths, nested_width
from formwright.nn.part import Part


def extract(model: Network, ratios: float | Sequence[float]) -> Network:
    """A smaller model: the first hidden channels of each channel mixer of ``model``, physically cut out.

    Args:
        model: trained with :class:`~formwright.objectives.nested.NestedTraining`; it is left as it is.
        ratios: the share of hidden channels, one for all channel mixers or one for each in their order (Mix'n'Match).

    Raises:
        UserError: a ratio is not in (0, 1], or their number is not that of the channel mixers.

    Source: MatFormer, arXiv 2310.07707.
    """
    widths = hidden_widths(model)
    shares = [float(ratios)] * len(widths) if isinstance(ratios, int | float) else list(ratios)
    if len(shares) != len(widths):
        raise UserError(
            f"The model has {len(widths)} channel mixers, and {len(shares)} ratios came: give one for each."
        )
    smaller = copy.deepcopy(model)
    edits = []
    for (name, hidden), share in zip(widths.items(), shares, strict=True):
        width = nested_width(hidden, share)
        if width < hidden:
            edits.append(keep_entries(smaller, name, AXIS, range(width)))
    smaller.record_edits(edits)
    return smaller


def mix_and_match(model: Network, parameters: int, ratios: Sequence[float] = RATIOS) -> tuple[float, ...]:
    """Ratios of a nested model of about ``parameters`` parameters, for :func:`extract`.

    They do not decrease with depth and lie between two neighbouring sizes of training: early mixers have the smaller,
    late ones the larger, and one between them what is left of the budget.

    Args:
        model: the whole model.
        parameters: how many the smaller model may have.
        ratios: the sizes of training.

    Raises:
        UserError: the budget is less than the smallest nested model needs, or more than the model has.

    Source: MatFormer, arXiv 2310.07707.
    """
    widths = hidden_widths(model)
    sizes = sorted(ratios)
    costs = [_channel_cost(model, name) for name in widths]
    rest = model.parameter_count() - sum(cost * hidden for cost, hidden in zip(costs, widths.values(), strict=True))

    def count(shares: Sequence[float]) -> int:
        used = zip(costs, widths.values(), shares, strict=True)
        return rest + sum(cost * nested_width(hidden, share) for cost, hidden, share in used)

    least, most = count([sizes[0]] * len(widths)), count([sizes[-1]] * len(widths))
    if not least <= parameters <= most:
        raise UserError(
            f"Nested models of this one have {least:,} to {most:,} parameters, and {parameters:,} was asked."
        )
    shares = [sizes[0]] * len(widths)
    for size in sizes[1:]:
        for index in reversed(range(len(shares))):
            before = shares[index]
            shares[index] = size
            if count(shares) > parameters:
                hidden = list(widths.values())[index]
                spare = parameters - count([*shares[:index], before, *shares[index + 1 :]])
                shares[index] = min(size, (nested_width(hidden, before) + spare // costs[index]) / hidden)
                return tuple(shares)
    return tuple(shares)


def _channel_cost(model: Network, name: str) -> int:
    """Parameters of one hidden channel of a channel mixer."""
    part = model.get_submodule(name)
    assert isinstance(part, Part)
    own = dict(part.named_parameters())
    names = {tensor for tensor, _, _ in named_axes(part, AXIS)} & own.keys()
    return sum(own[tensor].numel() for tensor in names) // int(getattr(part, part.resizable[AXIS]))

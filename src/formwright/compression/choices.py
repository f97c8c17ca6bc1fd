"""Models cut out of the one that they were trained in."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from formwright.errors import UserError
from formwright.models import Network
from formwright.models.choices import Choice
from formwright.models.nesting import AXIS, RATIOS, hidden_widths, nested_choice, nested_width
from formwright.nn.edits import drop_branch, keep_entries, named_axes


def extract(model: Network, choice: Choice) -> Network:
    """The smaller model of a choice, physically cut out: it computes what ``model`` does when narrowed to it.

    >>> smaller = extract(model, nested_choice(model, 0.5))             # doctest: +SKIP
    >>> smaller.save_pretrained("smaller")                              # doctest: +SKIP

    Args:
        model: whatever it was trained by (:class:`~formwright.objectives.nested.NestedTraining`,
            :class:`~formwright.objectives.supernet.SandwichTraining`); it is left as it is.
        choice: the sizes of its axes, of which the first entries stay, and the branches that it does without.

    Raises:
        UserError: it is no choice out of this model.
    """
    choice.check(model)
    smaller = copy.deepcopy(model)
    edits = [keep_entries(smaller, path, axis, range(size)) for path, axis, _, size in choice.cuts(smaller)]
    edits += [drop_branch(smaller, path) for path in choice.drops()]
    smaller.record_edits(edits)
    return smaller


def mix_and_match(model: Network, parameters: int, ratios: Sequence[float] = RATIOS) -> Choice:
    """A nested model of about ``parameters`` parameters, for :func:`extract`.

    Shares of hidden channels do not decrease with depth and lie between two neighbouring sizes of training: early
    mixers have the smaller, late ones the larger, and one between them what is left of the budget.

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
    costs = [_channel_cost(model, name, hidden) for name, hidden in widths.items()]
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
                return nested_choice(model, shares)
    return nested_choice(model, shares)


def _channel_cost(model: Network, name: str, hidden: int) -> int:
    """Parameters of one hidden channel of a channel mixer."""
    part = model.get_submodule(name)
    own = dict(part.named_parameters())
    names = {tensor for tensor, _, _ in named_axes(part, AXIS)} & own.keys()
    return sum(own[tensor].numel() for tensor in names) // hidden

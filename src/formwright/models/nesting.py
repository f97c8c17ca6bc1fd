"""Smaller models inside a model: the first hidden channels of its channel mixers are channel mixers themselves.

Source: MatFormer, arXiv 2310.07707.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from formwright.errors import UserError
from formwright.models.choices import Choice, network_in
from formwright.nn.edits.groups import groups_of

AXIS = "hidden"
#: Shares of the hidden channels that nested models have, from MatFormer's code.
RATIOS = (1 / 8, 1 / 4, 1 / 2, 1.0)


def hidden_widths(model: nn.Module) -> dict[str, int]:
    """Number of hidden channels of each channel mixer that can be narrowed, by name, in the order of the model.

    Raises:
        UserError: the model has none.
    """
    widths = {group.target: group.size for group in groups_of(network_in(model)) if group.axis == AXIS}
    if not widths:
        raise UserError("This model has no channel mixers with hidden channels, so no smaller ones are nested in it.")
    return widths


def nested_width(hidden: int, ratio: float) -> int:
    """``ratio`` of ``hidden`` channels, rounded down, at least one.

    Raises:
        UserError: ``ratio`` is not in (0, 1].
    """
    if not 0 < ratio <= 1:
        raise UserError(f"A nested model has a share above 0 and up to 1 of the hidden channels, got {ratio:g}.")
    return max(1, int(hidden * ratio))


def nested_choice(model: nn.Module, ratios: float | Sequence[float]) -> Choice:
    """The nested model with the first hidden channels of each channel mixer.

    Args:
        model: a network, or a module that wraps one.
        ratios: the share of hidden channels, one for all channel mixers or one for each in their order (Mix'n'Match).

    Raises:
        UserError: a ratio is not in (0, 1], or their number is not that of the channel mixers.
    """
    widths = hidden_widths(model)
    shares = [float(ratios)] * len(widths) if isinstance(ratios, int | float) else list(ratios)
    if len(shares) != len(widths):
        raise UserError(
            f"The model has {len(widths)} channel mixers, and {len(shares)} ratios came: give one for each."
        )
    return Choice(
        {
            (name, AXIS): nested_width(hidden, share)
            for (name, hidden), share in zip(widths.items(), shares, strict=True)
        }
    )

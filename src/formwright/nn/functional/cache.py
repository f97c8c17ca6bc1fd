"""The cache of keys and values: a ring of slots a row, where place ``p`` of a row lies in slot ``p mod slots``.

Every row has its own length, so prompts of different lengths continue side by side. A ring as long as the window of
the attention forgets what nobody can see any more; one as long as the longest sequence forgets nothing.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from formwright.errors import UserError


def key_places(length: Int[Tensor, "batch"], slots: int) -> Int[Tensor, "batch slots"]:
    """The place whose key each slot holds after ``length`` tokens; negative where none was written yet."""
    last = length[:, None] - 1
    return last - (last - torch.arange(slots, device=length.device)) % slots


def write(
    cache: dict[str, Tensor],
    new: dict[str, Tensor],
    length: Int[Tensor, "batch"],
    mask: Bool[Tensor, "batch time"] | None,
) -> None:
    """Put the real tokens of ``new`` ``(batch, time, ...)`` into the ring, in place, the latest ones if it is short."""
    slots = next(iter(cache.values())).shape[1]
    batch, time = next(iter(new.values())).shape[:2]
    rows, steps = torch.arange(batch, device=length.device)[:, None], torch.arange(time, device=length.device)[None]
    if mask is not None or time > slots:
        count = torch.full_like(length, time) if mask is None else mask.sum(1)
        kept = (steps < count[:, None]) & (steps >= count[:, None] - slots)
        rows, steps = kept.nonzero(as_tuple=True)
    places = (length[rows] + steps) % slots
    for name, tensor in new.items():
        cache[name][rows, places] = tensor[rows, steps].to(cache[name].dtype)


def longest(length: Int[Tensor, "batch"]) -> int:
    """The most tokens of a row; none where there is no row."""
    return int(length.max()) if len(length) else 0


def check_capacity(length: Int[Tensor, "batch"], slots: int) -> None:
    """Refuse to forget what attention without a window must see.

    Raises:
        UserError: names both lengths.
    """
    most = longest(length)
    if most > slots:
        raise UserError(
            f"The cache was made for {slots} tokens, and the sequence now has {most}: "
            "call init_state with a larger capacity."
        )


def remembers(before: Int[Tensor, "batch"], after: Int[Tensor, "batch"], slots: int, seen: int | None = None) -> bool:
    """Whether a ring still holds what a query of a row of ``after`` tokens sees, now that the row has ``before``.

    Args:
        before: tokens of each row.
        after: at most as many.
        slots: slots of the ring.
        seen: how many tokens before itself a query sees; all that the ring holds if unset.
    """
    whole = before <= slots  # nothing was overwritten
    return bool((whole | (before - slots <= after - (slots if seen is None else seen))).all())

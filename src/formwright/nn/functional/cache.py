"""The cache of keys and values: a ring of slots a row, where place ``p`` of a row lies in slot ``p mod slots``.

Every row has its own length, so prompts of different lengths continue side by side. A ring as long as the window of
the attention forgets what nobody can see any more; one as long as the longest sequence forgets nothing.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from formwright.errors import UserError
from formwright.nn.functional.any_length import any_length


def key_places(length: Int[Tensor, "batch"], slots: int) -> Int[Tensor, "batch slots"]:
    """The place whose key each slot holds after ``length`` tokens; negative where none was written yet."""
    last = length[:, None] - 1
    return last - _slot(last - torch.arange(slots, device=length.device), slots)


def _slot(place: Tensor, slots: int) -> Tensor:
    """``place mod slots``; of a number that stands for any the exporter knows it as a tensor only."""
    return place % (torch.full_like(place[:1], slots) if any_length(slots) else slots)


def write(
    cache: dict[str, Tensor],
    new: dict[str, Tensor],
    length: Int[Tensor, "batch"],
    mask: Bool[Tensor, "batch time"] | None,
) -> None:
    """Put the real tokens of ``new`` ``(batch, time, ...)`` into the ring, in place, the latest ones if it is short."""
    slots = next(iter(cache.values())).shape[1]
    batch, time = next(iter(new.values())).shape[:2]
    if torch.compiler.is_exporting() and (mask is not None or any_length(time) or time > slots):
        return _write_by_slots(cache, new, length, mask)
    rows, steps = torch.arange(batch, device=length.device)[:, None], torch.arange(time, device=length.device)[None]
    if mask is not None or time > slots:
        count = torch.full_like(length, time) if mask is None else mask.sum(1)
        kept = (steps < count[:, None]) & (steps >= count[:, None] - slots)
        rows, steps = kept.nonzero(as_tuple=True)
    places = _slot(length[rows] + steps, slots)
    for name, tensor in new.items():
        cache[name][rows, places] = tensor[rows, steps].to(cache[name].dtype)


def _write_by_slots(
    cache: dict[str, Tensor],
    new: dict[str, Tensor],
    length: Int[Tensor, "batch"],
    mask: Bool[Tensor, "batch time"] | None,
) -> None:
    """:func:`write` without a look at the values: each slot takes the last token that falls on it, if one does."""
    batch, time = next(iter(new.values())).shape[:2]
    slots = next(iter(cache.values())).shape[1]
    count = time if mask is None else mask.sum(1)
    steps = key_places(length + count, slots) - length[:, None]
    rows = torch.arange(batch, device=length.device)[:, None]
    for name, tensor in new.items():
        fallen = (steps >= 0).view(batch, slots, *[1] * (tensor.ndim - 2))
        cache[name].copy_(torch.where(fallen, tensor[rows, steps.clamp(min=0)].to(cache[name].dtype), cache[name]))


def longest(length: Int[Tensor, "batch"], new: int | Int[Tensor, "batch"] = 0) -> int | None:
    """The most tokens of a row with ``new`` ones, none without a row; not known where a program is exported for any."""
    if torch.compiler.is_exporting():
        return None
    if isinstance(new, Tensor):
        return longest(length + new)
    return int(length.max()) + new if length.shape[0] else 0


def check_capacity(most: int | None, slots: int) -> None:
    """Refuse to forget what attention without a window must see.

    Raises:
        UserError: names both lengths.
    """
    if most is not None and most > slots:
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

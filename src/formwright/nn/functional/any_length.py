"""Sequences whose length is any, as in programs that ``torch.export`` makes: a size that must not be compared.

Each comparison would be a guard, and the program would hold for the lengths on one side of it only. So tokens are
gathered here, where elsewhere they are padded, viewed as blocks and cut again, each of which compares sizes.
"""

from __future__ import annotations

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch.nn import functional as F


def any_length(time: int) -> bool:
    """Whether ``time`` stands for all lengths of a program that is exported."""
    return isinstance(time, torch.SymInt)


def gather_blocks(
    x: Shaped[Tensor, "batch time *rest"], block: int, before: int = 0, after: int = 0
) -> Shaped[Tensor, "batch blocks span *rest"]:
    """Each block of tokens, and as many ``before`` and ``after`` it; zeros (or false) where there are none.

    The last block holds nothing but zeros: a single block would be a case of its own.
    """
    time = x.shape[1]
    starts = block * torch.arange((time - 1) // block + 2, device=x.device)
    places = starts[:, None] + torch.arange(-before, block + after, device=x.device)
    places = torch.where(places < 0, time, places.clamp(max=time))
    return F.pad(x, (0, 0) * (x.ndim - 2) + (0, 1))[:, places]


def first_tokens(x: Shaped[Tensor, "batch more *rest"], time: int) -> Shaped[Tensor, "batch time *rest"]:
    """The first ``time`` tokens."""
    return x.index_select(1, torch.arange(time, device=x.device))

"""Where half precision has too little room."""

from __future__ import annotations

import torch
from torch import Tensor


def widened(x: Tensor) -> Tensor:
    """``x`` in float32 if it is of half precision, and ``x`` itself otherwise."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x

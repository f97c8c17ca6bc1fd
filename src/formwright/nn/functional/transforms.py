"""How a function is called: as it stands, traced, mapped over a batch, or differentiated otherwise than backwards."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._C._functorch import TransformType


def transformed() -> bool:
    """Whether derivatives are taken in another way than backwards, or a function of one sample is mapped over many."""
    return torch._C._functorch.peek_interpreter_stack() is not None or torch.autograd.forward_ad._current_level >= 0


def mapped() -> bool:
    """Whether ``torch.vmap`` maps the function over many samples: some tensors have then more axes than they show."""
    if torch.compiler.is_compiling():
        return False
    levels = torch._C._functorch.get_interpreter_stack()
    return levels is not None and any(level.key() == TransformType.Vmap for level in levels)


def values_are_known(x: Tensor) -> bool:
    """Whether a choice may depend on the values of ``x``: it is neither traced, nor mapped over, nor without memory."""
    return not (torch.compiler.is_compiling() or x.is_meta or mapped())

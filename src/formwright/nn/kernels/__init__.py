"""Kernels in Triton for the recurrences of ``formwright.nn.functional``: experimental, and off until asked for.

They were checked with Triton's interpreter, which runs kernels on a CPU, and never ran on a GPU. After :func:`enable`
``causal_linear_attention``, ``gated_linear_attention``, ``ssd``, ``delta_rule`` and ``selective_scan`` compute tensors
on a CUDA device with them, forward and backward. Everything else stays as it is: tensors on a CPU, single tokens,
packed rows, graphs that ``torch.compile`` and ``torch.export`` capture, and functions that ``torch.func`` transforms
take the forms in PyTorch. Second derivatives are refused. The kernels have chunks of a length of their own, whatever
``chunk`` says.

This module imports nothing of Triton.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch
from torch import Tensor

from formwright.errors import UserError
from formwright.nn.functional.transforms import transformed

#: The most key channels of the delta rule's kernels, whose tiles hold them all; more are computed in PyTorch.
MOST_KEYS = 128

_enabled = False


def enable() -> None:
    """Let recurrences over tensors on a CUDA device be computed by the kernels, in this process, until :func:`disable`.

    With ``TRITON_INTERPRET=1`` in the environment Triton interprets kernels on the CPU; tensors there are taken too
    then, slowly, which is how the kernels are tested.

    Raises:
        UserError: Triton is not installed, or there is no CUDA device.
    """
    global _enabled
    if find_spec("triton") is None:
        raise UserError(
            "Kernels for GPUs need Triton, which is not installed; on Linux, pip install 'formwright[triton]', or "
            "leave them off."
        )
    if not (torch.cuda.is_available() or _interpreted()):
        raise UserError(
            "Kernels for GPUs need a CUDA device, and PyTorch finds none; leave them off, what they compute is there "
            "in PyTorch."
        )
    _enabled = True


def disable() -> None:
    """Compute everything in PyTorch again, as without :func:`enable`."""
    global _enabled
    _enabled = False


def enabled() -> bool:
    """Whether :func:`enable` was called last."""
    return _enabled


def takes(x: Tensor) -> bool:
    """Whether a recurrence over ``x`` is for the kernels."""
    if not _enabled or torch.compiler.is_compiling() or transformed():
        return False
    return (x.is_cuda or _interpreted()) and x.numel() > 0


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"

"""How weights start: truncated normal of 0.02 for dense and convolutional layers, zero biases.

Most families of the library follow this rule of their authors. Those whose authors left PyTorch's own rule (uniform up
to ``1 / sqrt(fan_in)``, biases as well) say ``fan_in``, those that start uniform up to ``sqrt(6 / (fan_in + fan_out))``
with zero biases say ``xavier``. A part that starts otherwise sets ``init_weights``, a method that is called last.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def initialize(model: nn.Module, std: float = 0.02, *, rule: str = "truncated_normal") -> None:
    """Fill the weights of every layer of a ``model`` that was just built, in place."""
    for module in model.modules():
        if isinstance(module, _LAYERS) and rule != "fan_in":
            if rule == "xavier":
                nn.init.xavier_uniform_(module.weight.detach().flatten(1))
            else:
                nn.init.trunc_normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in model.modules():
        own_rule = getattr(module, "init_weights", None)
        if callable(own_rule):
            own_rule()


_FILLING = {
    *(getattr(nn.init, name) for name in dir(nn.init) if name.endswith("_") and not name.startswith("_")),
    *(
        getattr(torch.Tensor, name)
        for name in ("add_", "clamp_", "erfinv_", "fill_", "mul_", "normal_", "uniform_", "zero_")
    ),
}


class Unfilled(TorchFunctionMode):
    """Leaves out what only fills a tensor with values, for models that have no memory to hold any."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _FILLING:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))

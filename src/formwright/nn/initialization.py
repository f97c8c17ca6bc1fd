"""How weights start: truncated normal of 0.02 for dense and convolutional layers, zero biases.

Every family of the library follows this rule of its authors; a part that starts otherwise sets ``init_weights``, a
method that is called last.
"""

from __future__ import annotations

from torch import nn

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def initialize(model: nn.Module, std: float = 0.02) -> None:
    """Fill the weights of every layer of ``model`` in place."""
    for module in model.modules():
        if isinstance(module, _LAYERS):
            nn.init.trunc_normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in model.modules():
        own_rule = getattr(module, "init_weights", None)
        if callable(own_rule):
            own_rule()

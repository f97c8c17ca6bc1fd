"""The running average of a model's weights, which is what is evaluated and kept."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of every floating tensor of a model's state; other tensors are copied.

    ``average = decay * average + (1 - decay) * weights``, with ``decay = min(limit, (1 + n) / (10 + n))`` after ``n``
    updates, so that the start is forgotten soon.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averages: list[Tensor] = []
        weights: list[Tensor] = []
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                averages.append(self.state[name])
                weights.append(tensor)
            else:
                self.state[name].copy_(tensor)
        torch._foreach_lerp_(averages, weights, 1 - decay)

    def load(self, state: Mapping[str, Tensor], updates: int) -> None:
        for name, tensor in self.state.items():
            tensor.copy_(state[name])
        self.updates = updates

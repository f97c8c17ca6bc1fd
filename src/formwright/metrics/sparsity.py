"""How few hidden values of a model are not zero."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.activations import SquaredReLU
from formwright.nn.channel_mixers.mlp import MLP
from formwright.nn.context import EMPTY, Context
from formwright.nn.taps import replace_taps

_QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class LayerSparsity:
    """What share of a layer's hidden values is not zero, counted exactly, over real tokens.

    Attributes:
        name: where the channel mixer is in the model.
        hidden: its hidden channels.
        tokens: how many tokens were counted.
        active: mean share of a token's values that are not zero, 0 to 1.
        quantiles: the tenth, half and nine tenths of the tokens have at most these shares.
        never_active: hidden channels that were zero for every token.
    """

    name: str
    hidden: int
    tokens: int
    active: float
    quantiles: tuple[float, float, float]
    never_active: int

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain data, fit for JSON."""
        return asdict(self)


class _Counter:
    """Counts of one layer, over all batches."""

    def __init__(self, part: MLP) -> None:
        self.part = part
        self.context: Context = EMPTY
        self.shares: list[Tensor] = []
        self.ever = torch.zeros(part.hidden, dtype=torch.bool)

    def remember(self, part: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.context = inputs[1] if len(inputs) > 1 else EMPTY

    def count(self, hidden: Tensor) -> None:
        active = hidden != 0
        active = active.flatten(0, -2) if self.context.mask is None else active[self.context.mask]
        self.shares.append(active.double().mean(-1).cpu())
        self.ever |= active.any(0).cpu()

    def result(self, name: str) -> LayerSparsity:
        shares = torch.cat(self.shares)
        low, middle, high = torch.quantile(shares, torch.tensor(_QUANTILES, dtype=shares.dtype)).tolist()
        return LayerSparsity(
            name,
            hidden=self.part.hidden,
            tokens=len(shares),
            active=shares.mean().item(),
            quantiles=(low, middle, high),
            never_active=int((~self.ever).sum()),
        )


@torch.no_grad()
def activation_sparsity(model: nn.Module, batches: Iterable[Tensor]) -> list[LayerSparsity]:
    """The share of hidden values that are not zero, of each MLP of ``model`` with a ReLU, in the order of the model.

    Args:
        model: run in the mode that it is in.
        batches: inputs of the model.

    Raises:
        UserError: no MLP of the model has an activation that gives zeros, or there are no inputs.

    Source: The Lazy Neuron Phenomenon, arXiv 2210.06313.
    """
    mixers = {name: module for name, module in model.named_modules() if isinstance(module, MLP)}
    counters = {
        name: _Counter(part) for name, part in mixers.items() if isinstance(part.activation, nn.ReLU | SquaredReLU)
    }
    if not counters:
        found = sorted({type(part.activation).__name__ for part in mixers.values()})
        raise UserError(
            f"Zeros can be counted after a ReLU, and this model's MLPs have {', '.join(found) or 'no activation'}; "
            "build it with activation='relu'."
        )
    with ExitStack() as stack:
        for counter in counters.values():
            stack.callback(counter.part.register_forward_pre_hook(counter.remember).remove)
        stack.enter_context(replace_taps(model, {f"{name}:hidden": one.count for name, one in counters.items()}))
        for batch in batches:
            model(batch)
    if not all(counter.shares for counter in counters.values()):
        raise UserError("No batches came, so nothing was counted.")
    return [counter.result(name) for name, counter in counters.items()]

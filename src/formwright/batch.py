"""What one training step sees; data makes it, objectives take it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from formwright.errors import UserError

#: What a model takes, or answers: one tensor, or several by name.
Inputs: TypeAlias = Tensor | Mapping[str, Tensor]
Outputs: TypeAlias = Tensor | Mapping[str, Tensor]

#: A target, a whole number, of which nothing is asked: padding, or a token that is not to be predicted.
IGNORED = -1


class Batch(NamedTuple):
    """Inputs of a model and what it should answer; each a tensor, or several by name.

    Attributes:
        inputs: what the model takes, for images ``(batch, channels, height, width)``.
        targets: what it should answer; for classification the class of each sample ``(batch,)``, or its share of each
            class ``(batch, classes)``.
    """

    inputs: Any
    targets: Any


def call(model: nn.Module, inputs: Inputs) -> Any:
    """The model's answer: a single tensor is its first argument, several are arguments by their names.

    A network takes all its ``inputs``, and any of its ``optional_inputs``.

    Raises:
        UserError: a network takes inputs of other names, or of more.
    """
    takes = getattr(model, "inputs", None)
    if isinstance(takes, Mapping):
        given = set(inputs) if isinstance(inputs, Mapping) else set(list(takes)[:1])
        left_out = [name for name in takes if name not in given]
        may = {*takes, *getattr(model, "optional_inputs", ())}
        if not given <= may or any(not getattr(takes[name], "optional", False) for name in left_out):
            names = [f"{name} (optional)" if getattr(takes[name], "optional", False) else name for name in takes]
            what = ", ".join(inputs) if isinstance(inputs, Mapping) else "a single tensor"
            raise UserError(f"{type(model).__name__} takes {', '.join(names)}; got {what or 'nothing'}.")
    return model(**inputs) if isinstance(inputs, Mapping) else model(inputs)


def first(inputs: Inputs) -> Tensor:
    """The input, or the first of several: the one that says how many samples there are."""
    return next(iter(inputs.values())) if isinstance(inputs, Mapping) else inputs


def moved(inputs: Inputs, device: torch.device) -> Inputs:
    """The inputs on another device."""
    if isinstance(inputs, Mapping):
        return {name: tensor.to(device) for name, tensor in inputs.items()}
    return inputs.to(device)


def by_length(model: nn.Module, inputs: Tensor, together: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs in chunks of ``together`` that are about as long, without padding at their ends: which, and the inputs.

    Where a model knows no padding, the chunks are in order and whole.
    """
    padding = getattr(model.specification.input, "padding", None)  # type: ignore[union-attr]
    lengths = torch.full((len(inputs),), inputs.shape[-1])
    if padding is not None:
        lengths = 1 + torch.where(inputs != padding, torch.arange(inputs.shape[-1]), 0).amax(-1)
    for chosen in torch.split(lengths.argsort(stable=True), together):
        yield chosen, inputs[chosen, ..., : int(lengths[chosen].max())]

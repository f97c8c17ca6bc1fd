"""The states of a model's parts while tokens pass through it piece by piece."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from formwright.nn.context import EMPTY, Context
from formwright.nn.part import Part, State, grid_after

#: Between the name of a part in its model and the name of a tensor in the part's own state.
SEPARATOR = "/"
LENGTH = "length"
#: How the names of what a part remembers of a memory begin, which a stream never changes.
MEMORY = "memory_"


def initial_state(
    parts: Iterable[tuple[str, Part]],
    batch: int,
    capacity: int,
    context: Context = EMPTY,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> State:
    """The states of named parts in one flat dictionary, and ``length`` ``(batch,)``, the tokens seen so far.

    ``context`` holds what is offered to the whole stream: a memory, which becomes part of the state.

    Raises:
        UserError: a part cannot stream.
    """
    state = {LENGTH: torch.zeros(batch, dtype=torch.int64, device=device)}
    for path, part in parts:
        for name, tensor in part.begin(batch, capacity, context, device=device, dtype=dtype).items():
            state[f"{path}{SEPARATOR}{name}"] = tensor
        if part.resamples:
            (capacity,) = grid_after(part, (capacity,))
    return state


def rows_of(state: State, rows: Int[Tensor, " chosen"], *, same_memory: bool = False) -> State:
    """The state of a stream of these rows of another one, each as often as it is named.

    Args:
        state: a state of a network.
        rows: numbers of rows.
        same_memory: whether each row has the memory of the one in whose place it comes, so that it can stay.
    """
    return {
        name: tensor if same_memory and name.partition(SEPARATOR)[2].startswith(MEMORY) else tensor[rows]
        for name, tensor in state.items()
    }


class Streams:
    """The flat state of a model, taken apart for the parts that the next tokens pass through."""

    def __init__(self, state: State) -> None:
        self.length: Int[Tensor, " batch"] = state[LENGTH]
        self._seen = self.length
        self._parts: dict[str, State] = {}
        for key, tensor in state.items():
            path, separator, name = key.partition(SEPARATOR)
            if separator:
                self._parts.setdefault(path, {})[name] = tensor

    def through(self, path: str, part: Part, x: Tensor, context: Context) -> Tensor:
        """Let the next tokens pass through a part, and keep the state that it leaves."""
        part.check_context(context)
        x, after = part.stream(x, {**self._parts.get(path, {}), LENGTH: self.length}, context)
        self._parts[path] = {name: tensor for name, tensor in after.items() if name != LENGTH}
        return x

    def resampled(self, path: str, part: Part, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        """As :meth:`through`, by a part that may give another number of tokens; those behind it count its tokens."""
        if not part.resamples:
            return self.through(path, part, x, context), part.offer(context)
        part.check_context(context)
        stream: Any = part.stream
        x, self._parts[path], context = stream(x, {**self._parts.get(path, {}), LENGTH: self.length}, context)
        self.length = part.emitted(self.length)
        return x, context

    def state(self, tokens: int, mask: Tensor | None) -> State:
        """The flat state after ``tokens`` more tokens, or as many as ``mask`` says are real in each row."""
        state = {LENGTH: self._seen + (tokens if mask is None else mask.sum(1))}
        for path, part in self._parts.items():
            for name, tensor in part.items():
                state[f"{path}{SEPARATOR}{name}"] = tensor
        return state


#: Tokens that a recurrent mixer takes at a time where nothing is learned. What it computes on the way is several
#: times as wide; of a long text it would leave the cache, and come from the system as fresh pages each time.
SEGMENT = 2048


def in_segments(part: Part, x: Float[Tensor, "batch time channels"]) -> Float[Tensor, "batch time channels"]:
    """What a causal part gives for ``x``, a segment after the other; for parts whose state does not grow."""
    batch, time, _ = x.shape
    state = part.init_state(batch, time, device=x.device, dtype=x.dtype)
    y = torch.empty_like(x)
    for first in range(0, time, SEGMENT):
        piece = slice(first, first + SEGMENT)
        state[LENGTH] = torch.full((batch,), first, device=x.device)
        y[:, piece], state = part.stream(x[:, piece], state)
    return y


def worth_segments(part: Part, x: Tensor, context: Context) -> bool:
    """Whether :func:`in_segments` is the better way: for long texts without gaps, while no gradients are recorded.

    Who listens to the part's taps is to see the whole text at once.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling():  # a traced length is not compared
        return False
    return x.shape[1] > SEGMENT and part.listeners is None and context.mask is None

"""The states of a model's parts while tokens pass through it piece by piece, and what can be done with them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.parts import Part, State

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
            (capacity,) = part.output_grid((capacity,))
    return state


def select(state: State, rows: Int[Tensor, " chosen"], *, same_memory: bool = False) -> State:
    """The state of a stream of these rows of another one, each as often as it is named.

    Args:
        state: a state of a network or a part.
        rows: numbers of rows, in any order.
        same_memory: whether each row has the memory of the one in whose place it comes, so that it can stay.
    """
    return {
        name: tensor if same_memory and name.rpartition(SEPARATOR)[2].startswith(MEMORY) else tensor[rows]
        for name, tensor in state.items()
    }


def bytes_of(state: State) -> int:
    """Bytes of all tensors of a state."""
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())


def moved(state: State, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> State:
    """The state on another device, its real numbers in another type; whole numbers and truth values stay what they are.

    Caches keep the type that they are given. What a recurrence sums up is taken in at least float32 again by the next
    tokens.
    """
    return {
        name: tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)
        for name, tensor in state.items()
    }


def copied(state: State) -> State:
    """A state of its own: streaming on from the other one, which may change its tensors in place, leaves it alone."""
    return {name: tensor.clone() for name, tensor in state.items()}


def crop(parts: Iterable[tuple[str, Part]], state: State, length: int | Int[Tensor, " batch"]) -> State:
    """The state of a stream that has seen the first ``length`` tokens of each row only; shorter rows stay.

    Keys and values of later tokens are forgotten. The tensors are those of ``state``, which is not to be used further;
    :func:`copied` makes one that is.

    Args:
        parts: those that the stream passes through, by name.
        state: their state.
        length: how many tokens stay, of all rows or of each.

    Raises:
        UserError: the length is negative, or a part does not hold any more what it knew then; names the part.
    """
    before = state[LENGTH]
    wanted = torch.as_tensor(length, dtype=before.dtype, device=before.device)
    if bool((wanted < 0).any()):
        raise UserError(f"A stream goes back to 0 tokens or more, and {int(wanted.min())} were asked for.")
    after = torch.minimum(before, wanted)
    if bool((after < before).any()):
        streams = Streams(state)
        for path, part in parts:
            if not part.remembers(streams.of(path), after):
                raise UserError(
                    f"{type(part).__name__} ({path}) cannot go back to fewer tokens, because it does not keep what it "
                    "knew then; copy the state before the tokens that may be taken back, and go on from the copy."
                )
    return {**state, LENGTH: after}


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

    def of(self, path: str) -> State:
        """The state of a part."""
        return {**self._parts.get(path, {}), LENGTH: self.length}

    def step(self, path: str, part: Part, x: Tensor, context: Context) -> Tensor:
        """Let the next tokens pass through a part, and keep the state that it leaves."""
        if context.segments is not None:
            raise UserError("A row of a stream is one sequence: give each of the packed sequences a row of its own.")
        part.check_context(context)
        x, after = part.stream(x, self.of(path), context)
        self._parts[path] = {name: tensor for name, tensor in after.items() if name != LENGTH}
        return x

    def resampled(self, path: str, part: Part, x: Tensor, context: Context) -> tuple[Tensor, Context]:
        """As :meth:`step`, by a part that may change the number of tokens; those behind it count its tokens."""
        if not part.resamples:
            return self.step(path, part, x, context), part.offer(context)
        part.check_context(context)
        stream: Any = part.stream
        x, self._parts[path], context = stream(x, self.of(path), context)
        self.length = part.emitted(self.length)
        return x, context

    def state(self, tokens: int, mask: Tensor | None) -> State:
        """The flat state after ``tokens`` more tokens, or as many as ``mask`` says are real in each row."""
        state = {LENGTH: self._seen + (tokens if mask is None else mask.sum(1))}
        for path, part in self._parts.items():
            for name, tensor in part.items():
                state[f"{path}{SEPARATOR}{name}"] = tensor
        return state

"""The step of a stream as an ONNX file: the next tokens and a state in, their scores and the state after them out."""

from __future__ import annotations

import contextlib
import copy
import json
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from formwright.batch import Inputs, first
from formwright.deployment import qdq
from formwright.deployment.export import compared, export_onnx, onnx_file
from formwright.deployment.streaming import NEW_STATE, STATE, OnnxStream
from formwright.errors import UserError
from formwright.files import write_atomically
from formwright.models.network import Network
from formwright.models.topologies.encoder_decoder import EncoderDecoder
from formwright.nn.context import Context
from formwright.nn.inputs import Input, TokenInput
from formwright.nn.parts import State
from formwright.nn.streaming import MEMORY, SEPARATOR, copied

#: A capacity that no cache has: who can promise it, keeps none.
_ENDLESS = 2**40
#: Tokens that are read before the file is compared, and calls that are.
_READ, _CALLS = 64, 3


def export_step(
    model: Network,
    path: str | os.PathLike[str],
    *,
    capacity: int = 1024,
    tokens: int | None = 1,
    example: Inputs | None = None,
) -> float:
    """Write ``model.stream`` as an ONNX file and return the largest difference between its scores and the model's.

    Inputs are ``input`` ``(batch, tokens)`` (or vectors ``(batch, tokens, channels)``) and the state, ``state.NAME``
    for each name of ``model.init_state``; outputs are ``output``, the scores, and ``new_state.NAME``, what the next
    call takes as ``state.NAME``. A memory is an input alone, since no token changes it. The batch may have any size,
    and so may the axis of a cache up to ``capacity``: a stream begins with a short one and pads it with zeros when it
    is full. :class:`~formwright.deployment.streaming.OnnxStream` does all that.

    The file appears only after ``onnx.checker`` took it and ONNX Runtime gave the model's scores and states, from the
    beginning and after a text, for another batch than the example's. The model itself is not changed.

    Args:
        model: a network that streams, in any number type that ONNX Runtime computes with.
        path: where the file goes.
        capacity: tokens that a row may have at most, where something in the model keeps them or counts to a limit.
        tokens: how many tokens a call takes; any number if none, which not every part can be written for. A second
            file, of many, reads prompts faster; both take the same state.
        example: what an encoder-decoder reads, whose memory becomes a part of the state; :func:`export_reader` writes
            that half.

    Raises:
        UserError: the model cannot stream, or an argument is out of range.
        ExportError: the two differ by more than a thousandth of the largest value (where activations are rounded, by
            more than a tenth of the deviation), or the step cannot be written.
    """
    if capacity < 1 or (tokens is not None and not 1 <= tokens <= capacity):
        raise UserError(
            f"A step takes at least one token and not more than the capacity; got tokens={tokens}, capacity={capacity}."
        )
    changing_rate = next((type(part).__name__ for _, part in model.streamed_parts() if part.resamples), None)
    if changing_rate is not None:
        raise UserError(
            f"{changing_rate} gives none to several tokens for those that it takes, and a step has one shape; stream "
            "the model in PyTorch."
        )
    frozen = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    state = _start(frozen, 2, capacity, example)
    notes = {"tokens": tokens, **_notes(frozen, capacity, state)}
    # One token in a trace for any number would be a case of its own.
    x = _next(frozen, 2, 2 if tokens is None else tokens, torch.Generator().manual_seed(0))
    quantised = qdq.is_quantised(frozen)
    changing = [name for name in state if not _is_memory(name)]
    growing = _growing(frozen, state, capacity, example)
    axes = {name: {0: "batch", **({1: "memory"} if _is_memory(name) else {})} for name in state}
    for name, axis in growing.items():
        axes[name][axis] = "capacity"
    content = onnx_file(
        _Step(qdq.exportable(frozen) if quantised else frozen, list(state), changing),
        (x, *state.values()),
        quantised=quantised,
        notes=json.dumps(notes),
        input_names=["input", *(STATE + name for name in state)],
        output_names=["output", *(NEW_STATE + name for name in changing)],
        dynamic_shapes=(
            {0: "batch", **({1: "time"} if tokens is None else {})},
            tuple(axes.values()),
        ),
    )
    with torch.no_grad():
        difference = _difference(frozen, OnnxStream(content), capacity, example)
    write_atomically(os.fspath(path), content)
    return difference


def export_reader(model: EncoderDecoder, path: str | os.PathLike[str], example: Inputs) -> float:
    """Write the half of an encoder-decoder that reads, and return the largest difference to it.

    It takes what the encoder takes (``example`` is such, of the usual length), and gives the entries of the state that
    are the memory, by the names of :func:`export_step`. See :func:`~formwright.deployment.export.export_onnx`; the time
    is free.
    """
    reader = _Reader(model)
    if "time" not in model.specification.input.free.values():
        return export_onnx(reader, path, example)
    given = dict(example) if isinstance(example, Mapping) else {"input": example}
    half = max(
        2, given["input"].shape[1] // 2
    )  # the export tries twice of it, which may be all that there are places for
    given["input"] = given["input"][:, :half]
    if "lengths" in given:
        given["lengths"] = given["lengths"].clamp(max=half)
    return export_onnx(reader, path, given if len(given) > 1 else given["input"], free=("time",))


class _Step(nn.Module):
    """``model.stream`` with the state as arguments, each in its place."""

    def __init__(self, model: nn.Module, names: list[str], changing: list[str]) -> None:
        super().__init__()
        self.model, self.names, self.changing = model, names, changing

    def forward(self, x: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        # Caches are written in place, and what comes in is somebody else's.
        state = copied(dict(zip(self.names, tensors, strict=True)))
        scores, after = self.model.stream(x, state)  # type: ignore[operator]
        return scores, *(after[name] for name in self.changing)


class _Reader(nn.Module):
    """The memory of an encoder-decoder as its decoder keeps it."""

    def __init__(self, model: EncoderDecoder) -> None:
        super().__init__()
        self.model = model

    @property
    def inputs(self) -> Mapping[str, Input]:
        return {name: source for name, source in self.model.inputs.items() if name != "decoder_input"}

    def forward(self, input: Tensor, lengths: Tensor | None = None) -> dict[str, Tensor]:
        state = self.model.start(input, 1, lengths=lengths)
        return {STATE + name: tensor for name, tensor in state.items() if _is_memory(name)}


def _is_memory(name: str) -> bool:
    return name.rpartition(SEPARATOR)[2].startswith(MEMORY)


@torch.no_grad()
def _start(model: Network, batch: int, capacity: int, example: Inputs | None) -> State:
    """The state of a stream of ``batch`` rows, which have read rows of ``example`` where they read."""
    if not isinstance(model, EncoderDecoder):
        return model.init_state(batch, capacity)
    if example is None:
        raise UserError("An encoder-decoder writes about something that it has read: give an example of that.")
    given = dict(example) if isinstance(example, Mapping) else {"input": example}
    rows = torch.arange(batch) % len(first(given))
    return model.start(capacity=capacity, **{name: x.detach().cpu()[rows] for name, x in given.items()})


def _source(model: Network) -> Any:
    """What the network streams."""
    specification = model.specification
    return specification.decoder_input if isinstance(model, EncoderDecoder) else specification.input


def _next(model: Network, batch: int, tokens: int, generator: torch.Generator) -> Tensor:
    """Random tokens, none of them padding."""
    source = _source(model)
    if not isinstance(source, TokenInput):
        dtype = next(model.parameters()).dtype
        return torch.randn(batch, tokens, source.channels, generator=generator, dtype=dtype)
    ids = torch.randint(source.vocabulary, (batch, tokens), generator=generator)
    return ids if source.padding is None else torch.where(ids == source.padding, (ids + 1) % source.vocabulary, ids)


def _notes(model: Network, capacity: int, state: State) -> dict[str, Any]:
    """What a file says of itself beside its shapes."""
    notes: dict[str, Any] = {"capacity": capacity, "vocabulary": getattr(_source(model), "vocabulary", None)}
    if isinstance(model, EncoderDecoder):
        specification = model.specification
        return notes | {
            "start": specification.start,
            "end": specification.end,
            "read_vocabulary": getattr(specification.input, "vocabulary", None),
            "read_padding": getattr(specification.input, "padding", None),
        }
    with contextlib.suppress(UserError):
        endless = model.init_state(2, _ENDLESS, device="meta")
        if all(endless[name].shape == tensor.shape for name, tensor in state.items()):
            notes["capacity"] = None
    return notes


def _growing(model: Network, state: State, capacity: int, example: Inputs | None) -> dict[str, int]:
    """The axis of each cache that is as long as the capacity, whatever that is."""
    try:
        step, other = 1, _start(model, 2, capacity + 1, example)
    except UserError:  # a table ends there
        if capacity == 1:
            return {}
        step, other = -1, _start(model, 2, capacity - 1, example)
    return {
        name: axis
        for name, tensor in state.items()
        for axis in range(1, tensor.ndim)
        if tensor.shape[axis] == capacity > 1 and other[name].shape[axis] == capacity + step
    }


def _difference(model: Network, stream: OnnxStream, capacity: int, example: Inputs | None) -> float:
    """The largest difference of scores, from the beginning and behind a text."""
    generator = torch.Generator().manual_seed(1)
    rounded, worst, batch = qdq.rounds_activations(model), 0.0, 3
    sizes = [1, 3, 2] if stream.tokens is None else [stream.tokens] * _CALLS
    while len(sizes) > 1 and sum(sizes) > capacity:
        sizes.pop()
    for read in sorted({0, min(_READ, capacity - sum(sizes))}):
        state = _start(model, batch, capacity, example)
        if read:
            mask = torch.arange(read) < torch.tensor([[read], [max(1, read // 2)], [1]])
            _, state = model.stream(_next(model, batch, read, generator), state, Context(mask=mask))
            ours = {name: tensor.numpy().copy() for name, tensor in state.items()}
        else:
            memory = {name: tensor.numpy() for name, tensor in state.items() if _is_memory(name)}
            ours = stream.init_state(batch, memory=memory)
        for size in sizes:
            x = _next(model, batch, size, generator)
            scores, state = model.stream(x, state)
            found, ours = stream.stream(x.numpy(), ours)
            worst = max(worst, compared(found, scores.numpy(), rounded, f"after {read} tokens"))
        if read:
            for name in state:
                if not _is_memory(name):
                    compared(ours[name], state[name].numpy(), rounded, f"in the state {name}")
    return worst

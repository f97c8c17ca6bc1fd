"""A model of sequences token by token in ONNX Runtime, its state in NumPy arrays, without PyTorch."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from numpy.typing import NDArray

from formwright.data.tokenization import Tokenizer
from formwright.deployment.runtime import KINDS, NOTES, OnnxModel, opened
from formwright.errors import UserError
from formwright.inference.prompts import check_prompts, in_one_array, in_text
from formwright.inference.sampling import GREEDY, Sampling, draw

Array = NDArray[Any]
#: By names of tensors, as the model in PyTorch calls them.
State = dict[str, Array]

#: Before the name of a tensor of the state, among inputs and outputs of the file.
STATE, NEW_STATE = "state.", "new_state."
LENGTH = "length"
#: Files of a folder: the step, the step of many tokens, and what an encoder-decoder reads with.
STEP_FILE, PROMPT_FILE, READER_FILE = "step.onnx", "prompt.onnx", "reader.onnx"
#: Slots that a cache begins with; a full one is doubled.
_SLOTS = 64
_GROWS = "capacity"


class _Step:
    """One file of :func:`~formwright.deployment.step.export_step`."""

    def __init__(self, source: str | os.PathLike[str] | bytes, threads: int | None) -> None:
        self.name, self.session = opened(source, threads)
        notes = self.session.get_modelmeta().custom_metadata_map.get(NOTES)
        self.inputs = {value.name: value for value in self.session.get_inputs()}
        if notes is None or STATE + LENGTH not in self.inputs:
            raise UserError(f"{self.name} is not the step of a stream; write one with export_step.")
        self.notes: dict[str, Any] = json.loads(notes)
        self.outputs = [value.name for value in self.session.get_outputs()]
        self.tokens: int | None = self.notes["tokens"]

    def __call__(self, x: Array, state: State) -> tuple[Array, State]:
        given = {STATE + name: array for name, array in state.items()}
        scores, *after = self.session.run(self.outputs, {"input": x, **given})
        changed = zip(self.outputs[1:], after, strict=True)
        return scores, state | {name.removeprefix(NEW_STATE): array for name, array in changed}


class OnnxStream:
    """A model that streams in ONNX Runtime: tokens and a state of NumPy arrays in, scores and the state after them out.

    >>> model = OnnxStream("step.onnx")                    # doctest: +SKIP
    >>> scores, state = model.stream(ids, model.init_state(batch=1))
    >>> for ids in model.generate([[79, 110, 99, 101]], tokens=20): ...

    What it gives is what ``stream`` of the network gives that the file was written from.

    Args:
        source: a file of :func:`~formwright.deployment.step.export_step`, its bytes, or a folder that holds it as
            ``step.onnx``, and ``prompt.onnx`` and ``reader.onnx`` if there are such.
        prompt: a second file of the same network whose calls take more tokens, for what is known in advance.
        reader: what an encoder-decoder reads with, of :func:`~formwright.deployment.step.export_reader`.
        threads: threads within an operator; one for each core if unset.

    Raises:
        UserError: a file is missing or is not what it should be, or the two take other states.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes,
        *,
        prompt: str | os.PathLike[str] | bytes | None = None,
        reader: str | os.PathLike[str] | bytes | None = None,
        threads: int | None = None,
    ) -> None:
        if not isinstance(source, bytes) and Path(source).is_dir():
            folder, source = Path(source), Path(source) / STEP_FILE
            prompt = prompt or _if_there(folder / PROMPT_FILE)
            reader = reader or _if_there(folder / READER_FILE)
        steps = [_Step(each, threads) for each in (prompt, source) if each is not None]
        self._step = steps[-1]
        self._steps = sorted(steps, key=lambda step: step.tokens or np.inf, reverse=True)
        self._reader = None if reader is None else OnnxModel(reader, threads)
        shapes = [{name: value.shape for name, value in step.inputs.items() if name != "input"} for step in steps]
        if any(other != shapes[-1] for other in shapes):
            raise UserError(
                f"{steps[0].name} and {self._step.name} take states of different shapes; export both alike."
            )

    @property
    def tokens(self) -> int | None:
        """How many tokens a call of the file takes; any number if none."""
        return self._step.tokens

    @property
    def capacity(self) -> int | None:
        """How many tokens a row may have; any number if none."""
        capacity: int | None = min(
            (step.notes["capacity"] for step in self._steps if step.notes["capacity"] is not None), default=None
        )
        return capacity

    @property
    def writes(self) -> bool:
        """Whether the model answers what it reads, rather than to continue it."""
        return "start" in self._step.notes

    @property
    def vocabulary(self) -> int:
        """How many ids the model of language knows that is read and continued.

        Raises:
            UserError: it streams something else.
        """
        size: int | None = self._step.notes["read_vocabulary" if self.writes else "vocabulary"]
        if size is None:
            raise UserError(f"{self._step.name} takes no ids: give it what it takes by stream(x, state).")
        return size

    def init_state(self, batch: int = 1, *, memory: Mapping[str, Array] | None = None) -> State:
        """What a stream of ``batch`` rows starts from.

        Args:
            batch: how many rows.
            memory: of an encoder-decoder, by the names of the state: what :meth:`read` gives.

        Raises:
            UserError: the memory is missing.
        """
        given, state = dict(memory or {}), {}
        for name, value in self._step.inputs.items():
            key = name.removeprefix(STATE)
            if name == "input":
                continue
            if NEW_STATE + key not in self._step.outputs:
                if key not in given:
                    raise UserError(f"{self._step.name} writes about what was read: give its memory, of read(x).")
                state[key] = given[key]
                continue
            sizes = {"batch": batch, _GROWS: min(_SLOTS, self.capacity or _SLOTS)}
            shape = [size if isinstance(size, int) else sizes[size] for size in value.shape]
            state[key] = np.zeros(shape, KINDS[value.type])
        return state

    def read(self, x: Array | Mapping[str, Array]) -> dict[str, Array]:
        """The memory of what an encoder-decoder reads, for :meth:`init_state`.

        Raises:
            UserError: there is no reader.
        """
        if self._reader is None:
            raise UserError("An encoder-decoder reads with a file of export_reader: give it as reader=.")
        return {name.removeprefix(STATE): array for name, array in self._reader(x).items()}

    def stream(self, x: Shaped[Array, "batch time *rest"], state: State) -> tuple[Array, State]:
        """The scores of the next tokens of every row, any number that the files can be called for, and the state.

        Raises:
            UserError: the tokens are not what the model takes, or a row gets more than the capacity.
        """
        pieces, state = [], self._grown(state, np.shape(x)[1] if np.ndim(x) > 1 else 0)
        for step, tokens in self._calls(x, len(state[LENGTH])):
            scores, state = step(tokens, state)
            pieces.append(scores)
        return np.concatenate(pieces, axis=1), state

    def _calls(self, x: Array, rows: int) -> Iterator[tuple[_Step, Array]]:
        """The files to be called with the next tokens of so many rows, and the tokens of each call."""
        wanted = self._step.inputs["input"]
        x = np.ascontiguousarray(x, KINDS[wanted.type])
        if x.ndim != len(wanted.shape) or x.shape[2:] != tuple(wanted.shape[2:]) or len(x) != rows or not x.shape[1]:
            shape = ", ".join(str(size) for size in (rows, "tokens", *wanted.shape[2:]))
            raise UserError(f"{self._step.name} takes the next tokens as ({shape}); got shape {x.shape}.")
        start = 0
        while start < x.shape[1]:
            left = x.shape[1] - start
            step = next((step for step in self._steps if step.tokens is None or step.tokens <= left), None)
            if step is None:
                raise UserError(f"{self._step.name} takes {self.tokens} tokens at a time, and {left} are left.")
            count = step.tokens or left
            yield step, np.ascontiguousarray(x[:, start : start + count])
            start += count

    def _grown(self, state: State, tokens: int) -> State:
        """The state with caches that have room for so many tokens more."""
        needed = int(state[LENGTH].max(initial=0)) + tokens
        if self.capacity is not None and needed > self.capacity:
            raise UserError(
                f"{self._step.name} was made for {self.capacity} tokens, and the sequence now has {needed}: export it "
                "with a larger capacity."
            )
        grown = dict(state)
        for name, array in state.items():
            shape = self._step.inputs[STATE + name].shape
            if _GROWS in shape and array.shape[shape.index(_GROWS)] < needed:
                axis = shape.index(_GROWS)
                more = min(max(needed, 2 * array.shape[axis]), self.capacity or needed) - array.shape[axis]
                grown[name] = np.pad(array, [(0, more if each == axis else 0) for each in range(array.ndim)])
        return grown

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        tokens: int = 100,
        sampling: Sampling = GREEDY,
        stop: Collection[int] = (),
    ) -> Iterator[list[int | None]]:
        """As :func:`formwright.inference.generation.generate`: the next token of each row, ``None`` once it has ended.

        The same seed draws the same text as in PyTorch.

        Raises:
            UserError: a prompt is empty or has an id that the model does not know, or the text is longer than the
                capacity.
        """
        if tokens < 1:
            raise UserError(f"At least one token has to be generated, and {tokens} were asked for.")
        rows = [[int(id_) for id_ in prompt] for prompt in prompts]
        check_prompts(rows, self.vocabulary)
        notes, stops = self._step.notes, set(stop)
        longest = (1 if self.writes else max(map(len, rows))) + tokens - 1
        if self.capacity is not None and longest > self.capacity:
            raise UserError(
                f"{self._step.name} was made for {self.capacity} tokens, and prompt and text together have {longest}: "
                "ask for fewer tokens, or export it with a larger capacity."
            )
        if self.writes:
            state = self.init_state(len(rows), memory=self.read(in_one_array(rows, notes["read_padding"])))
            stops |= set() if notes["end"] is None else {notes["end"]}
            rows = [[notes["start"]]] * len(rows)
            scores, state = self.stream(np.array(rows), state)
            scores = scores[:, -1]
        else:
            scores, state = self._prompted(rows)

        def advance(kept: Array | None, chosen: Array) -> Array:
            nonlocal state
            if kept is not None:  # rows that have ended leave the stream
                state = {name: array[kept] for name, array in state.items()}
            scores, state = self.stream(chosen[:, None], state)
            return scores[:, -1]

        yield from draw(scores, advance, rows, tokens=tokens, sampling=sampling, stops=stops)

    def generate_text(
        self,
        tokenizer: Tokenizer,
        prompts: Sequence[str],
        *,
        tokens: int = 100,
        sampling: Sampling = GREEDY,
        stop: Collection[int] = (),
    ) -> Iterator[list[str]]:
        """As :meth:`generate`, in text: the next piece of each row's text, empty where there is none yet.

        Raises:
            UserError: as :meth:`generate`, or the tokeniser belongs to another model.
        """
        yield from in_text(
            tokenizer,
            prompts,
            lambda rows, stops: self.generate(rows, tokens=tokens, sampling=sampling, stop=stops),
            vocabulary=self.vocabulary,
            stop=stop,
        )

    def _prompted(self, rows: Sequence[Sequence[int]]) -> tuple[Array, State]:
        """The scores of the token after each prompt and the state from which the texts go on; each is read alone."""
        scores, states = [], []
        room = max(map(len, rows))
        for row in rows:
            state = self._grown(self.init_state(1), room)
            for step, ids in self._calls(np.array([row]), 1):
                found, state = step(ids, state)
            scores.append(found[:, -1])
            states.append(state)
        return np.concatenate(scores), {name: np.concatenate([each[name] for each in states]) for name in states[0]}


def _if_there(path: Path) -> Path | None:
    return path if path.is_file() else None

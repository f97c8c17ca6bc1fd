"""Texts, a token at a time: the state of the model is carried along, so no token is computed twice.

A decoder continues its prompts; an encoder-decoder reads them and writes a text of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor

from formwright.data.tokenization import Tokenizer
from formwright.errors import UserError
from formwright.inference.prompts import check_prompts, in_one_array, in_text
from formwright.inference.sampling import GREEDY, Array, Sampling, draw
from formwright.models import Network
from formwright.models.topologies.encoder_decoder import EncoderDecoder
from formwright.nn.context import Context
from formwright.nn.parts import State
from formwright.nn.streaming import select

#: Prompts are read in pieces, so that the memory for their scores does not grow with them.
PROMPT_PIECE = 512


@torch.inference_mode()
def generate(
    model: Network,
    prompts: Sequence[Sequence[int]] | Tensor,
    *,
    tokens: int = 100,
    sampling: Sampling = GREEDY,
    stop: Collection[int] = (),
) -> Iterator[list[int | None]]:
    """Continue or answer every prompt by up to ``tokens`` tokens, all side by side; yields the next token of each row.

    A row that chose a stop token has ended: it yields ``None`` from then on, and the others go on. Attention keeps
    keys and values of what it saw; recurrent mixers keep a state of constant size.

    Args:
        model: a model of language that can stream, such as a decoder, or an encoder-decoder such as T5.
        prompts: ids of each prompt, of any lengths, or a tensor ``(batch, time)``.
        tokens: how many tokens each row gets at most.
        sampling: how a token is chosen.
        stop: ids that end a row; they are not given out. The one that the model itself ends texts with does too.

    Raises:
        UserError: the model writes no text, a prompt is empty, an id is not in the vocabulary, the model cannot stream,
            or its position table is shorter than prompt and continuation together.
    """
    training = model.training
    model.eval()
    try:
        rows, first, state = begin(model, prompts, tokens)
        device = first.device

        def advance(kept: Array | None, chosen: Array) -> Array:
            nonlocal state
            if kept is not None:  # rows that have ended leave the stream
                state = select(state, torch.from_numpy(kept).to(device))
            scores, state = model.stream(torch.from_numpy(chosen).to(device)[:, None], state)
            return _array(scores[:, -1])

        stops = stopping_ids(model, stop, device).tolist()
        yield from draw(_array(first), advance, rows, tokens=tokens, sampling=sampling, stops=stops)
    finally:
        model.train(training)


def check_writes(model: Network) -> None:
    """Refuse models that write no text.

    Raises:
        UserError: says what the model was made for.
    """
    task = model.specification.task
    if task not in ("language-modelling", "text-to-text"):
        raise UserError(
            f"The model {model.specification.name} was made for {task} and writes no text; give one for "
            "language-modelling, such as a decoder, or for text-to-text."
        )


def begin(
    model: Network, prompts: Sequence[Sequence[int]] | Tensor, tokens: int
) -> tuple[list[list[int]], Tensor, State]:
    """Read the prompts: the ids that are to be continued, the scores of the next one, and the state to go on from.

    What an encoder-decoder continues is the id that its decoder starts with, whatever it has read.

    Args:
        model: a decoder or an encoder-decoder.
        prompts: as for :func:`generate`; an encoder-decoder takes a tensor of whatever its encoder reads.
        tokens: how many ids may follow.

    Raises:
        UserError: as :func:`generate`.
    """
    if tokens < 1:
        raise UserError(f"At least one token has to be generated, and {tokens} were asked for.")
    specification = model.specification
    if isinstance(model, EncoderDecoder):
        return _begin_to_write(model, prompts, tokens)
    check_writes(model)
    rows = [[int(token) for token in prompt] for prompt in prompts]
    check_prompts(rows, specification.input.channels)
    scores, state = read_prompts(model, rows, model.init_state(len(rows), max(map(len, rows)) + tokens - 1))
    return rows, scores, state


def _begin_to_write(
    model: EncoderDecoder, prompts: Sequence[Sequence[int]] | Tensor, tokens: int
) -> tuple[list[list[int]], Tensor, State]:
    specification, device = model.specification, next(model.parameters()).device
    if isinstance(prompts, Tensor):
        read = prompts.to(device)
    else:
        rows = [[int(token) for token in prompt] for prompt in prompts]
        check_prompts(rows, specification.input.channels)
        read = torch.from_numpy(in_one_array(rows, getattr(specification.input, "padding", None))).to(device)
    state = model.start(read, tokens)
    start = torch.full((len(read), 1), specification.start, device=device)
    scores, state = model.stream(start, state)
    return start.tolist(), scores[:, -1], state


def stopping_ids(model: Network, stop: Collection[int], device: torch.device) -> Tensor:
    """The ids that end a text: those that were asked for, and the model's own."""
    own = getattr(model.specification, "end", None)
    return torch.tensor(sorted({*stop, *([] if own is None else [own])}), dtype=torch.int64, device=device)


def read_prompts(model: Network, rows: Sequence[Sequence[int]], state: State) -> tuple[Tensor, State]:
    """Scores ``(batch, vocabulary)`` of the token after each prompt, and the state from which the texts go on."""
    device = state["length"].device
    lengths = torch.tensor([len(row) for row in rows], device=device)
    longest = int(lengths.max())
    padded = torch.from_numpy(in_one_array(rows, 0)).to(device)
    mask = torch.arange(longest, device=device) < lengths[:, None]
    found: Tensor | None = None
    for start in range(0, longest, PROMPT_PIECE):
        piece = slice(start, min(start + PROMPT_PIECE, longest))
        context = Context() if bool(mask[:, piece].all()) else Context(mask=mask[:, piece])
        scores, state = model.stream(padded[:, piece], state, context)
        found = scores.new_zeros(len(rows), scores.shape[-1]) if found is None else found
        ends = ((lengths > start) & (lengths <= piece.stop)).nonzero()[:, 0]
        found[ends] = scores[ends, lengths[ends] - 1 - start]
    assert found is not None
    return found, state


def _array(scores: Tensor) -> Array:
    """The scores for :func:`~formwright.inference.sampling.draw`, in float32 at least."""
    return scores.to(torch.promote_types(scores.dtype, torch.float32)).cpu().numpy()


def generate_text(
    model: Network,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    *,
    tokens: int = 100,
    sampling: Sampling = GREEDY,
    stop: Collection[int] = (),
) -> Iterator[list[str]]:
    """As :func:`generate`, in text: yields the next piece of each row's text, empty where there is none yet.

    The end of a text, where the tokeniser has a token for it, ends a row besides ``stop``.

    Raises:
        UserError: as :func:`generate`, or the tokeniser belongs to another model.
    """
    yield from in_text(
        tokenizer,
        prompts,
        lambda rows, stops: generate(model, rows, tokens=tokens, sampling=sampling, stop=stops),
        vocabulary=model.specification.input.channels,
        stop=stop,
    )

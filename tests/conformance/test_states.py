"""What can be done with the state of a stream: rows chosen, tokens taken back, moved, copied and weighed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.models import Network
from formwright.models.topologies.encoder_decoder import EncoderDecoder
from formwright.nn import Context, Part
from formwright.nn.parts import State
from formwright.nn.specification import TokenInput, VectorInput
from formwright.nn.streaming import LENGTH, Streams, bytes_of, copied, crop, moved, select
from tests.conformance.instances import (
    GRIDS,
    TINY_NETWORKS,
    Case,
    build,
    call,
    inputs,
    offered,
    only_offers,
    smallest_variants,
    streaming_cases,
    tiny_model,
    tiny_network,
    tokens,
)

each_case = pytest.mark.parametrize("case", streaming_cases(), ids=str)
TIME = GRIDS[1][0]


class Stream:
    """A part that streams the tokens of its case, and what the whole of them gives."""

    def __init__(self, case: Case) -> None:
        self.part: Part = build(case, GRIDS[1])
        self.x, self.context = tokens(case, GRIDS[1])
        self.expected = call(self.part, self.x, self.context)[0]

    def begin(self) -> State:
        context = Context(**offered(self.part, self.x))
        state = self.part.begin(len(self.x), TIME, context, dtype=self.x.dtype)
        return {**state, LENGTH: torch.zeros(len(self.x), dtype=torch.int64)}

    def step(self, x: Tensor, state: State, rows: Tensor | None = None) -> tuple[Tensor, State]:
        bias = offered(self.part, self.x).get("distance_bias")
        context = only_offers(self.context, mask=None, distance_bias=bias)
        if rows is not None and context.condition is not None:
            context = context.replace(condition=context.condition[rows])
        y, after = self.part.stream(x, state, context)
        return y, {**after, LENGTH: state[LENGTH] + x.shape[1]}


def close(y: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(y, expected, rtol=tolerance, atol=tolerance)


@each_case
@torch.inference_mode()
def test_chosen_rows_go_on_as_themselves(case: Case) -> None:
    stream, rows = Stream(case), torch.tensor([1, 0, 1])
    _, state = stream.step(stream.x[:, :3], stream.begin())
    y, _ = stream.step(stream.x[rows, 3:], select(state, rows), rows)
    close(y, stream.expected[rows, 3:])


@each_case
@torch.inference_mode()
def test_tokens_that_were_taken_back_were_never_seen_or_it_is_refused(case: Case) -> None:
    stream = Stream(case)
    _, state = stream.step(stream.x[:, :2], stream.begin())
    _, state = stream.step(stream.x[:, 2:4].flip(0, 1), state)
    _, state = stream.step(stream.x[:, 4:5].flip(0), state)
    parts = [("here", stream.part)]
    assert crop(parts, state, 5).keys() == state.keys()
    if not stream.part.remembers(state, torch.tensor([2, 2])):
        with pytest.raises(UserError, match=rf"{type(stream.part).__name__} \(here\) cannot go back"):
            crop(parts, {k if k == LENGTH else f"here/{k}": v for k, v in state.items()}, 2)
        return
    state = {**state, LENGTH: torch.minimum(state[LENGTH], torch.tensor(2))}
    y, _ = stream.step(stream.x[:, 2:], state)
    close(y, stream.expected[:, 2:])


@each_case
@torch.inference_mode()
def test_a_step_may_be_taken_back_token_by_token(case: Case) -> None:
    """Other tokens tried at every place, wherever the part remembers one token back."""
    stream = Stream(case)
    state = stream.begin()
    pieces = []
    for place in range(TIME):
        last = torch.full((2,), place)
        _, tried = stream.step(stream.x[:, place : place + 1].flip(0), copied(state))
        if stream.part.remembers(tried, last):
            state = {**tried, LENGTH: last}
        y, state = stream.step(stream.x[:, place : place + 1], state)
        pieces.append(y)
    close(torch.cat(pieces, dim=1), stream.expected)


@each_case
@torch.inference_mode()
def test_a_copy_is_left_alone_and_weighs_as_much(case: Case) -> None:
    stream = Stream(case)
    _, state = stream.step(stream.x[:, :3], stream.begin())
    kept = copied(state)
    assert bytes_of(kept) == sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    stream.step(stream.x[:, 3:], state)
    y, _ = stream.step(stream.x[:, 3:], kept)
    close(y, stream.expected[:, 3:])


@each_case
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)], ids=str)
@torch.inference_mode()
def test_a_narrower_state_gives_nearly_the_same(case: Case, dtype: torch.dtype, tolerance: float) -> None:
    stream = Stream(case)
    _, state = stream.step(stream.x[:, :3], stream.begin())
    state = moved(state, "cpu", dtype)
    assert all(value.dtype is dtype for value in state.values() if value.is_floating_point())
    assert state[LENGTH].dtype is torch.int64
    pieces = []
    for piece in stream.x[:, 3:].split([1, TIME - 4], dim=1):
        y, state = stream.step(piece, state)
        pieces.append(y)
    assert y.dtype is stream.expected.dtype
    expected = stream.expected[:, 3:]
    assert (torch.cat(pieces, dim=1) - expected).abs().mean() <= tolerance * stream.expected.std()


class Step(nn.Module):
    """A part's stream as a function of tensors, which leaves those that come in alone."""

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self.stream, self.part = stream, stream.part

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return self.stream.step(x, copied(state))


def with_state(case: Case) -> bool:
    stream = Stream(case)
    return not stream.context.says("condition") and stream.begin().keys() != {LENGTH}


@pytest.mark.parametrize("case", filter(with_state, streaming_cases()), ids=str)
@torch.no_grad()
def test_exported_the_step_is_what_it_was(case: Case) -> None:
    stream = Stream(case)
    axes = {name: {0: torch.export.Dim.DYNAMIC} for name in stream.begin()}
    first = copied(stream.begin())
    arguments, shapes = (stream.x[:, :1], first), ({0: torch.export.Dim.DYNAMIC}, axes)
    step = torch.export.export(Step(stream), arguments, dynamic_shapes=shapes).module()
    rows = torch.tensor([0, 1, 1])
    for read in (0, 5):  # a ring of three is full then
        x, state = stream.x[rows], select(stream.begin(), rows)
        if read:
            _, state = stream.step(x[:, :read], state)
        for place in (read, read + 1):
            y, state = step(x[:, place : place + 1], state)
            close(y, stream.expected[rows, place : place + 1])


def streaming_models() -> dict[str, Network]:
    """A tiny network of each family that streams."""
    variants = {**smallest_variants(TokenInput), **smallest_variants(VectorInput)}
    models = [(family, tiny_model(family, variant)) for family, variant in variants.items()]
    networks = [(name, tiny_network(name)) for name in TINY_NETWORKS]
    return {
        **{name: model for name, model in models if streams(model)},
        **{name: model for name, model in networks if isinstance(model, EncoderDecoder)},
    }


def streams(model: Network) -> bool:
    try:
        model.init_state(1, 1)
    except UserError:
        return False
    return True


def begun(model: Network, capacity: int) -> tuple[Tensor, State]:
    """What a network streams, and its state before."""
    if isinstance(model, EncoderDecoder):
        example = model.example(2)
        return example["decoder_input"], model.start(example["input"], capacity)  # type: ignore[index]
    x = inputs(model)
    return x, model.init_state(2, capacity)


@pytest.mark.parametrize("name", streaming_models())
@torch.inference_mode()
def test_models_choose_rows_and_take_back_tokens(name: str) -> None:
    model = streaming_models()[name]
    x, state = begun(model, 9)
    rows = torch.tensor([1, 1, 0])
    assert bytes_of(state) == sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    _, state = model.stream(x[:, :5], state)
    expected, _ = model.stream(x[:, 5:8], copied(state))
    y, _ = model.stream(x[rows, 5:8], select(state, rows))
    close(y, expected[rows])
    _, later = model.stream(x[:, 5:6].flip(0), copied(state))
    parts = Streams(later)
    if all(each.remembers(parts.of(path), later[LENGTH] - 1) for path, each in model.streamed_parts()):
        close(model.stream(x[:, 5:8], model.crop(later, 5))[0], expected)
    else:
        with pytest.raises(UserError, match="cannot go back"):
            model.crop(later, 5)


@torch.inference_mode()
def test_rows_go_back_to_lengths_of_their_own() -> None:
    model = tiny_model("llama", smallest_variants(TokenInput)["llama"])
    x = inputs(model)
    _, state = model.stream(x[:, :6], model.init_state(2, 12))
    state = model.crop(state, torch.tensor([2, 9]))
    assert state[LENGTH].tolist() == [2, 6]
    y, _ = model.stream(torch.stack([x[0, 2:4], x[1, 6:8]]), state)
    expected = model(x)
    close(y, torch.stack([expected[0, 2:4], expected[1, 6:8]]))
    with pytest.raises(UserError, match="-1 were asked for"):
        model.crop(state, -1)

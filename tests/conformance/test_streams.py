"""A causal part gives token by token, and in any other division, what it gives on the whole sequence."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from formwright.errors import UserError
from formwright.nn import Context, Part, build_part, part
from formwright.nn.parts import State
from tests.conformance.instances import GRIDS, Case, build, call, offered, only_offers, streaming_cases, tokens

each_case = pytest.mark.parametrize("case", streaming_cases(), ids=str)
LENGTH = GRIDS[1][0]


def begun(module: Part, x: Tensor) -> State:
    """The state of a stream that begins with what is offered to all of it."""
    return module.begin(x.shape[0], LENGTH, Context(**offered(module, x)), dtype=x.dtype)


def passing(module: Part, x: Tensor, context: Context, mask: Tensor | None = None) -> Context:
    """What is offered to each piece: all but the memory, which is part of the state."""
    return only_offers(context, mask=mask, distance_bias=offered(module, x).get("distance_bias"))


def streamed(
    module: Part, x: Tensor, sizes: list[int], context: Context, state: State | None = None, seen: int = 0
) -> Tensor:
    """The results for pieces of these sizes, one after the other."""
    state = begun(module, x) if state is None else state
    shapes = {name: tensor.shape for name, tensor in state.items()}
    pieces, seen = [], 0
    for piece in x.split(sizes, dim=1):
        length = torch.full((x.shape[0],), seen)
        y, state = module.stream(piece, {**state, "length": length}, passing(module, x, context))
        state = {name: tensor for name, tensor in state.items() if name != "length"}
        assert {name: tensor.shape for name, tensor in state.items()} == shapes, "the state keeps its shapes"
        pieces.append(y)
        seen += piece.shape[1]
    return torch.cat(pieces, dim=1)


@each_case
@pytest.mark.parametrize(
    "sizes", [[1] * LENGTH, [LENGTH], [3, 1, LENGTH - 4], [0, 1, LENGTH - 1], [2, 0, 1, 0, LENGTH - 3, 0]], ids=str
)
def test_any_division_gives_the_whole(case: Case, sizes: list[int]) -> None:
    module = build(case, GRIDS[1])
    x, context = tokens(case, GRIDS[1])
    with torch.inference_mode():
        expected = call(module, x, context)[0]
        torch.testing.assert_close(streamed(module, x, sizes, context), expected, rtol=1e-9, atol=1e-9)


@each_case
@pytest.mark.parametrize("sizes", [[LENGTH], [1, LENGTH - 1]], ids=str)
def test_no_rows_give_none(case: Case, sizes: list[int]) -> None:
    module = build(case, GRIDS[1])
    x, context = tokens(case, GRIDS[1], batch=0)
    with torch.inference_mode():
        assert streamed(module, x, sizes, context).shape == call(module, x, context)[0].shape


@each_case
def test_padding_behind_a_shorter_prompt_changes_nothing(case: Case) -> None:
    """Prompts of 4 and 2 tokens in one call, then a token each: as if every row had been alone."""
    module = build(case, GRIDS[1])
    x, context = tokens(case, GRIDS[1])
    mask = torch.tensor([[True, True, True, True], [True, True, False, False]])
    with torch.inference_mode():
        state = begun(module, x)
        start = torch.zeros(2, dtype=torch.int64)
        prompt, state = module.stream(x[:, :4].clone(), {**state, "length": start}, passing(module, x, context, mask))
        last = torch.stack([x[0, 4], x[1, 2]])[:, None]
        state = {name: tensor for name, tensor in state.items() if name != "length"}
        y, _ = module.stream(last, {**state, "length": mask.sum(1)}, passing(module, x, context))
        expected = call(module, x, context)[0]
    torch.testing.assert_close(prompt[0], expected[0, :4], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(prompt[1, :2], expected[1, :2], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(y[:, 0], torch.stack([expected[0, 4], expected[1, 2]]), rtol=1e-9, atol=1e-9)


def test_a_part_that_looks_ahead_refuses_to_stream() -> None:
    module: Part = build_part(part("pooling"), 16)
    with pytest.raises(UserError, match="cannot stream"):
        module.init_state(1, 8)

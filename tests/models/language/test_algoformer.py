"""A loop is its stack so many times: counts, equality with the unrolled stack, gradients and what training needs."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from formwright.errors import UserError
from formwright.models import Model, create_model
from formwright.models.language.algoformer import loop_scores, with_loops
from tests.conformance.instances import randomise


def build(name: str = "algoformer", **changes: Any) -> Model:
    options = {"dim": 16, "heads": 2, "loops": 3, "channels": 3, "length": 8, **changes}
    model = create_model(name, **options).double().eval()
    randomise(model)
    return model


X = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_loops_cost_no_parameters() -> None:
    assert build(loops=1).parameter_count() == build(loops=20).parameter_count()
    assert build("algoformer_standard", depth_before=3).parameter_count() == build().parameter_count()


def test_one_loop_is_a_plain_stack() -> None:
    looped, plain = build(loops=1), build("algoformer_standard", depth_before=3)
    state = {}
    for name, tensor in looped.state_dict().items():
        for stage in (1, 2):
            name = name.replace(f"stages.{stage}.blocks.0", f"stages.0.blocks.{stage}")
        state[name] = tensor
    plain.load_state_dict(state)
    torch.testing.assert_close(looped(X), plain(X), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("inject", [False, True])
def test_a_loop_is_its_stack_so_many_times(inject: bool) -> None:
    model = build(inject=inject)
    tokens, context = model.backbone.embed(X)
    tokens, context = model.backbone.stages[0](tokens, context)
    entered, block = tokens, model.backbone.stages[1].blocks[0]
    for loop in range(3):
        tokens, _ = block(tokens + entered if inject and loop else tokens)
    tokens, _ = model.backbone.stages[2](tokens)
    torch.testing.assert_close(model(X), model.head(tokens), rtol=1e-12, atol=1e-12)


def test_the_gradient_of_a_loop_is_the_sum_over_its_times() -> None:
    model = build()
    weight = model.backbone.stages[1].blocks[0].branches[1].part.fc1.weight
    model(X).square().mean().backward()
    assert weight.grad is not None
    step, place = 1e-6, (2, 5)
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[place] += sign * step
            values.append(model(X).square().mean())
            weight[place] -= sign * step
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(weight.grad[place].item(), rel=1e-6)


def test_scores_after_each_of_the_last_loops() -> None:
    model = build()
    scores = list(loop_scores(model, X, last=2))
    torch.testing.assert_close(scores[1], model(X))
    torch.testing.assert_close(scores[0], with_loops(model, 2)(X))
    assert with_loops(model, 5).specification.stages[1].repeats == 5
    sum(score.sum() for score in scores).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_looped_transformer_has_one_stage() -> None:
    model = build("looped_transformer")
    assert len(model.backbone.stages) == 1
    torch.testing.assert_close(next(loop_scores(model, X, last=1)), model(X))


def test_the_first_vectors_see_no_later_ones() -> None:
    model, changed = build(), X.clone()
    changed[:, 5] += 1
    assert torch.equal(model(X)[:, :5], model(changed)[:, :5])
    assert not torch.equal(model(X)[:, 5:], model(changed)[:, 5:])


def test_what_cannot_be_is_refused() -> None:
    model = build()
    with pytest.raises(UserError, match="1 to 3 loops"):
        list(loop_scores(model, X, last=4))
    with pytest.raises(UserError, match="has no loop"):
        list(loop_scores(build("algoformer_standard"), X, last=1))
    with pytest.raises(UserError, match="at most 8 tokens, and 9 came"):
        model(torch.zeros(1, 9, 3).double())
    stage = dataclasses.replace(model.specification.stages[0], repeats=0)
    never = dataclasses.replace(model.specification, stages=(stage,))
    with pytest.raises(UserError, match="at least once"):
        Model(never)
    with pytest.raises(UserError, match=r"Expected vectors of shape \(batch, time, 3\)"):
        model(torch.zeros(2, 4, 5).double())

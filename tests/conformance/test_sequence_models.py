"""Every family of ids, series or vectors, at its smallest variant narrowed to a toy, keeps what all models promise."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch

from formwright.errors import UserError
from formwright.models import Model, empty_copy, from_pretrained, load_checkpoint
from formwright.nn import ChainSpec, Context
from formwright.nn.specification import SeriesInput, TokenInput, VectorInput
from tests.conformance.instances import inputs, smallest_variants, tiny_model

VARIANTS = {**smallest_variants(TokenInput), **smallest_variants(SeriesInput), **smallest_variants(VectorInput)}
each_model = pytest.mark.parametrize(("family", "variant"), VARIANTS.items(), ids=VARIANTS.keys())


@each_model
def test_scores(family: str, variant: str) -> None:
    model = tiny_model(family, variant)
    for batch in (2, 1):
        x = inputs(model, batch)
        scores = model(x)
        assert scores.shape[0] == batch
        assert torch.isfinite(scores).all()


@each_model
def test_no_rows_give_no_scores_and_no_tokens_a_sentence(family: str, variant: str) -> None:
    model = tiny_model(family, variant)
    x = inputs(model)
    expected = model(x).shape[1:]
    for training in (True, False):
        scores = model.train(training)(x[:0])
        assert scores.shape == (0, *expected)
        scores.sum().backward()
    assert not any(p.grad.any() for p in model.parameters() if p.grad is not None)
    if all(each.promises.causal or each.promises.per_token for _, each in model.streamed_parts()):
        scores, state = model.stream(x[:0], model.init_state(0, x.shape[1]))
        assert scores.shape == (0, *expected)
        assert all(len(tensor) == 0 for tensor in state.values())
    with pytest.raises(UserError, match=r"without tokens|Expected"):
        model(x[:, :0])


@each_model
def test_padding_changes_no_score_in_training(family: str, variant: str) -> None:
    model = tiny_model(family, variant).train()
    x = inputs(model)
    mask = torch.ones(x.shape[:2], dtype=torch.bool)
    mask[1, -3:] = False
    altered = x.clone()
    altered[1, -3:] = x[1, :3]
    results = []
    for each in (x, altered):
        torch.manual_seed(0)
        try:
            scores = model(each, Context(mask=mask))
        except UserError as error:
            pytest.skip(str(error))
        results.append(scores[mask] if scores.shape[:2] == mask.shape else scores)
    torch.testing.assert_close(*results, rtol=1e-8, atol=1e-8)


@each_model
def test_number_types(family: str, variant: str) -> None:
    model = tiny_model(family, variant)
    x = inputs(model)
    with torch.inference_mode():
        expected = model(x)
        for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.25)):
            scores = copy.deepcopy(model).to(dtype)(x.to(dtype) if x.is_floating_point() else x)
            assert scores.dtype is dtype
            assert (scores.double() - expected).abs().mean() <= tolerance * expected.std()


@each_model
def test_gradients_reach_every_parameter(family: str, variant: str) -> None:
    model = tiny_model(family, variant)
    scores = model(inputs(model))
    (scores * torch.randn(scores.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    unreached = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not unreached
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@each_model
def test_a_first_step_is_finite(family: str, variant: str) -> None:
    torch.manual_seed(0)
    model = Model(tiny_model(family, variant).specification).train()
    x = inputs(model)
    scores = model(x.float() if x.is_floating_point() else x)
    assert scores.std() < 10
    scores.square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@each_model
def test_a_sample_does_not_depend_on_its_neighbours(family: str, variant: str) -> None:
    model = tiny_model(family, variant)
    x = inputs(model, 3)
    with torch.inference_mode():
        whole = model(x)
        for index in range(3):
            torch.testing.assert_close(model(x[index : index + 1]), whole[index : index + 1], rtol=1e-9, atol=1e-9)


@each_model
def test_described_saved_and_loaded(family: str, variant: str, tmp_path: Path) -> None:
    model = tiny_model(family, variant).float()
    specification = model.specification
    assert ChainSpec.from_dict(json.loads(json.dumps(specification.to_dict()))) == specification
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    assert {name: tensor.shape for name, tensor in empty_copy(specification).state_dict().items()} == shapes
    model.save_pretrained(tmp_path)
    x = inputs(model)
    x = x.float() if x.is_floating_point() else x
    assert torch.equal(from_pretrained(tmp_path)(x), model(x))
    other = tiny_model(family, variant, seed=1).float()
    assert load_checkpoint(other, tmp_path) == "formwright"
    assert torch.equal(other(x), model(x))


@each_model
def test_token_by_token_is_as_at_once(family: str, variant: str) -> None:
    model = tiny_model(family, variant)
    x = inputs(model)
    with torch.inference_mode():
        if not all(each.promises.causal or each.promises.per_token for _, each in model.streamed_parts()):
            with pytest.raises(UserError, match="cannot stream"):
                model.init_state(2, x.shape[1])
            return
        state = model.init_state(2, x.shape[1])
        expected = model(x)
        pieces = []
        for piece in x.split([3, *[1] * (x.shape[1] - 3)], dim=1):
            scores, state = model.stream(piece, state)
            pieces.append(scores)
    torch.testing.assert_close(torch.cat(pieces, dim=1), expected, rtol=1e-9, atol=1e-9)


@each_model
def test_exported_model_agrees(family: str, variant: str) -> None:
    model = tiny_model(family, variant)
    x = inputs(model)
    batch = torch.export.Dim("batch", min=1, max=64)
    with torch.no_grad():
        module = torch.export.export(model, (x,), dynamic_shapes={"input": {0: batch}}).module()
        for size in (2, 1, 3):
            other = inputs(model, size, seed=size)
            torch.testing.assert_close(module(other), model(other), rtol=1e-9, atol=1e-9)


@each_model
def test_what_the_model_cannot_take_is_said(family: str, variant: str) -> None:
    model = tiny_model(family, variant)
    with pytest.raises(UserError, match="Expected"):
        model(torch.zeros(2, 3, 4, 5).double())
    with pytest.raises(UserError, match="memory"):
        model(inputs(model), Context(memory=torch.zeros(2, 3, 4)))

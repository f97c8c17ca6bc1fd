"""Smaller models inside a model: run on its weights, trained in it, cut out of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from formwright.compression import extract, mix_and_match
from formwright.errors import UserError
from formwright.models import Model, create_model, from_pretrained
from formwright.models.choices import narrowed
from formwright.models.nesting import RATIOS, hidden_widths, nested_choice
from formwright.objectives import Batch, Classification, NestedTraining
from tests.training.toy import toy_recipe, toy_trainer

DEPTH, HIDDEN = 3, 64


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return create_model("vit_tiny_patch16_224", dim=16, depth=DEPTH, heads=2, image_size=32, classes=4).double().eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("ratio", RATIOS)
def test_a_nested_model_is_the_one_that_is_cut_out(model: Model, images: torch.Tensor, ratio: float) -> None:
    choice = nested_choice(model, ratio)
    smaller = extract(model, choice)
    with narrowed(model, choice):
        inside = model(images)
    torch.testing.assert_close(inside, smaller(images), rtol=1e-12, atol=1e-12)
    assert set(hidden_widths(smaller).values()) == {int(HIDDEN * ratio)}
    assert smaller.parameter_count() == model.parameter_count() - DEPTH * (2 * 16 + 1) * (HIDDEN - int(HIDDEN * ratio))


def test_a_layer_may_have_any_width_and_the_model_saves_and_reloads(
    model: Model, images: torch.Tensor, tmp_path: Path
) -> None:
    smaller = extract(model, nested_choice(model, [0.125, 0.4, 1.0]))
    assert list(hidden_widths(smaller).values()) == [8, 25, 64]
    smaller.save_pretrained(tmp_path)
    torch.testing.assert_close(from_pretrained(tmp_path).double()(images), smaller(images), rtol=1e-12, atol=1e-12)
    assert list(hidden_widths(extract(smaller, nested_choice(smaller, 0.5))).values()) == [4, 12, 32]


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.77, 1.0])
def test_a_budget_is_met_by_widths_that_do_not_decrease(model: Model, share: float) -> None:
    least = extract(model, nested_choice(model, RATIOS[0])).parameter_count()
    budget = round(least + share * (model.parameter_count() - least))
    choice = mix_and_match(model, budget)
    widths = list(choice.sizes.values())
    assert widths == sorted(widths)
    assert 0.98 * budget <= extract(model, choice).parameter_count() <= budget
    neighbours = [size for size in RATIOS if min(widths) <= HIDDEN * size <= max(widths)]
    assert len(neighbours) <= 2


def test_gradients_reach_what_was_read_alone(model: Model, images: torch.Tensor) -> None:
    torch.manual_seed(0)
    objective = NestedTraining(Classification(), ratios=(0.25,)).train()
    objective(model, Batch(images, torch.tensor([0, 1, 2])), 0.0).loss.backward()
    mlp = model.backbone.stages[0].blocks[0].branches[1].part
    assert (mlp.fc1.weight.grad != 0).any(1).tolist() == [True] * 16 + [False] * 48
    assert (mlp.fc2.weight.grad != 0).any(0).tolist() == [True] * 16 + [False] * 48
    assert isinstance(mlp.fc1.weight, torch.nn.Parameter), "the model's own weights are in their place again"
    assert model(images).shape == (3, 4)


def test_every_size_is_drawn_and_the_whole_model_is_evaluated(model: Model, images: torch.Tensor) -> None:
    batch = Batch(images, torch.tensor([0, 1, 2]))
    objective = NestedTraining(Classification())
    torch.manual_seed(0)
    drawn = {objective.train()(model, batch, 0.0).loss.item() for _ in range(40)}
    expected = set()
    for ratio in RATIOS:
        with narrowed(model, nested_choice(model, ratio)):
            expected.add(Classification()(model, batch, 0.0).loss.item())
    assert drawn == expected
    assert objective.eval()(model, batch, 0.0).loss == Classification()(model, batch, 0.0).loss


def test_the_trainer_trains_nested_models() -> None:
    trainer = toy_trainer(toy_recipe())
    trainer.objective = NestedTraining(trainer.objective)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.train(steps=4)
    changed = [name for name, tensor in trainer.model.state_dict().items() if not torch.equal(tensor, before[name])]
    assert any("fc1.weight" in name for name in changed)


def test_what_cannot_be_nested_is_refused(model: Model) -> None:
    with pytest.raises(UserError, match=r"above 0 and up to 1 .* 1\.5"):
        nested_choice(model, 1.5)
    with pytest.raises(UserError, match="got 0"):
        NestedTraining(Classification(), ratios=(0.0,))
    with pytest.raises(UserError, match="at least one size"):
        NestedTraining(Classification(), ratios=())
    with pytest.raises(UserError, match="3 channel mixers, and 2 ratios"):
        nested_choice(model, [0.5, 0.5])
    with pytest.raises(UserError, match="10 was asked"):
        mix_and_match(model, 10)
    with pytest.raises(UserError, match="there is none in a Linear"):
        hidden_widths(torch.nn.Linear(2, 2))
    with pytest.raises(UserError, match="no channel mixers"):
        hidden_widths(create_model("dlinear", length=8, horizon=2, variates=1))

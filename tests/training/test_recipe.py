from __future__ import annotations

import pytest
import torch

from formwright.models import create_model
from formwright.objectives import Classification
from formwright.search.images import FAMILIES, PictureShape, propose
from formwright.training.muon import Muon
from formwright.training.recipe import Recipe, Schedule, build_optimizers

SHAPE = PictureShape(size=(16, 16), channels=3, classes=4, pictures=300)


def groups(optimizers):
    return [(optimizer, group) for optimizer in optimizers for group in optimizer.param_groups]


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "sgd"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_trainable_parameter_is_in_exactly_one_group(family, optimizer):
    model = create_model(propose(family, SHAPE, width=16, depth=1).specification)
    frozen = next(iter(model.backbone.parameters())).requires_grad_(False)
    optimizers = build_optimizers(Recipe(optimizer=optimizer), {"": model, "objective.": Classification()})
    trained = [id(parameter) for _, group in groups(optimizers) for parameter in group["params"]]
    assert len(trained) == len(set(trained))
    assert set(trained) == {id(parameter) for parameter in model.parameters()} - {id(frozen)}
    assert all(group["peak"] == group["lr"] > 0 for _, group in groups(optimizers))


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "sgd"])
def test_vectors_and_tables_are_not_decayed_and_only_matrices_are_made_orthogonal(optimizer):
    model = create_model("cct_2_3x2_32", classes=4, image_size=16)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for one, group in groups(build_optimizers(Recipe(optimizer=optimizer, weight_decay=0.1), {"": model})):
        for parameter in group["params"]:
            name = names[id(parameter)]
            if parameter.ndim < 2 or name.endswith(("table", "tokens")):
                assert group["weight_decay"] == 0, name
                assert not isinstance(one, Muon), name
            if isinstance(one, Muon):
                assert min(parameter.flatten(1).shape) >= 8, name


def test_muon_has_two_rates_and_the_others_one():
    model = create_model("cct_2_3x2_32", classes=4, image_size=16)
    recipe = Recipe(learning_rate=0.02, vector_learning_rate=0.003)
    assert {group["lr"] for _, group in groups(build_optimizers(recipe, {"": model}))} == {0.02, 0.003}
    recipe = Recipe(optimizer="sgd", learning_rate=0.02)
    assert {group["lr"] for _, group in groups(build_optimizers(recipe, {"": model}))} == {0.02}


def test_the_rate_warms_up_stays_and_falls_as_a_cosine():
    schedule = Schedule(warmup=10, total=110, decay_start=60)
    assert [schedule.factor(step) for step in (0, 4, 9, 30, 60)] == pytest.approx([0.1, 0.5, 1.0, 1.0, 1.0])
    assert schedule.factor(85) == pytest.approx(0.5)
    assert schedule.factor(110) == pytest.approx(0.0, abs=1e-12)
    assert schedule.factor(500) == pytest.approx(0.0, abs=1e-12)


def test_a_run_of_unknown_length_does_not_decay():
    schedule = Schedule(warmup=2)
    assert schedule.factor(1) == schedule.factor(10**6) == 1.0


@pytest.mark.parametrize("total", [90, 105, 130, 400])
@pytest.mark.parametrize("step", [60, 75, 85])
def test_a_stretched_schedule_goes_on_with_the_same_rate_and_ends_at_the_new_total(step, total):
    schedule = Schedule(warmup=10, total=110, decay_start=60)
    stretched = schedule.stretched(step, total)
    assert stretched.factor(step) == pytest.approx(schedule.factor(step))
    assert stretched.total == total
    assert stretched.factor(total) == pytest.approx(0.0, abs=1e-9)
    rates = [stretched.factor(s) for s in range(step, total)]
    assert rates == sorted(rates, reverse=True)


def test_a_schedule_cannot_be_stretched_into_the_past_or_after_its_end():
    schedule = Schedule(warmup=1, total=100, decay_start=50)
    assert schedule.stretched(80, 80) is schedule
    assert schedule.stretched(100, 120) is schedule
    assert Schedule(warmup=1).stretched(5, 50) == Schedule(warmup=1)


def test_all_matrices_of_a_model_of_vectors_only_may_be_missing():
    (optimizer,) = build_optimizers(Recipe(), {"": torch.nn.LayerNorm(4)})
    assert isinstance(optimizer, torch.optim.AdamW)

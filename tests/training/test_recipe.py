from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import torch

from formwright.candidates import CANDIDATES
from formwright.errors import UserError
from formwright.models import MODELS, create_model
from formwright.nn.embeddings import TokenEmbedding
from formwright.objectives import Classification
from formwright.search.space import space_for
from formwright.shapes import PictureShape
from formwright.training.muon import Muon
from formwright.training.recipe import Group, Recipe, Schedule, _parameters, build_optimizers
from tests.conformance.instances import build, cases

SHAPE = PictureShape(size=(16, 16), channels=3, classes=4, pictures=300)

TRAINED = [name for name, entry in CANDIDATES["image-classification"].items() if entry.fit is None]


def groups(optimizers):
    return [(optimizer, group) for optimizer in optimizers for group in optimizer.param_groups]


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "sgd"])
@pytest.mark.parametrize(
    "family", [name for name, one in CANDIDATES["image-classification"].items() if one.fit is None]
)
def test_every_trainable_parameter_is_in_exactly_one_group(family, optimizer):
    space = space_for("image-classification", SHAPE)
    model = create_model(space.propose(family, **space.ladder(family)[0]).specification)
    next(iter(model.backbone.parameters())).requires_grad_(False)
    optimizers = build_optimizers(Recipe(optimizer=optimizer), {"": model, "objective.": Classification()})
    trained = [id(parameter) for _, group in groups(optimizers) for parameter in group["params"]]
    assert len(trained) == len(set(trained))
    assert set(trained) == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
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


def rates(model, recipe):
    """Peak rate and weight decay of each trained parameter, by name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (group["peak"], group["weight_decay"])
        for _, group in groups(build_optimizers(recipe, {"": model}))
        for parameter in group["params"]
    }


def test_the_first_pattern_that_matches_decides_the_rate_and_the_decay():
    model = create_model("cct_2_3x2_32", classes=4, image_size=16)
    plain = Recipe(optimizer="adamw", learning_rate=0.01, weight_decay=0.1)
    grouped = replace(plain, groups=(Group("backbone.stages.0.blocks.0.*", 0.5, 0.3), ("backbone.*", 0.1)))
    before = rates(model, plain)
    assert before.keys() == rates(model, grouped).keys()
    for name, (rate, decay) in rates(model, grouped).items():
        first = name.startswith("backbone.stages.0.blocks.0.")
        factor = 0.5 if first else 0.1 if name.startswith("backbone.") else 1.0
        assert rate == pytest.approx(0.01 * factor), name
        assert decay == (0.3 if first and before[name][1] else before[name][1]), name
    assert {decay for _, decay in rates(model, grouped).values()} == {0.0, 0.1, 0.3}


@pytest.mark.parametrize("optimizer", ["muon", "sgd"])
def test_groups_scale_every_rate_of_every_optimiser(optimizer):
    model = create_model("cct_2_3x2_32", classes=4, image_size=16)
    plain = Recipe(optimizer=optimizer, learning_rate=0.02, vector_learning_rate=0.004)
    tenth = rates(model, replace(plain, groups=(Group("*", 0.1),)))
    assert tenth == {name: (pytest.approx(0.1 * rate), decay) for name, (rate, decay) in rates(model, plain).items()}


def test_layer_wise_decay_is_a_pattern_for_each_block():
    model = create_model("deit_tiny_patch16_224", dim=16, heads=2, depth=4, classes=3, image_size=32)
    layers = (Group("backbone.embed.*", 0.5**5), *(Group(f"*.blocks.{n}.*", 0.5 ** (4 - n)) for n in range(4)))
    recipe = Recipe(optimizer="adamw", learning_rate=1.0, groups=layers)
    of = rates(model, recipe)
    blocks = [{rate for name, (rate, _) in of.items() if f"blocks.{n}." in name} for n in range(4)]
    assert blocks == [{0.0625}, {0.125}, {0.25}, {0.5}]
    assert {rate for name, (rate, _) in of.items() if name.startswith("head")} == {1.0}
    assert {rate for name, (rate, _) in of.items() if ".embed." in name} == {0.03125}


def test_what_an_objective_owns_has_names_of_its_own():
    model = torch.nn.Linear(8, 8)
    objective = Classification()
    objective.head = torch.nn.Linear(8, 8)
    recipe = Recipe(optimizer="adamw", learning_rate=1.0, groups=(Group("objective.head.*", 0.5),))
    optimizers = build_optimizers(recipe, {"": model, "objective.": objective})
    of = {id(p): group["peak"] for _, group in groups(optimizers) for p in group["params"]}
    assert [of[id(p)] for p in (model.weight, model.bias, objective.head.weight, objective.head.bias)] == [
        1,
        1,
        0.5,
        0.5,
    ]


def test_a_group_that_decides_nothing_or_is_negative_is_refused():
    model = torch.nn.Linear(8, 8)
    with pytest.raises(UserError, match=r"'bacbone\.\*' of the recipe decides for no parameter.*weight, bias"):
        build_optimizers(Recipe(groups=(Group("bacbone.*", 0.1),)), {"": model})
    with pytest.raises(UserError, match="decides for no parameter"):
        build_optimizers(Recipe(groups=(Group("*", 0.1), Group("weight", 0.2))), {"": model})
    with pytest.raises(UserError, match=r"'weight' has a rate of -1 .* neither may be negative"):
        Recipe(groups=(Group("weight", -1),))


def test_a_recipe_survives_json():
    recipe = Recipe(betas=(0.5, 0.9), groups=(Group("*.bias", 2.0), Group("weight", 0.1, 0.0)))
    assert Recipe(**json.loads(json.dumps(asdict(recipe)))) == recipe


def test_betas_are_those_of_adamw():
    (optimizer,) = build_optimizers(Recipe(optimizer="adamw", betas=(0.5, 0.9)), {"": torch.nn.Linear(2, 2)})
    assert optimizer.defaults["betas"] == (0.5, 0.9)


def test_a_rate_that_halves_does_so_after_twice_as_many_steps_and_then_after_each_as_many():
    schedule = Schedule(warmup=0, halve_every=10)
    assert [schedule.factor(step) for step in (0, 9, 10, 19, 20, 29, 30, 45)] == [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.125]
    assert replace(schedule, total=100, decay_start=50).stretched(60, 120).halve_every == 10


def undecayed_by_name(model: torch.nn.Module) -> set[str]:
    """What the names and types of parameters once decided, before parts said it themselves."""
    vocabularies = {
        id(parameter) for part in model.modules() if isinstance(part, TokenEmbedding) for parameter in part.parameters()
    }
    return {
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim < 2
        or name.endswith(("table", "tables", "tokens", "biases", "queries", "levels"))
        or id(parameter) in vocabularies
    }


VARIANTS = {MODELS[name].family: name for name in reversed(list(MODELS))}


@pytest.mark.parametrize("variant", sorted(VARIANTS.values()))
def test_what_parts_keep_from_weight_decay_is_what_their_names_kept_from_it(variant):
    with torch.device("meta"):
        model = create_model(variant)
    undecayed = {name for name, _, may_decay in _parameters({"": model}) if not may_decay}
    assert undecayed == undecayed_by_name(model)
    assert len(undecayed) < len(list(model.parameters()))


@pytest.mark.parametrize("case", cases(), ids=str)
def test_a_part_keeps_from_weight_decay_what_its_names_kept_from_it(case):
    module = build(case, case.grids[0])
    undecayed = {name for name, _, may_decay in _parameters({"": module}) if not may_decay}
    assert undecayed == undecayed_by_name(module)

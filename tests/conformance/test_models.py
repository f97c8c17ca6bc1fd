"""Every family of models, at its smallest variant narrowed to a toy, keeps what all models promise."""

from __future__ import annotations

import copy
import inspect
import json
from pathlib import Path

import pytest
import torch

from formwright.errors import UserError
from formwright.models import MODELS, Model, empty_copy, from_pretrained, load_checkpoint
from formwright.nn import ChainSpec, Context, Part
from formwright.nn.edits import apply_edits, keep_entries
from formwright.nn.specification import EditSpec
from tests.conformance.instances import CLASSES, pictures, smallest_variants, tiny_model

VARIANTS = smallest_variants()
each_model = pytest.mark.parametrize(("family", "variant"), VARIANTS.items(), ids=VARIANTS.keys())


def dropping(variant: str, rate: float) -> dict[str, float]:
    """Stochastic depth, which every family takes that has residual branches."""
    return {"drop_path": rate} if "drop_path" in inspect.signature(MODELS[variant].build).parameters else {}


def sides(model: Model) -> tuple[int, int]:
    return model.specification.input.size


@each_model
def test_scores_and_features(family: str, variant: str) -> None:
    model = tiny_model(family, variant)
    for batch in (2, 1):
        images = pictures(model, batch)
        scores = model(images)
        assert scores.shape == (batch, CLASSES)
        assert torch.isfinite(scores).all()
        for info, grid in zip(model.feature_info, model.features(images), strict=True):
            assert grid.shape == (batch, *(round(side / info.stride) for side in sides(model)), info.dim)
    last = model.feature_info[-1].name
    torch.testing.assert_close(model.features(images, at=[last])[0], model.features(images, at=[-1])[0])


@each_model
def test_no_images_give_no_scores(family: str, variant: str) -> None:
    model = tiny_model(family, variant)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    for training in (True, False):
        scores = model.train(training)(pictures(model, 0))
        assert scores.shape == (0, CLASSES)
        scores.sum().backward()
    assert not any(p.grad.any() for p in model.parameters() if p.grad is not None)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())


@each_model
def test_images_that_are_no_squares(family: str, variant: str) -> None:
    height, width = sides(tiny_model(family, variant))
    model = tiny_model(family, variant, image_size=(height, 2 * width))
    assert model(pictures(model)).shape == (2, CLASSES)


@each_model
def test_the_parts_see_the_grid_that_was_foreseen(family: str, variant: str) -> None:
    model = tiny_model(family, variant)
    grids = model.backbone.grids(sides(model))
    assert [tuple(grid.shape[1:3]) for grid in model.features(pictures(model))] == grids
    assert model.backbone.grid == grids[-1]


@each_model
def test_number_types(family: str, variant: str) -> None:
    model = tiny_model(family, variant)
    images = pictures(model)
    with torch.inference_mode():
        expected = model(images)
        for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.25)):
            scores = copy.deepcopy(model).to(dtype)(images.to(dtype))
            assert scores.dtype is dtype
            assert (scores.double() - expected).abs().mean() <= tolerance * expected.std()


@each_model
def test_gradients_reach_every_parameter(family: str, variant: str) -> None:
    model = tiny_model(family, variant)
    scores = model(pictures(model))
    (scores * torch.randn(scores.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    unreached = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not unreached
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@each_model
def test_a_training_step_is_finite(family: str, variant: str) -> None:
    """From the initial weights, in float32, with stochastic depth on: what a user's first step does."""
    model = tiny_model(family, variant, **dropping(variant, 0.2)).float().train()
    torch.manual_seed(0)
    fresh = Model(model.specification).train()
    assert 0 < fresh(pictures(fresh).float()).std() < 10
    loss = torch.nn.functional.cross_entropy(model(pictures(model, 4).float()), torch.arange(4))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@each_model
def test_a_sample_does_not_depend_on_its_neighbours(family: str, variant: str) -> None:
    model = tiny_model(family, variant)
    images = pictures(model, 3)
    with torch.inference_mode():
        whole = model(images)
        for index in range(3):
            torch.testing.assert_close(model(images[index : index + 1]), whole[index : index + 1], rtol=1e-9, atol=1e-9)


@each_model
def test_the_same_seed_gives_the_same_model(family: str, variant: str) -> None:
    specification = tiny_model(family, variant).specification
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(Model(specification).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@each_model
def test_specification_round_trip(family: str, variant: str) -> None:
    specification = tiny_model(family, variant).specification
    assert ChainSpec.from_dict(json.loads(json.dumps(specification.to_dict()))) == specification


@each_model
def test_model_without_memory_has_the_same_shapes(family: str, variant: str) -> None:
    model = tiny_model(family, variant)
    empty = empty_copy(model.specification)
    assert {n: t.shape for n, t in empty.state_dict().items()} == {n: t.shape for n, t in model.state_dict().items()}
    assert empty(pictures(model).float().to("meta")).shape == (2, CLASSES)


@each_model
def test_saved_and_loaded_in_one_line_each(family: str, variant: str, tmp_path: Path) -> None:
    model = tiny_model(family, variant).float()
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    again = from_pretrained(tmp_path)
    images = pictures(model).float()
    assert torch.equal(again(images), model(images))
    other = tiny_model(family, variant, seed=1).float()
    assert load_checkpoint(other, tmp_path) == "formwright"
    assert torch.equal(other(images), model(images))


@each_model
def test_cut_everywhere_saved_and_loaded(family: str, variant: str, tmp_path: Path) -> None:
    model = tiny_model(family, variant).float()
    edits = []
    for path, part in model.named_modules():
        for axis, attribute in part.resizable.items() if isinstance(part, Part) else ():
            size = getattr(part, attribute)
            if size > 1:
                edits.append(keep_entries(model, path, axis, range(1, size)))
    before = model.parameter_count()
    model.record_edits(edits)
    images = pictures(model).float()
    model.save_pretrained(tmp_path)
    again = from_pretrained(tmp_path)
    assert again.specification.edits == tuple(edits)
    assert again.parameter_count() == before
    assert torch.equal(again(images), model(images))
    assert edits, "a model without anything to cut cannot be pruned"


@each_model
def test_folded_saved_and_loaded(family: str, variant: str, tmp_path: Path) -> None:
    model = tiny_model(family, variant)
    images = pictures(model)
    expected = model(images)
    fold = EditSpec("fold")
    apply_edits(model, [fold])
    model.record_edits([fold])
    torch.testing.assert_close(model(images), expected, rtol=1e-8, atol=1e-8)
    model.float().save_pretrained(tmp_path)
    torch.testing.assert_close(from_pretrained(tmp_path)(images.float()), model(images.float()))


@each_model
def test_weights_of_another_family_are_refused(family: str, variant: str) -> None:
    model = tiny_model(family, variant)
    other = next(iter(set(VARIANTS) - {family}))
    with pytest.raises(UserError, match="missing"):
        load_checkpoint(model, tiny_model(other, VARIANTS[other]).state_dict())


@each_model
def test_what_the_model_cannot_take_is_said(family: str, variant: str) -> None:
    model = tiny_model(family, variant)
    channels = model.specification.input.channels
    height, width = sides(model)
    with pytest.raises(UserError, match=rf"\(batch, {channels}, height, width\)"):
        model(torch.zeros(2, channels + 1, height, width).double())
    smallest = torch.zeros(2, channels, 1, 1).double()
    tables = [part for part in model.modules() if isinstance(part, Part) and not part.promises.any_grid]
    if tables or min(min(grid) for grid in model.backbone.grids((1, 1))) < 1:
        with pytest.raises(UserError, match=r"at least|position table|was built for"):
            model(smallest)
    else:  # padded convolutions leave a token of a single pixel
        assert torch.isfinite(model(smallest)).all()
    with pytest.raises(UserError, match="memory"):
        model.backbone(pictures(model), Context(memory=torch.zeros(2, 3, 4)))


@each_model
def test_options_that_all_families_share(family: str, variant: str) -> None:
    model = tiny_model(family, variant, channels=1, classes=2, **dropping(variant, 0.1))
    assert model(pictures(model)).shape == (2, 2)
    assert model.specification.input.channels == 1
    rates = [b.drop_path for s in model.specification.stages for block in s.blocks for b in block.branches]
    assert not rates or rates[0] == 0
    assert not rates or max(rates) == pytest.approx(0.1)
    assert bool(rates) == bool(dropping(variant, 0.1))

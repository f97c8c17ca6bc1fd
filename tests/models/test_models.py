from __future__ import annotations

import dataclasses

import pytest

import formwright
from formwright.errors import UserError
from formwright.models import MODELS, create_model, list_models, model_specification


def test_models_are_listed_by_pattern_and_task() -> None:
    names = list_models()
    assert names == sorted(names)
    assert len(names) == len(set(names))
    assert list_models("poolformer_s?6") == ["poolformer_s36"]
    assert set(list_models(task="image-classification")) <= set(names)
    assert list_models(task="weaving") == []
    assert list_models("weaver_*") == []


def test_a_variant_is_built_with_changes() -> None:
    model = create_model("poolformer_s12", classes=7, channels=1, image_size=(64, 96), dims=(4, 8, 12, 16))
    spec = model.specification
    assert (spec.name, spec.classes, spec.input.channels, spec.input.size) == ("poolformer_s12", 7, 1, (64, 96))
    assert [stage.dim for stage in spec.stages] == [4, 8, 12, 16]
    assert [len(stage.blocks) for stage in spec.stages] == [2, 2, 6, 2]


def test_a_specification_or_its_dictionary_is_built_too() -> None:
    spec = model_specification("poolformer_s12", dims=(4, 4, 4, 4))
    assert create_model(spec).specification == spec
    assert create_model(spec.to_dict()).specification == spec
    with pytest.raises(UserError, match=r"A specification is complete"):
        create_model(spec, classes=10)


def test_nearest_names_are_suggested() -> None:
    with pytest.raises(UserError, match=r"no model named 'poolformer_s13'; did you mean .*poolformer_s12"):
        formwright.create_model("poolformer_s13")


def test_unknown_options_are_named_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"Model 'poolformer_s12' has no option 'width'; its options are: depths, dims"):
        create_model("poolformer_s12", width=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "positive height"),
        ({"image_size": (32, 32, 32)}, "positive height"),
        ({"channels": 0}, "positive height, width and channels"),
        ({"dims": (4, 8)}, "One entry a stage"),
        ({"mixers": ("waving",) * 4}, "no part named 'waving'"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        create_model("poolformer_s12", **options)


def test_every_variant_belongs_to_a_family_that_says_so() -> None:
    for name in MODELS:
        spec = model_specification(name)
        assert (spec.name, spec.family, spec.task) == (name, MODELS[name].family, MODELS[name].task)
        assert dataclasses.is_dataclass(spec)

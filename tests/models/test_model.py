from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch

from formwright.errors import UserError
from formwright.models import Model, create_model, from_pretrained
from formwright.models.network import CONFIG_FILE, WEIGHTS_FILE
from formwright.nn.edits import keep_entries


def poolformer(**changes: Any) -> Model:
    options = {"classes": 5, "image_size": 64, "dims": (4, 8, 12, 16), "depths": (1, 1, 1, 1), **changes}
    return create_model("poolformer_s12", **options)


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return poolformer().eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_feature_maps_are_those_that_are_described(model: Model, images: torch.Tensor) -> None:
    described = [(info.name, info.stride, info.dim) for info in model.feature_info]
    assert described == [("stages.0", 4, 4), ("stages.1", 8, 8), ("stages.2", 16, 12), ("stages.3", 32, 16)]
    maps = model.features(images)
    assert [tuple(grid.shape) for grid in maps] == [(2, 16, 16, 4), (2, 8, 8, 8), (2, 4, 4, 12), (2, 2, 2, 16)]
    last, second = model.features(images, at=["stages.3", 1])
    assert torch.equal(last, maps[3])
    assert torch.equal(second, maps[1])
    torch.testing.assert_close(model.head(last), model(images))


@pytest.mark.parametrize("at", [4, -5, "stages.9", "head"])
def test_feature_maps_that_are_not_there_are_named(model: Model, images: torch.Tensor, at: int | str) -> None:
    with pytest.raises(UserError, match=r"no feature map .*; this model has stages\.0, stages\.1"):
        model.features(images, at=[at])


def test_images_that_the_model_cannot_take_are_refused(model: Model) -> None:
    with pytest.raises(UserError, match=r"Expected images of shape \(batch, 3, height, width\), got \(2, 1, 64, 64\)"):
        model(torch.zeros(2, 1, 64, 64))
    with pytest.raises(UserError, match=r"got \(3, 64, 64\)"):
        model(torch.zeros(3, 64, 64))
    with pytest.raises(UserError, match=r"An input of 2 x 64 is too small for this model: .* sides of at least 3"):
        model.features(torch.zeros(1, 3, 2, 64))


def test_images_of_another_size_than_the_table_are_refused() -> None:
    vit = create_model("vit_tiny_patch16_224", dim=16, depth=1, heads=1, image_size=32)
    with pytest.raises(UserError, match=r"made for 4 tokens \(2 x 2\) .*image_size="):
        vit(torch.zeros(1, 3, 64, 64))


def test_parameters_are_counted_with_and_without_frozen_ones(model: Model) -> None:
    count = model.parameter_count()
    assert count == sum(p.numel() for p in model.parameters())
    model.head.linear.bias.requires_grad_(False)
    assert model.parameter_count() == count
    assert model.parameter_count(trainable=True) == count - 5


def test_what_is_saved_is_the_present_specification(model: Model, images: torch.Tensor, tmp_path: Path) -> None:
    edit = keep_entries(model, "backbone.stages.0.blocks.0.branches.1.part", "hidden", [1, 5, 6])
    model.record_edits([edit])
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / CONFIG_FILE).read_text())
    assert config["specification"]["edits"][0]["options"] == {"axis": "hidden", "kept": 3}
    again = from_pretrained(tmp_path)
    assert not again.training
    assert again.specification == model.specification
    assert torch.equal(again(images), model(images))
    again.save_pretrained(tmp_path)
    assert torch.equal(from_pretrained(tmp_path)(images), model(images))


def test_the_hub_class_loads_a_folder_too(model: Model, images: torch.Tensor, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    assert torch.equal(Model.from_pretrained(tmp_path)(images), model(images))


def test_nothing_is_downloaded_without_being_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def download(*args: object, **kwargs: object) -> None:
        raise AssertionError("a download was started")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", download)
    with pytest.raises(UserError, match=r"There is no folder .*google/vit"):
        from_pretrained("google/vit")
    with pytest.raises(UserError, match=r"There is no file .*config\.json"):
        from_pretrained(tmp_path)


def test_pickled_weights_are_not_read_instead(model: Model, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    (tmp_path / WEIGHTS_FILE).unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"There is no file .*model\.safetensors"):
        from_pretrained(tmp_path)


def test_a_truncated_file_is_not_taken_for_a_whole_one(model: Model, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    whole = (tmp_path / WEIGHTS_FILE).read_bytes()
    for length in (0, 6, 200, len(whole) - 1):
        (tmp_path / WEIGHTS_FILE).write_bytes(whole[:length])
        with pytest.raises(UserError, match="is not a whole safetensors file"):
            from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("[]", r"config\.json does not describe a model"),
        ('{"model_type": "bert"}', "There is no checkpoint file in"),
        ('{"specification": ', r"config\.json cannot be read"),
    ],
)
def test_a_folder_of_something_else_is_refused(tmp_path: Path, config: str, words: str) -> None:
    (tmp_path / CONFIG_FILE).write_text(config)
    with pytest.raises(UserError, match=words):
        from_pretrained(tmp_path)


def test_weights_of_another_specification_are_refused(model: Model, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    poolformer(classes=9).save_pretrained(tmp_path / "other")
    (tmp_path / "other" / WEIGHTS_FILE).replace(tmp_path / WEIGHTS_FILE)
    with pytest.raises(UserError, match=r"of another shape: .*head\.linear\.weight \(9, 16\) instead of \(5, 16\)"):
        from_pretrained(tmp_path)


def test_a_crash_while_saving_keeps_the_model_that_was_there(
    model: Model, images: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.save_pretrained(tmp_path)
    expected = model(images)

    def crash(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("safetensors.torch.save_file", crash)
    with torch.no_grad():
        model.head.linear.bias.add_(1)
    with pytest.raises(KeyboardInterrupt):
        model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {CONFIG_FILE, WEIGHTS_FILE}
    assert torch.equal(from_pretrained(tmp_path)(images), expected)


@pytest.mark.parametrize(
    "name", ["poolformer_s12", "deit_tiny_distilled_patch16_224", "caformer_s18", "efficientvit_m0"]
)
def test_without_classes_the_features_come_back(name, tmp_path):
    size = 64 if name != "efficientvit_m0" else 224
    model = create_model(name, classes=0, image_size=size).eval()
    whole = create_model(name, classes=4, image_size=size)
    missing = set(whole.state_dict()) - set(model.state_dict())
    assert {name.rpartition(".")[0] for name in missing} <= {"head.linear", "head.distilled"}
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        y = model(x)
        model.save_pretrained(tmp_path)
        torch.testing.assert_close(from_pretrained(tmp_path).eval()(x), y)
    assert y.shape == (2, whole.head.linear.in_features)
    with pytest.raises(UserError, match="-1 classes"):
        create_model(name, classes=-1, image_size=size)


def test_features_of_blocks():
    model = create_model("vit_tiny_patch16_224", classes=0, dim=16, depth=3, heads=2, image_size=32).eval()
    assert len(model.block_names) == 3
    x = torch.randn(2, 3, 32, 32)
    second, last = model.features(x, at=[model.block_names[1], model.block_names[-1]])
    (stage,) = model.features(x)
    assert second.shape == (2, 2, 2, 16)
    torch.testing.assert_close(last, stage)
    with pytest.raises(UserError, match="and those of its blocks, such as backbone"):
        model.features(x, at=["backbone.stages.9"])


def test_names_of_other_libraries_are_translated():
    with pytest.raises(UserError, match="no option 'num_classes'; did you mean classes"):
        create_model("poolformer_s12", num_classes=3)

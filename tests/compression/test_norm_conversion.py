"""Models with RMS norms in place of layer norms compute the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from formwright.compression import extract, fold, replace_layer_norms
from formwright.errors import UserError
from formwright.models import Model, create_model, from_pretrained
from formwright.models.nesting import nested_choice
from formwright.nn.norms import CRMSNorm, LayerNorm, RMSNorm
from tests.conformance.instances import inputs, randomise

MODELS: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": {"dim": 24, "depth": 2, "heads": 2, "image_size": 32, "classes": 5},
    "deit_tiny_distilled_patch16_224": {"dim": 24, "depth": 2, "heads": 2, "image_size": 32, "classes": 5},
    "gpt2": {"dim": 24, "depth": 2, "heads": 2, "vocabulary": 40, "length": 12},
}
each_norm = pytest.mark.parametrize("by", ["rms_norm", "crms_norm"])


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Model:
    model = create_model(request.param, **MODELS[request.param]).double().eval()
    randomise(model)
    return model


def norms(model: nn.Module) -> set[type[nn.Module]]:
    return {type(module) for module in model.modules() if isinstance(module, LayerNorm | RMSNorm | CRMSNorm)}


@each_norm
def test_it_computes_the_same(model: Model, by: str) -> None:
    x = inputs(model)
    converted = replace_layer_norms(model, by)
    torch.testing.assert_close(converted(x), model(x), rtol=1e-9, atol=1e-9)
    assert norms(converted) == {RMSNorm if by == "rms_norm" else CRMSNorm}
    assert norms(model) == {LayerNorm}
    single = converted.float()
    torch.testing.assert_close(
        single(x.float() if x.is_floating_point() else x), model(x).float(), rtol=1e-4, atol=1e-4
    )


@each_norm
def test_it_saves_and_reloads_and_can_be_compressed_further(model: Model, by: str, tmp_path: Path) -> None:
    x = inputs(model)
    converted = replace_layer_norms(extract(model, nested_choice(model, 0.5)), by)
    converted.float().save_pretrained(tmp_path)
    again = from_pretrained(tmp_path).double()
    assert torch.equal(again(x), converted.double()(x))
    torch.testing.assert_close(again(x), extract(model, nested_choice(model, 0.5))(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        fold(extract(again, nested_choice(again, 0.5)))(x),
        extract(model, nested_choice(model, 0.25))(x),
        rtol=1e-5,
        atol=1e-5,
    )


def test_a_compressed_stream_has_a_channel_less() -> None:
    model = create_model("vit_small_patch16_224")
    readers, writers = 12 * (3 * 384 + 4 * 384) + 1000, 12 * (384 + 1 + 4 * 384 + 1) + (3 * 16**2 + 1) + 197 + 1
    affine = 25 * 2 * 384
    rms, crms = (replace_layer_norms(model, by) for by in ("rms_norm", "crms_norm"))
    # ViT's queries, keys and values have a bias, so the folded norms need no new one.
    assert rms.parameter_count() == model.parameter_count() - affine
    assert crms.parameter_count() == rms.parameter_count() - readers - writers
    assert [info.dim for info in crms.feature_info] == [383]


def test_layer_scale_is_taken_into_the_branch() -> None:
    model = create_model("vit_tiny_patch16_224", **MODELS["vit_tiny_patch16_224"]).double().eval()
    branch = model.backbone.stages[0].blocks[0].branches[0]
    branch.layer_scale = nn.Parameter(torch.rand(24, dtype=torch.float64))
    x = inputs(model)
    converted = replace_layer_norms(model)
    torch.testing.assert_close(converted(x), model(x), rtol=1e-9, atol=1e-9)


@each_norm
def test_a_stream_of_tokens_goes_on(by: str) -> None:
    model = create_model("gpt2", **MODELS["gpt2"]).double().eval()
    randomise(model)
    converted = replace_layer_norms(model, by)
    ids, state, scores = inputs(model), converted.init_state(2, 12), []
    for token in ids.split(5, dim=1):
        y, state = converted.stream(token, state)
        scores.append(y)
    torch.testing.assert_close(torch.cat(scores, 1), model(ids), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("cct_2_3x2_32", {}, "norms the stream after its sum"),
        ("poolformer_s12", {}, "layers between its stages"),
        (
            "unet_1d_small",
            {"dims": (8, 12), "depths": (1, 1), "image_size": 16},
            "a UNet cannot be replaced: its",
        ),
        ("lra_retrieval", {"dim": 16, "depth": 1, "heads": 2, "length": 8}, "its head PairClassifier is not linear"),
        ("llama3_2_1b", {"dim": 16, "depth": 1, "heads": 2, "kv_heads": 2, "hidden": 8, "vocabulary": 9}, "RMSNorm"),
    ],
)
def test_other_models_are_refused(name: str, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        replace_layer_norms(create_model(name, **options))


def test_an_unknown_norm_is_refused() -> None:
    with pytest.raises(UserError, match="rms_norm"):
        replace_layer_norms(create_model("vit_tiny_patch16_224", **MODELS["vit_tiny_patch16_224"]), "rmsnorm")

"""t2: what the authors' code gives, and what follows from its head being a mean over time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from formwright.catalog.reference import FLOAT32_TOLERANCE, images, reference_figures, reference_state, sample
from formwright.data.light_curves import append_features
from formwright.errors import UserError
from formwright.inference.explanation import attention_maps, class_activation
from formwright.models import Model, create_model, load_checkpoint, model_specification
from formwright.models.series.t2 import t2

FIGURES = reference_figures("t2")["modules"]


@pytest.mark.parametrize("name", FIGURES)
def test_the_authors_code_gives_the_same_with_the_same_weights(name: str) -> None:
    figures = FIGURES[name]
    model = create_model(name.partition(":")[0], **figures["changes"]).eval()
    assert model.parameter_count() == figures["parameters"]
    assert load_checkpoint(model, reference_state(figures["layout"], rounded=True)) == "tallamjr/astronet"
    (output,) = figures["outputs"]
    series = images(output["input_shape"], output["input_seed"])
    if "features_shape" in output:
        series = append_features(series, images(output["features_shape"], output["features_seed"]))
    with torch.inference_mode():
        answer = model(torch.from_numpy(series).float()).softmax(-1)
    assert list(answer.shape) == output["output_shape"]
    difference = np.abs(np.array(sample(answer.numpy())) - output["values"]).max()
    assert difference <= FLOAT32_TOLERANCE * output["std"]


def tiny(seed: int = 0) -> Model:
    torch.manual_seed(seed)
    model = create_model("t2_plasticc", bands=3, length=12, dim=16, heads=4, classes=5).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


def test_a_slow_computation_gives_the_same() -> None:
    """Everything spelled out in NumPy, step by step and head by head."""
    model = tiny()
    state = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    x = np.random.default_rng(0).standard_normal((12, 3))

    def linear(name: str, values: np.ndarray) -> np.ndarray:
        return values @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(name: str, values: np.ndarray) -> np.ndarray:
        centred = values - values.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    place = np.arange(12)[:, None] / 10000 ** (2 * np.arange(8) / 16)
    positions = np.stack([np.sin(place), np.cos(place)], axis=-1).reshape(12, 16)
    h = np.maximum(linear("backbone.embed.linear", x), 0) + positions
    block = "backbone.stages.0.blocks.0.branches"
    q, k, v = np.split(linear(f"{block}.0.part.qkv", h), 3, axis=-1)
    mixed = np.zeros((12, 16))
    for head in range(4):
        own = slice(4 * head, 4 * head + 4)
        scores = np.exp(q[:, own] @ k[:, own].T / 2.0)
        mixed[:, own] = scores / scores.sum(-1, keepdims=True) @ v[:, own]
    h = norm(f"{block}.0.post_norm", h + linear(f"{block}.0.part.proj", mixed))
    hidden = np.maximum(linear(f"{block}.1.part.parts.0.fc1", h), 0)
    h = norm(f"{block}.1.post_norm", h + linear(f"{block}.1.part.parts.0.fc2", hidden))
    expected = linear("head.linear", h.mean(0))
    answer = model.double()(torch.from_numpy(x)[None])[0].detach().numpy()
    np.testing.assert_allclose(answer, expected, rtol=1e-6, atol=1e-6)  # the table of positions is float32


def test_shuffled_steps_matter_by_their_positions_alone() -> None:
    model = tiny().double()
    x = torch.randn(2, 12, 3, dtype=torch.float64)
    order = torch.randperm(12)
    assert not torch.allclose(model(x), model(x[:, order]))
    model.backbone.embed.positions.zero_()
    torch.testing.assert_close(model(x), model(x[:, order]))


def test_class_activations_are_what_the_scores_are_the_mean_of() -> None:
    model = tiny().double()
    x = torch.randn(3, 12, 3, dtype=torch.float64)
    activation = class_activation(model, x)
    assert activation.shape == (3, 5, 12)
    torch.testing.assert_close(activation.mean(-1), model(x).detach(), rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_attention_maps_are_shares_that_give_the_output_of_the_layer() -> None:
    model = tiny().double()
    x = torch.randn(2, 12, 3, dtype=torch.float64)
    (weights,) = attention_maps(model, x)
    assert weights.shape == (2, 4, 12, 12)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 12, dtype=torch.float64))
    layer = model.backbone.stages[0].blocks[0].branches[0].part
    tokens = model.backbone.embed(x)[0]
    values = layer.qkv(tokens)[..., 32:].view(2, 12, 4, 4).transpose(1, 2)
    torch.testing.assert_close(layer.proj((weights @ values).transpose(1, 2).flatten(2)), layer(tokens))


def test_heads_have_to_divide_the_width() -> None:
    with pytest.raises(UserError, match="32 channels cannot be split over 5 heads"):
        Model(t2(heads=5))


def test_another_length_or_other_bands_are_refused() -> None:
    model = tiny()
    with pytest.raises(UserError, match=r"\(batch, 12, variates\), got \(1, 11, 3\)"):
        model(torch.zeros(1, 11, 3))
    with pytest.raises(UserError, match=r"\(batch, 12, 3\), got \(1, 12, 4\)"):
        model(torch.zeros(1, 12, 4))


def test_models_without_such_a_head_explain_nothing() -> None:
    model = Model(model_specification("vit_tiny_patch16_224", classes=3))
    with pytest.raises(UserError, match="no mean over places"):
        class_activation(model, torch.zeros(1, 3, 224, 224))


def test_features_as_further_steps_add_no_parameters_and_have_a_say_of_their_own() -> None:
    model = create_model("t2_plasticc", features=2, features_along="steps").eval()
    assert model.parameter_count() == create_model("t2_plasticc").parameter_count()
    series = append_features(np.ones((2, 100, 6)), np.ones((2, 2)), along="steps")
    x = torch.from_numpy(series).float()
    with torch.inference_mode():
        assert class_activation(model, x).shape == (2, 14, 102)
        assert model(x).shape == (2, 14)
    with pytest.raises(UserError, match="channels or steps"):
        t2(features_along="rows")  # type: ignore[arg-type]

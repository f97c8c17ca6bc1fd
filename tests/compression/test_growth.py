"""Models grow by parameter tokens, without forgetting what they compute."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from formwright.compression import grow
from formwright.errors import UserError
from formwright.models import Model, create_model, from_pretrained
from formwright.nn.channel_mixers.pattention import Pattention
from tests.conformance.instances import inputs, randomise


def tokenformer(normalization: str = "l2_norm_gelu", **options: int) -> Model:
    sizes = {"dim": 16, "depth": 2, "heads": 2, "tokens": 12, "vocabulary": 20, "length": 10, **options}
    model = create_model("tokenformer_150m", normalization=normalization, **sizes).double().eval()
    randomise(model)
    return model


def layers(model: Model) -> list[Pattention]:
    return [module for module in model.modules() if isinstance(module, Pattention)]


@pytest.mark.parametrize("normalization", ["l2_norm_gelu", "gelu_l2_norm"])
@pytest.mark.parametrize("factor", [1.25, 2.0])
def test_an_exact_growth_changes_no_score_and_every_new_token_can_learn(normalization: str, factor: float) -> None:
    model = tokenformer(normalization)
    ids = inputs(model)
    grown = grow(model, factor)
    assert [layer.tokens for layer in layers(grown)] == [round(factor * layer.tokens) for layer in layers(model)]
    torch.testing.assert_close(grown(ids), model(ids), rtol=1e-9, atol=1e-9)
    grown.train()(ids).square().sum().backward()
    for old, new in zip(layers(model), layers(grown), strict=True):
        assert new.keys.grad is not None
        assert (new.keys.grad[old.tokens :] != 0).any(1).all()
        assert new.keys.shape == new.values.shape


def test_a_grown_model_saves_reloads_and_grows_again(tmp_path: Path) -> None:
    model = tokenformer()
    ids = inputs(model)
    grown = grow(grow(model.float()))
    grown.save_pretrained(tmp_path)
    again = from_pretrained(tmp_path)
    assert torch.equal(again(ids), grown(ids))
    assert [layer.tokens for layer in layers(again)] == [4 * layer.tokens for layer in layers(model)]
    torch.testing.assert_close(again(ids), model(ids), rtol=1e-4, atol=1e-4)


def test_the_papers_growth_scales_every_layer_with_the_root_of_its_tokens() -> None:
    model = tokenformer("gelu_l2_norm")
    layer, grown = layers(model)[0], layers(grow(model, form="zero_keys"))[0]
    x = torch.randn(3, 16, dtype=torch.float64)
    torch.testing.assert_close(grown(x), math.sqrt(2) * layer(x), rtol=1e-6, atol=1e-6)
    assert not grown.keys[layer.tokens :].any()


def test_the_released_codes_growth_starts_new_keys_at_random() -> None:
    model = tokenformer()
    grown = layers(grow(model, form="random_keys"))[0]
    assert grown.keys[12:].all()
    assert torch.equal(grown.keys[:12], layers(model)[0].keys)
    assert grown.scale == pytest.approx(math.sqrt(24))


def test_a_softmax_grows_only_by_its_name() -> None:
    model = tokenformer("softmax")
    with pytest.raises(UserError, match="zero_keys"):
        grow(model)
    assert layers(grow(model, form="zero_keys"))[0].tokens == 24


def test_what_cannot_grow_is_refused() -> None:
    with pytest.raises(UserError, match=r"more than 1, got 0\.5"):
        grow(tokenformer(), 0.5)
    with pytest.raises(UserError, match="no layers of parameter tokens"):
        grow(create_model("vit_tiny_patch16_224", dim=16, depth=1, heads=2, image_size=32))

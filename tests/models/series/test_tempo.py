"""TEMPO: the authors' outputs, what is trained of it, and where its language model comes from."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2Model

from formwright.batch import Batch
from formwright.errors import UserError
from formwright.models import create_model, empty_copy, from_pretrained
from formwright.models.series.tempo import SENTENCES, Tempo, TempoSpec
from formwright.nn.layers import LoRA
from formwright.objectives.series import DecomposedForecast

IDS = tuple((1, 2, 3, 4, 5, 6, 7, 8, last) for last in (9, 10, 11))


def tiny(**changes: Any) -> Tempo:
    torch.manual_seed(0)
    options: dict[str, Any] = {
        "length": 48, "horizon": 12, "dim": 16, "depth": 1, "heads": 2, "vocabulary": 20, "positions": 128,
        "sentences": IDS, "kernel": 9, "rank": 2,
    }  # fmt: skip
    return Tempo(TempoSpec(**{**options, **changes})).double().eval()


def test_the_published_size_has_the_published_counts() -> None:
    model = empty_copy(TempoSpec())
    language = {name: p.numel() for name, p in model.language.named_parameters()}
    assert sum(count for name, count in language.items() if "lora" not in name) == 81_912_576
    assert sum(count for name, count in language.items() if "lora" in name) == 294_912
    assert sum(p.numel() for p in model.heads.parameters()) == 3 * (768 * 42 * 96 + 96)
    assert sum(p.numel() for p in model.trend.parameters()) == 113_232
    assert sum(p.numel() for p in model.season.parameters()) == 904_848
    assert (TempoSpec().patches, TempoSpec(length=512).patches) == (42, 64)
    assert SENTENCES[0][:2] == SENTENCES[2][:2] == (47, 17407)


def test_the_parts_add_up_to_the_window() -> None:
    model = tiny()
    rows = torch.randn(3, 48).double()
    torch.testing.assert_close(sum(model.decompose(rows)), rows)
    assert len(tiny(decompose=False).decompose(rows)) == 1


@pytest.mark.parametrize("options", [{}, {"pool": 5}, {"decompose": False}, {"forecast_from_prompts": True}])
def test_variates_are_forecast_one_by_one_and_in_any_unit(options: dict[str, Any]) -> None:
    model = tiny(**options)
    series = 10 * torch.randn(2, 48, 3).double()
    whole = model(series)
    assert whole.shape == (2, 12, 3)
    torch.testing.assert_close(model(series[..., 1:2]), whole[..., 1:2])
    torch.testing.assert_close(model(7 + 3 * series), 7 + 3 * whole, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("tuned", "norms"), [("norms", True), ("adapters", False)])
def test_what_is_trained_of_the_language_model(tuned: str, norms: bool) -> None:
    model = tiny(tuned=tuned)
    model(torch.randn(2, 48, 1).double()).square().sum().backward()
    learned = {name for name, p in model.language.named_parameters() if p.grad is not None}
    assert any("lora_a" in name for name in learned)
    assert any("lora_b" in name for name in learned)
    assert any("norm" in name for name in learned) == norms
    assert any(name.endswith("entry.0.table") for name in learned) == norms
    assert not any(name.endswith(("qkv.weight", "fc1.weight", "proj.weight", "embed.weight")) for name in learned)
    others = {name for name, p in model.named_parameters() if not name.startswith("language.") and p.grad is None}
    assert others == set()


def test_a_gpt2_of_transformers_is_taken_with_its_first_blocks(tmp_path: Path) -> None:
    torch.manual_seed(1)
    theirs = GPT2Model(GPT2Config(vocab_size=20, n_positions=128, n_embd=16, n_layer=3, n_head=2)).eval()
    theirs.save_pretrained(tmp_path)
    model = Tempo(dataclasses.replace(tiny().specification, depth=3)).eval()
    assert model.specification.language_weights.startswith("random")
    model.load_language_model(tmp_path)
    assert model.specification.language_weights == str(tmp_path)
    ids = torch.randint(20, (2, 9))
    tokens, context = model.language.backbone.stages[0](*model.language.backbone.embed(ids))
    ours = model.language.head.norm(tokens, context)
    torch.testing.assert_close(ours, theirs(ids).last_hidden_state, rtol=1e-4, atol=1e-5)
    shorter = Tempo(tiny().specification)
    shorter.load_language_model(theirs.state_dict())
    assert shorter.specification.language_weights == "a state"
    assert torch.equal(shorter.language.backbone.embed.weight, theirs.wte.weight)
    with pytest.raises(UserError, match="another shape"):
        Tempo(dataclasses.replace(tiny().specification, dim=8)).load_language_model(theirs.state_dict())


def test_prompts_of_the_pool_are_those_most_alike() -> None:
    pool = tiny(pool=6, chosen=2, prompt_length=1).pool
    tokens = torch.randn(4, 6, 16).double()
    query = tokens.transpose(1, 2) @ pool.summary.weight[0] + pool.summary.bias
    similarity = torch.cosine_similarity(query[:, None], pool.keys[None], dim=-1)
    expected = similarity.argsort(dim=1, descending=True)[:, :2]
    torch.testing.assert_close(pool(tokens), pool.prompts[expected].flatten(1, 2))


def test_an_adapter_begins_as_its_layer_and_merges_into_one() -> None:
    torch.manual_seed(0)
    plain = torch.nn.Linear(6, 4).double()
    adapted = LoRA(plain, rank=2, alpha=6)
    x = torch.randn(3, 6).double()
    assert torch.equal(adapted(x), plain(x))
    torch.nn.init.normal_(adapted.lora_b)
    assert not torch.allclose(adapted(x), plain(x))
    torch.testing.assert_close(adapted.plain()(x), adapted(x))


def test_the_objective_adds_the_error_of_the_parts() -> None:
    model = tiny()
    inputs, horizon = torch.randn(2, 48, 2).double(), torch.randn(2, 12, 2).double()
    parts = torch.randn(2, 3, 48, 2).double()
    alone = DecomposedForecast()(model, Batch(inputs, horizon), 0.0)
    torch.testing.assert_close(alone.loss, (model(inputs) - horizon).square().mean())
    targets = {"forecast": horizon, "parts": parts}
    both = DecomposedForecast(weight=0.1)(model, Batch(inputs, targets), 0.0)
    assert float(both.sums["mse"]) == pytest.approx(float(alone.sums["mse"]))
    made = model.forecast_and_parts(inputs)[1]
    expected = 0.0
    for index in range(3):
        wanted = parts[:, index]  # (batch, time, variates)
        wanted = (wanted - wanted.mean(1, keepdim=True)) / (wanted.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        ours = made[index].view(2, 2, 48).transpose(1, 2)  # one row per variate of each sample
        expected = expected + (ours - wanted).square().mean()
    torch.testing.assert_close(both.loss, alone.loss + 0.1 * expected)
    with pytest.raises(UserError, match=r"forecasts \(2, 12, 2\), and the targets are \(2, 13, 2\)"):
        DecomposedForecast()(model, Batch(inputs, torch.zeros(2, 13, 2).double()), 0.0)


def test_saved_and_loaded(tmp_path: Path) -> None:
    model = tiny(pool=4).float()
    model.save_pretrained(tmp_path)
    again = from_pretrained(tmp_path)
    series = torch.randn(1, 48, 2)
    assert torch.equal(again(series), model(series))
    assert isinstance(create_model("tempo", length=48, depth=1, dim=16, heads=2, vocabulary=50_000), Tempo)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match=r"\(batch, 48, variates\), got \(1, 47, 1\)"):
        tiny()(torch.zeros(1, 47, 1).double())
    with pytest.raises(UserError, match="positions for 20"):
        tiny(positions=20)
    with pytest.raises(UserError, match="odd"):
        tiny(kernel=8)
    with pytest.raises(UserError, match="Of a pool of 2"):
        tiny(pool=2)

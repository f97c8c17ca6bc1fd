"""GPT-2, Llama and BERT give what transformers' models give with the same random weights, loaded under its names."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from formwright.inference.generation import generate
from formwright.inference.sampling import Sampling
from formwright.models import Model, create_model, empty_copy, load_checkpoint, model_specification
from tests.conformance.instances import randomise

transformers = pytest.importorskip("transformers")

IDS = torch.tensor([[5, 3, 9, 1, 17, 2, 8], [4, 4, 18, 7, 11, 6, 10]])
SEPARATOR, PADDING = 2, 0
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
    "rope_theta": 10000.0,
}
SCALED = {
    "scaling": {
        "factor": 8.0,
        "low_frequency_factor": 1.0,
        "high_frequency_factor": 4.0,
        "original_length": 16,
    }
}


def theirs(kind: str, config: str, **options: Any) -> Any:
    torch.manual_seed(0)
    model = getattr(transformers, kind)(getattr(transformers, config)(**options)).eval()
    randomise(model)
    return model


def ours(name: str, source: Any, **options: Any) -> Model:
    model = create_model(name, vocabulary=19, dim=32, depth=2, heads=4, hidden=48, **options).eval()
    assert load_checkpoint(model, source.state_dict()) == "transformers"
    return model


def assert_equal(model: Model, source: Any, dtype: torch.dtype, tolerance: float, **more: Tensor) -> None:
    model, source = model.to(dtype), source.to(dtype)
    with torch.inference_mode():
        expected = source(IDS, **more).logits
        difference = (model(IDS) - expected).abs().max() / expected.std()
    assert difference <= tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_gpt2(dtype: torch.dtype, tolerance: float) -> None:
    source = theirs(
        "GPT2LMHeadModel", "GPT2Config", vocab_size=19, n_embd=32, n_layer=2, n_head=4, n_inner=48, n_positions=12
    )
    assert_equal(ours("gpt2", source, length=12), source, dtype, tolerance)


def test_greedy_texts_are_the_same() -> None:
    options = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 48, "n_positions": 40}
    source = theirs("GPT2LMHeadModel", "GPT2Config", vocab_size=19, bos_token_id=0, eos_token_id=0, **options)
    rules = {"do_sample": False, "repetition_penalty": 1.2, "pad_token_id": 0, "eos_token_id": None}
    expected = source.generate(IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=20, **rules)[:, 7:]
    sampling = Sampling(temperature=0, repetition_penalty=1.2)
    steps = list(generate(ours("gpt2", source, length=40), IDS, tokens=20, sampling=sampling))
    assert torch.tensor(steps).T.tolist() == expected.tolist()


def test_gpt2_classifies_by_the_last_real_token() -> None:
    options = {"vocab_size": 19, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 48, "n_positions": 12}
    source = theirs("GPT2ForSequenceClassification", "GPT2Config", num_labels=3, pad_token_id=10, **options)
    model = ours("gpt2", source, length=12, classes=3, padding=10)
    assert_equal(model, source, torch.float64, 1e-9)


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_llama(kv_heads: int, scaled: bool, tied: bool) -> None:
    source = theirs(
        "LlamaForCausalLM",
        "LlamaConfig",
        vocab_size=19,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        rms_norm_eps=1e-5,
        tie_word_embeddings=tied,
        **({"rope_parameters": LLAMA3} if scaled else {}),
    )
    model = ours("llama2_7b", source, kv_heads=kv_heads, tied=tied, **({"rotary": SCALED} if scaled else {}))
    assert sum(p.numel() for p in source.parameters()) == model.parameter_count()
    assert_equal(model, source, torch.float32, 1e-4)


def test_llama_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers computes norms and the angles of positions in float32; with exact ones it agrees to 1e-9."""
    options = {"vocab_size": 19, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    source = theirs("LlamaForCausalLM", "LlamaConfig", num_attention_heads=4, rms_norm_eps=1e-5, **options)
    model = ours("llama2_7b", source)
    rotary = model.backbone.stages[0].blocks[0].branches[0].part.rotary

    def exact(self: Any, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        angles = position_ids[..., None] * torch.cat([rotary.frequencies] * 2)
        return angles.cos(), angles.sin()

    def norm(self: Any, x: Tensor) -> Tensor:
        return torch.nn.functional.rms_norm(x, x.shape[-1:], self.weight, self.variance_epsilon)

    monkeypatch.setattr(type(source.model.rotary_emb), "forward", exact)
    monkeypatch.setattr(type(source.model.norm), "forward", norm)
    assert_equal(model, source, torch.float64, 1e-9)


BERT = {
    "vocab_size": 19,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 12,
    "pad_token_id": PADDING,
}


@pytest.mark.parametrize(
    ("kind", "options"),
    [("BertForMaskedLM", {}), ("BertForSequenceClassification", {"classes": 3}), ("BertForPreTraining", {})],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_bert(kind: str, options: dict[str, int], dtype: torch.dtype, tolerance: float) -> None:
    source = theirs(kind, "BertConfig", num_labels=3, **BERT)
    model = ours("bert_base_uncased", source, length=12, separator=SEPARATOR, padding=PADDING, **options)
    types = torch.tensor([[0, 0, 0, 0, 0, 0, 1], [0] * 7])
    if kind == "BertForPreTraining":
        monkey = source(IDS, token_type_ids=types).prediction_logits
        torch.testing.assert_close(model(IDS), monkey, rtol=1e-4, atol=1e-4)
    else:
        assert_equal(model, source, dtype, tolerance, token_type_ids=types)


def test_bert_masks_padding() -> None:
    source = theirs("BertForSequenceClassification", "BertConfig", num_labels=3, **BERT)
    model = ours("bert_base_uncased", source, length=12, separator=SEPARATOR, padding=PADDING, classes=3).double()
    padded = torch.nn.functional.pad(IDS, (0, 3), value=PADDING)
    with torch.inference_mode():
        expected = source.double()(padded, attention_mask=(padded != PADDING).long()).logits
        torch.testing.assert_close(model(padded)[1], expected[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "kind", "config", "options"),
    [
        ("gpt2", "GPT2LMHeadModel", "GPT2Config", {}),
        ("gpt2_xl", "GPT2LMHeadModel", "GPT2Config", {"n_embd": 1600, "n_layer": 48, "n_head": 25}),
        ("bert_base_uncased", "BertForMaskedLM", "BertConfig", {}),
        (
            "llama3_2_1b",
            "LlamaForCausalLM",
            "LlamaConfig",
            {
                "vocab_size": 128256,
                "hidden_size": 2048,
                "intermediate_size": 8192,
                "num_hidden_layers": 16,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "tie_word_embeddings": True,
            },
        ),
    ],
)
def test_counts_of_published_sizes(name: str, kind: str, config: str, options: dict[str, Any]) -> None:
    with torch.device("meta"):
        source = getattr(transformers, kind)(getattr(transformers, config)(**options))
    assert empty_copy(model_specification(name)).parameter_count() == source.num_parameters()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_bert_takes_types_that_do_not_follow_from_the_ids(dtype: torch.dtype, tolerance: float) -> None:
    source = theirs("BertForMaskedLM", "BertConfig", **BERT).to(dtype)
    model = ours("bert_base_uncased", source, length=12, padding=PADDING).to(dtype)
    types = torch.tensor([[0, 1, 1, 0, 1, 0, 1], [1] * 7])
    with torch.inference_mode():
        expected = source(IDS, token_type_ids=types).logits
        assert (model(IDS, types=types) - expected).abs().max() <= tolerance * expected.std()

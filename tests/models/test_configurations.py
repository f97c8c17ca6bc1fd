"""Folders that transformers writes become models of ours that answer the same."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from formwright.errors import UserError
from formwright.models import build_network, from_pretrained, load_checkpoint
from formwright.models.configurations.kind import ACTIVATIONS, EVERYWHERE, KINDS
from formwright.models.pretrained import read_pretrained
from formwright.nn.activations import build_activation
from formwright.nn.features import with_classes
from formwright.nn.inputs import ImageInput
from tests.conformance.instances import randomise

transformers = pytest.importorskip("transformers")

IDS = torch.tensor([[5, 3, 9, 1, 17, 2, 8], [4, 4, 18, 7, 11, 6, 10]])
BERT = {
    "vocab_size": 19,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 12,
}
DISTIL = {"vocab_size": 19, "dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 12}
GPT2 = {"vocab_size": 19, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 12}
LLAMA = {
    "vocab_size": 19,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 12,
}
MAMBA = {"vocab_size": 19, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 5}
MAMBA2 = {**MAMBA, "pad_token_id": 0, "head_dim": 8, "num_heads": 8, "n_groups": 2, "chunk_size": 16}
VIT = {
    "hidden_size": 32,
    "intermediate_size": 50,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
    "num_labels": 5,
}
SWIN = {
    "embed_dim": 16,
    "depths": [2, 2],
    "num_heads": [2, 4],
    "window_size": 4,
    "image_size": 64,
    "num_labels": 5,
}
CONVNEXT = {
    "hidden_sizes": [8, 16, 24],
    "depths": [1, 2, 1],
    "num_stages": 3,
    "image_size": 64,
    "num_labels": 5,
    "layer_scale_init_value": 0.5,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
    "rope_theta": 500.0,
}
LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert-masked": ("BertForMaskedLM", BERT),
    "bert-untied": ("BertForMaskedLM", {**BERT, "tie_word_embeddings": False}),
    "bert-relu": ("BertForMaskedLM", {**BERT, "hidden_act": "relu", "layer_norm_eps": 1e-3, "type_vocab_size": 3}),
    "bert-classes": ("BertForSequenceClassification", {**BERT, "num_labels": 3}),
    "bert-pooler": ("BertModel", BERT),
    "bert-features": ("BertModel", {**BERT, "add_pooling_layer": False}),
    "distilbert-masked": ("DistilBertForMaskedLM", DISTIL),
    "distilbert-classes": ("DistilBertForSequenceClassification", {**DISTIL, "num_labels": 3, "activation": "relu"}),
    "distilbert-features": ("DistilBertModel", DISTIL),
    "gpt2": ("GPT2LMHeadModel", {**GPT2, "n_inner": 48, "layer_norm_epsilon": 1e-3}),
    "gpt2-untied": ("GPT2LMHeadModel", {**GPT2, "tie_word_embeddings": False, "activation_function": "relu"}),
    "gpt2-classes": ("GPT2ForSequenceClassification", {**GPT2, "num_labels": 3, "pad_token_id": 0}),
    "gpt2-features": ("GPT2Model", GPT2),
    "llama": ("LlamaForCausalLM", LLAMA),
    "llama-tied": ("LlamaForCausalLM", {**LLAMA, "tie_word_embeddings": True, "rope_parameters": LLAMA3}),
    "llama-gelu": ("LlamaForCausalLM", {**LLAMA, "hidden_act": "gelu", "head_dim": 16, "rope_parameters": LINEAR}),
    "llama-classes": ("LlamaForSequenceClassification", {**LLAMA, "num_labels": 3, "pad_token_id": 0}),
    "llama-features": ("LlamaModel", LLAMA),
    "mamba": ("MambaForCausalLM", MAMBA),
    "mamba-untied": (
        "MambaForCausalLM",
        {**MAMBA, "tie_word_embeddings": False, "time_step_rank": 3, "layer_norm_epsilon": 1e-3},
    ),
    "mamba-features": ("MambaModel", MAMBA),
    "mamba2": ("Mamba2ForCausalLM", MAMBA2),
    "mamba2-features": ("Mamba2Model", {**MAMBA2, "tie_word_embeddings": True}),
    "vit": ("ViTForImageClassification", VIT),
    "vit-wide": ("ViTForImageClassification", {**VIT, "image_size": [16, 32], "hidden_act": "relu"}),
    "vit-pooler": ("ViTModel", VIT),
    "vit-features": ("ViTModel", {**VIT, "add_pooling_layer": False}),
    "deit": ("DeiTForImageClassification", VIT),
    "deit-teacher": ("DeiTForImageClassificationWithTeacher", VIT),
    "deit-features": ("DeiTModel", {**VIT, "add_pooling_layer": False}),
    "swin": ("SwinForImageClassification", {**SWIN, "layer_norm_eps": 1e-3, "hidden_act": "relu"}),
    "swin-features": ("SwinModel", SWIN),
    "convnext": ("ConvNextForImageClassification", {**CONVNEXT, "hidden_act": "relu"}),
    "convnext-plain": ("ConvNextForImageClassification", {**CONVNEXT, "layer_scale_init_value": 0.0, "patch_size": 2}),
    "convnext-features": ("ConvNextModel", CONVNEXT),
}
#: transformers computes recurrences, and the angles of rotary positions, in float32 whatever the model is.
IN_FLOAT32 = ("mamba", "llama")


def theirs(case: str) -> Any:
    kind, options = CASES[case]
    options = dict(options)
    built = {name: options.pop(name) for name in ("add_pooling_layer",) if name in options}
    cls = getattr(transformers, kind)
    torch.manual_seed(0)
    model = cls(cls.config_class(**options), **built).eval()
    randomise(model)
    return model


def inputs(model: Any, dtype: torch.dtype) -> Tensor:
    if hasattr(model.config, "vocab_size"):
        return IDS
    size = model.config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return torch.randn(2, 3, height, width, dtype=dtype, generator=torch.Generator().manual_seed(1))


def answer(model: Any, x: Tensor) -> Tensor:
    output = model(x, use_cache=False) if "Mamba" in type(model).__name__ else model(x)
    for name in ("logits", "pooler_output", "last_hidden_state"):
        if getattr(output, name, None) is not None:
            return getattr(output, name)
    raise AssertionError(f"{type(output).__name__} has nothing to compare")


@pytest.mark.parametrize("case", CASES)
def test_a_folder_answers_as_transformers_does(case: str, tmp_path: Path) -> None:
    source = theirs(case)
    source.save_pretrained(tmp_path)
    model = from_pretrained(tmp_path)
    again = build_network(model.specification).eval()
    load_checkpoint(again, source.state_dict())  # the names that its modules have, where files have others
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-5 if case.startswith(IN_FLOAT32) else 1e-9)):
        x = inputs(source, dtype)
        with torch.inference_mode():
            expected = answer(source.to(dtype), x)
            found, same = model.to(dtype)(x), again.to(dtype)(x)
        assert found.shape == expected.shape
        assert (found - expected).abs().max() <= tolerance * expected.std()
        assert torch.equal(found, same)


@pytest.mark.parametrize("case", ["bert-classes", "distilbert-masked", "gpt2-classes", "llama-classes"])
def test_padding_is_no_token(case: str, tmp_path: Path) -> None:
    source = theirs(case).double()
    source.save_pretrained(tmp_path)
    padding = source.config.pad_token_id
    ids = torch.nn.functional.pad(IDS, (0, 3), value=padding)
    with torch.inference_mode():
        expected = source(ids, attention_mask=(ids != padding).long()).logits
        found = from_pretrained(tmp_path).double()(ids)
    real = slice(None) if expected.ndim == 2 else slice(0, IDS.shape[1])
    assert (found[:, real] - expected[:, real]).abs().max() <= 1e-6 * expected.std()


def kinds() -> list[Any]:
    return [pytest.param(kind, id=name) for name, kind in KINDS.items()]


@pytest.mark.parametrize("kind", kinds())
def test_every_option_of_a_configuration_is_read_fixed_or_unused(kind: Any) -> None:
    config = transformers.AutoConfig.for_model(kind.name)
    common = {field.name for field in dataclasses.fields(transformers.PreTrainedConfig)} | set(EVERYWHERE)
    fields = {field.name for field in dataclasses.fields(config)} - common | {"tie_word_embeddings"} & set(kind.read)
    known = {*kind.read, *kind.fixed, *kind.unused, *kind.aliases}
    assert fields - known == set()
    fresh = {field.name: field.default for field in dataclasses.fields(config)}
    for option, default in kind.read.items():
        if option in fields:
            assert fresh[option] == default, option
    for option, value in kind.fixed.items():
        if option in fields:
            assert fresh[option] == value, option


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activations_are_those_of_the_same_name(name: str) -> None:
    x = torch.linspace(-5, 5, 101, dtype=torch.float64)
    expected = transformers.activations.ACT2FN[name](x)
    torch.testing.assert_close(build_activation(ACTIVATIONS[name])(x), expected, rtol=0, atol=1e-9)


def changed(folder: Path, **options: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **options}))


@pytest.mark.parametrize(
    ("case", "options", "says"),
    [
        ("bert-masked", {"model_type": "deberta"}, r"no kind of model \(model_type in .*\) named 'deberta'"),
        ("bert-masked", {"hidden_act": "mish"}, r"activation 'mish' \(hidden_act\), which Formwright does not have"),
        ("bert-masked", {"position_embedding_type": "relative_key"}, "position_embedding_type = 'relative_key'"),
        ("bert-masked", {"is_decoder": True}, "is_decoder = True"),
        ("bert-masked", {"quantization_config": {"bits": 4}}, "quantization_config"),
        ("bert-masked", {"hidden_size": "wide"}, "hidden_size = 'wide'"),
        ("bert-masked", {"num_hidden_layers": 0}, "num_hidden_layers = 0"),
        ("bert-masked", {"num_hidden_layers": 3}, "These weights belong to another model; 12 missing"),
        ("bert-masked", {"architectures": ["BertForTokenClassification"]}, "these weights are for another task"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx = True"),
        ("gpt2-untied", {"tie_word_embeddings": True}, "not tied to their embedding"),
        ("llama", {"tie_word_embeddings": True}, "not tied to their embedding"),
        ("llama", {"attention_bias": True}, "attention_bias = True"),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4}}, "by 'yarn'"),
        ("llama", {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ("mamba", {"use_bias": True}, "use_bias = True"),
        ("mamba2", {"time_step_limit": [0.001, 0.1]}, "time_step_limit"),
        ("mamba2", {"layer_norm_epsilon": 1e-3}, "layer_norm_epsilon = 0.001"),
        ("mamba2", {"num_heads": 4}, "4 heads of 8 for 64 channels"),
        ("vit", {"patch_size": [8, 4]}, "squares alone"),
        ("vit", {"qkv_bias": False}, "qkv_bias = False"),
        ("swin", {"use_absolute_embeddings": True}, "use_absolute_embeddings = True"),
        ("convnext", {"num_stages": 2}, "do not agree"),
    ],
)
def test_what_our_models_lack_is_refused(case: str, options: dict[str, Any], says: str, tmp_path: Path) -> None:
    theirs(case).save_pretrained(tmp_path)
    changed(tmp_path, **options)
    with pytest.raises(UserError, match=says) as caught:
        from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_first_names_of_norms_load(tmp_path: Path) -> None:
    source = theirs("bert-masked")
    first = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    state = {}
    for name, tensor in source.state_dict().items():
        for new, old in first.items():
            name = name.replace(new, old)
        state[name] = tensor
    assert any(name.endswith("LayerNorm.gamma") for name in state)
    source.config.save_pretrained(tmp_path)
    changed(tmp_path, architectures=["BertForMaskedLM"])
    torch.save(state, tmp_path / "pytorch_model.bin")
    torch.testing.assert_close(from_pretrained(tmp_path)(IDS), answer(source, IDS), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", ["bert-masked", "bert-classes", "distilbert-classes", "gpt2", "vit", "swin"])
def test_a_head_follows_from_the_weights_where_none_is_named(case: str, tmp_path: Path) -> None:
    source = theirs(case)
    source.save_pretrained(tmp_path)
    named = read_pretrained(tmp_path).specification
    changed(tmp_path, architectures=None)
    assert read_pretrained(tmp_path).specification == named


@pytest.mark.parametrize("case", ["bert-features", "bert-pooler", "vit-features", "vit-pooler", "swin-features", "vit"])
def test_a_body_becomes_a_classifier(case: str, tmp_path: Path) -> None:
    """Of other classes and another size of pictures, as a training that starts from it has it."""
    theirs(case).save_pretrained(tmp_path)
    found = read_pretrained(tmp_path)
    specification = with_classes(found.specification, 7)
    if isinstance(specification.input, ImageInput):
        size = (specification.input.size[0] * 2, specification.input.size[1])
        specification = dataclasses.replace(specification, input=ImageInput(3, size))
    model, body = build_network(specification).eval(), found.model()
    load_checkpoint(model, found.state, head=False, resize_positions=True)
    own = model.state_dict()
    for name, tensor in body.state_dict().items():
        if not name.endswith("table") and not name.startswith("head.linear"):
            assert torch.equal(own[name], tensor), name
    assert model(model.example(2)).shape == (2, 7)


def test_masked_tokens_become_classes_with_a_pooler_of_their_own(tmp_path: Path) -> None:
    theirs("bert-masked").save_pretrained(tmp_path / "masked")
    theirs("bert-classes").save_pretrained(tmp_path / "classes")
    model = build_network(read_pretrained(tmp_path / "classes").specification)
    state = read_pretrained(tmp_path / "masked").state
    load_checkpoint(model, state, head=False)
    with pytest.raises(UserError, match="4 missing: head"):
        load_checkpoint(model, state)


def test_a_model_of_texts_is_refused_for_pictures(tmp_path: Path) -> None:
    theirs("bert-classes").save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"holds a model for text-classification .*, and pictures are to be learned"):
        read_pretrained(tmp_path).check_takes(ImageInput, "pictures")


def test_a_file_is_read_by_the_configuration_beside_it(tmp_path: Path) -> None:
    theirs("gpt2").save_pretrained(tmp_path)
    assert read_pretrained(tmp_path / "model.safetensors").specification == read_pretrained(tmp_path).specification

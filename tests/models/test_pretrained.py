"""What is read of a model that is there already: its specification, weights, tokeniser and preprocessing."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from formwright.data.tokenization import read_tokenizer, tokenizer_of, train_tokenizer
from formwright.errors import UserError
from formwright.models import Network, create_model, from_pretrained
from formwright.models.pretrained import Preprocessing, Pretrained, read_preprocessing, read_pretrained, titles
from formwright.models.states import plain_names
from formwright.nn.inputs import ImageInput, SeriesInput, TokenInput, VectorInput
from formwright.nn.specification import NetworkSpec
from formwright.resizing import Resizing
from tests.conformance.instances import TINY_NETWORKS, smallest_variants, tiny_model
from tests.models.test_checkpoints import as_timm

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "##s", ",", "un", "##happy", "a", "é"]
VIT = "vit_tiny_patch16_224"
PREPARED = {
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "interpolation": "bilinear",
    "crop_pct": 0.95,
    "input_size": [3, 64, 64],
    "num_classes": 5,
}


def write(folder: Path, name: str, content: Any) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(content) if not isinstance(content, str) else content, encoding="utf-8")


def bert_folder(folder: Path, vocabulary: int = len(WORDS)) -> Path:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=vocabulary, max_position_embeddings=20, **sizes)
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def timm_folder(folder: Path, **changes: Any) -> Path:
    """What timm uploads, under its names."""
    model = create_model(VIT, image_size=64, classes=5)
    folder.mkdir()
    save_file(as_timm(model), folder / "model.safetensors")
    config = {"architecture": VIT, "num_classes": 5, "global_pool": "token", "pretrained_cfg": PREPARED}
    write(folder, "config.json", {**config, **changes})
    return folder


def test_a_folder_of_ours_says_all(tmp_path: Path) -> None:
    model = create_model("vit_tiny_patch16_224", dim=16, depth=1, heads=2, image_size=32, classes=3)
    model.save_pretrained(tmp_path)
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.2, 0.2]
    write(tmp_path, "preprocessing.json", {"task": "image-classification", "mean": mean, "std": std, "size": [32, 32]})
    found = read_pretrained(tmp_path)
    assert found.specification == model.specification
    assert found.preprocessing == Preprocessing((0.5, 0.4, 0.3), (0.2, 0.2, 0.2), (32, 32))
    assert found.tokenizer is None
    assert found.origin == str(tmp_path)


def test_a_folder_of_timm_says_all(tmp_path: Path) -> None:
    found = read_pretrained(timm_folder(tmp_path / "vit.mine"))
    assert found.specification.name == "vit.mine"
    assert found.specification.classes == 5
    assert found.specification.input.size == (64, 64)
    assert found.preprocessing == Preprocessing(
        (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (64, 64), Resizing("short_side", "bilinear", 0.95)
    )
    model = from_pretrained(tmp_path / "vit.mine")
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 5)


def test_a_model_of_timm_without_classes_answers_its_features(tmp_path: Path) -> None:
    folder = timm_folder(tmp_path / "body", num_classes=0)
    state = load_file(folder / "model.safetensors")
    save_file({name: x for name, x in state.items() if not name.startswith("head.")}, folder / "model.safetensors")
    model = from_pretrained(folder)
    assert model.specification.task == "features"
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 192)


def test_models_whose_folders_have_one_name_are_told_apart_by_those_around_them():
    specification = create_model("resnet18", classes=2, image_size=32).specification
    origins = ("/runs/a/best", "/runs/b/best", "/old/a/best", "/runs/last", "hf:org/best", "/runs/a/best")
    assert titles([Pretrained(specification, {}, origin=origin) for origin in origins]) == [
        "runs/a/best",
        "b/best",
        "old/a/best",
        "last",
        "org/best",
        "runs/a/best",
    ]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"architecture": "vit_minute"}, r"no model of pictures \(the architecture of .*\) named 'vit_minute'"),
        ({"model_args": {"reg_tokens": 4}}, "with reg_tokens = 4"),
        ({"global_pool": "catavgmax"}, "pools its tokens by 'catavgmax'"),
        ({"num_classes": 7}, r"1 of another shape|2 of another shape"),
    ],
)
def test_what_timm_has_and_we_do_not_is_refused(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says):
        from_pretrained(timm_folder(tmp_path / "vit", **changes))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            {"size": {"height": 224, "width": 224}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2},
            Preprocessing((0.5,) * 3, (0.5,) * 3, (224, 224), Resizing("both_sides", "bilinear", halves="down")),
        ),
        (  # DeiT
            {
                "crop_size": 224,
                "do_center_crop": True,
                "image_mean": [0.485, 0.456, 0.406],
                "image_std": [0.229, 0.224, 0.225],
                "resample": 3,
                "size": 256,
            },
            Preprocessing(
                (0.485, 0.456, 0.406),
                (0.229, 0.224, 0.225),
                (224, 224),
                Resizing("both_sides", "bicubic", 0.875, "down"),
            ),
        ),
        (  # ConvNeXt
            {"crop_pct": 0.875, "size": {"shortest_edge": 224}, "resample": 3},
            Preprocessing((0.5,) * 3, (0.5,) * 3, (224, 224), Resizing("short_side", "bicubic", 0.875, "down")),
        ),
        (
            {"crop_pct": 0.875, "size": {"shortest_edge": 384}, "do_normalize": False},
            Preprocessing((0.0,) * 3, (1.0,) * 3, (384, 384), Resizing("both_sides", "bilinear", halves="down")),
        ),
    ],
)
def test_preprocessing_of_transformers_is_read(
    content: dict[str, Any], expected: Preprocessing, tmp_path: Path
) -> None:
    write(tmp_path, "preprocessor_config.json", content)
    assert read_preprocessing(tmp_path, {}) == expected


@pytest.mark.parametrize("content", [{"size": {"area": 3}}, {"resample": 9}, {"rescale_factor": 1.0}, {"size": "big"}])
def test_preprocessing_that_we_do_not_have_is_refused(content: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path, "preprocessor_config.json", content)
    with pytest.raises(UserError, match="does not say how pictures are prepared"):
        read_preprocessing(tmp_path, {})


def test_a_vocabulary_of_bert_is_its_tokenizer(tmp_path: Path) -> None:
    bert_folder(tmp_path)
    write(tmp_path, "vocab.txt", "\n".join(WORDS) + "\n")
    found = read_pretrained(tmp_path)
    assert found.tokenizer == tmp_path / "vocab.txt"
    assert found.specification.embed.options["separator"] == WORDS.index("[SEP]")
    tokenizer = tokenizer_of(found.tokenizer, found.specification.input.vocabulary, found.origin)
    assert tokenizer.encode("The cats, unhappy É!", special=True) == [2, 5, 6, 8, 9, 10, 11, 1, 1, 3]
    assert (tokenizer.padding, tokenizer.end) == (0, 3)
    assert tokenizer.decode([2, 5, 6, 8, 3]) == "the cats"


def test_words_of_a_vocabulary_are_split_as_transformers_does(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    write(tmp_path, "vocab.txt", "\n".join(WORDS) + "\n")
    for options in ({"do_lower_case": True}, {"do_lower_case": False}):
        write(tmp_path, "tokenizer_config.json", {**options, "tokenizer_class": "BertTokenizer"})
        theirs = transformers.BertTokenizer(vocab=str(tmp_path / "vocab.txt"), **options)
        for text in ("The cats sat, unhappy", "A É cat 猫 the\tcat", "[MASK] the cat"):
            assert read_tokenizer(tmp_path / "vocab.txt").encode(text, special=True) == theirs(text)["input_ids"], text


def test_a_tokenizer_file_comes_before_a_vocabulary(tmp_path: Path) -> None:
    bert_folder(tmp_path)
    write(tmp_path, "vocab.txt", "\n".join(WORDS))
    write(tmp_path, "tokenizer.json", {"added_tokens": [{"id": 9, "content": "[SEP]"}], "model": {}})
    found = read_pretrained(tmp_path)
    assert found.tokenizer == tmp_path / "tokenizer.json"
    assert found.specification.embed.options["separator"] == 9


def test_a_missing_or_foreign_tokenizer_is_told(tmp_path: Path) -> None:
    found = read_pretrained(bert_folder(tmp_path, vocabulary=500))
    assert found.tokenizer is None
    with pytest.raises(UserError, match="has no tokeniser; put its"):
        tokenizer_of(found.tokenizer, 500, found.origin)
    write(tmp_path, "tokenizer.json", train_tokenizer(["a text of few words"] * 9, 300).to_json())
    found = read_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"tokenizer\.json: The tokeniser has \d+ tokens and the model 500"):
        tokenizer_of(found.tokenizer, found.specification.input.vocabulary, found.origin)
    write(tmp_path, "vocab.txt", "just\nwords\n")
    with pytest.raises(UserError, match=r"is no vocabulary of BERT: it has no \[UNK\]"):
        read_tokenizer(tmp_path / "vocab.txt")


def test_a_configuration_that_names_no_kind_is_known_by_its_weights(tmp_path: Path) -> None:
    timm_folder(tmp_path / "mine")
    write(tmp_path / "mine", "config.json", {"d_model": 3})
    with pytest.raises(UserError, match="belongs to none of the registered models"):
        read_pretrained(tmp_path / "mine")  # its table is that of 64 pixels
    model = create_model(VIT, classes=5)
    save_file(as_timm(model), tmp_path / "mine" / "model.safetensors")
    assert read_pretrained(tmp_path / "mine").specification.name == "mine"
    write(tmp_path / "mine", "config.json", [1])
    with pytest.raises(UserError, match="does not describe a model"):
        read_pretrained(tmp_path / "mine")


def test_a_file_brings_the_tokenizer_beside_it(tmp_path: Path) -> None:
    model = create_model("bert_tiny")
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, tmp_path / "mine.safetensors")
    write(tmp_path, "vocab.txt", "\n".join(WORDS))
    found = read_pretrained(tmp_path / "mine.safetensors")
    assert found.specification.name == "bert_tiny"
    assert found.tokenizer == tmp_path / "vocab.txt"


def tiny_network(variant: str | Callable[..., NetworkSpec], options: dict[str, Any]) -> Network:
    return create_model(variant, **options) if isinstance(variant, str) else create_model(variant(**options))


FAMILIES = [
    pytest.param(functools.partial(tiny_model, family, variant), id=family)
    for kind in (ImageInput, TokenInput, SeriesInput, VectorInput)
    for family, variant in smallest_variants(kind).items()
]
OTHERS = [
    pytest.param(functools.partial(tiny_network, variant, options), id=name)
    for name, (variant, options) in TINY_NETWORKS.items()
]


@pytest.mark.parametrize("build", [*FAMILIES, *OTHERS])
def test_states_of_every_family_are_saved_by_safetensors(build: Callable[[], Network], tmp_path: Path) -> None:
    model = build()
    state: dict[str, Tensor] = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    found = load_file(tmp_path / "model.safetensors")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) for key in state)
    assert plain_names(state) == state, "no name of ours looks like a wrapper's"

"""Saved models that are damaged or of another version, and recipes that cannot be followed: one sentence each."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from formwright.deployment.export import ExportError
from formwright.models import create_model, from_pretrained


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    options = {"dim": 16, "depth": 1, "heads": 2, "image_size": 8, "patch_size": 4, "channels": 1, "classes": 10}
    create_model("vit_tiny_patch16_224", **options).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def recipe(tmp_path):
    def write(text: str):
        (tmp_path / "recipe.yaml").write_text(text)
        return tmp_path / "recipe.yaml"

    return write


def edit(name: str, target: str, **options: Any) -> dict[str, Any]:
    return {"edits": [{"name": name, "target": target, "options": options}]}


FIRST = "backbone.stages.0.blocks.0.branches.1.part"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "chian"}, "There is no kind of network named 'chian'; did you mean chain?"),
        ({"kind": 7}, "There is no kind of network named '7'; known: chain"),
        ({"schema_version": 99}, "has schema version 99, and this program reads up to 3: use a newer formwright"),
        ({"schema_version": 0}, "There is no schema version 0"),
        ({"clases": 3}, "cannot be read: at 'clases', unexpected keyword argument"),
        ({"edits": "drop"}, "cannot be read: at 'edits'"),
        (edit("factorise", FIRST.replace("0.blocks.0", "0.blocks.7"), rank=2), "has no module 'backbone.stages.0.blo"),
        (edit("factorise", f"{FIRST}.fc3", rank=2), f"has no module '{FIRST}.fc3'; the edits were made to another"),
        (edit("factorise", f"{FIRST}.fc1", rank=17), "has a rank from 1 to 16, and 17 was asked for"),
        (edit("factorise", f"{FIRST}.fc1", rank=2.5), "A rank is a whole number of channels, got 2.5"),
        (edit("factorise", f"{FIRST}.fc1"), "lacks its option 'rank'"),
        (edit("factorize", f"{FIRST}.fc1", rank=2), "There is no edit named 'factorize'; did you mean factorise?"),
        (edit("quantise", f"{FIRST}.fc1", bits=1), "a whole number of bits from 2 to 8, got 1"),
        (edit("quantise", f"{FIRST}.fc1", bits=3.5), "a whole number of bits from 2 to 8, got 3.5"),
        (edit("drop", "head.linear"), "Only a residual branch can be dropped, and 'head.linear' is a Linear"),
        (edit("keep", FIRST, axis="hiden", kept=4), "has no axis 'hiden'"),
        (edit("keep", FIRST, axis="hidden", kept=400), "has 64 entries on its axis 'hidden', numbered from 0; cannot"),
        (edit("replace_norms", "", by=7), "There is no norm named 7; known: crms_norm, rms_norm"),
        (edit("replace_norms", "", by={"a": 1}), "There is no norm named {'a': 1}"),
    ],
    ids=str,
)
def test_a_specification_that_cannot_be_built(cli, model, recipe, tmp_path, changes, words):
    config = json.loads((model / "config.json").read_text())
    config["specification"].update(changes)
    (model / "config.json").write_text(json.dumps(config))
    assert words in cli("measure", model).refusal()
    assert words in cli("compress", model, "--steps", recipe("steps: [fold]"), "--out", tmp_path / "out").refusal()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["5", "[]", "{}", '{"specification": 5}', '{"specification": []}', "{"])
def test_a_configuration_that_describes_no_model(cli, model, content):
    (model / "config.json").write_text(content)
    assert len(cli("measure", model).refusal()) < 300


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("quantize", "There is no compressor named 'quantize'; did you mean quantise_weights?"),
        ("7", "has a step that cannot be read, 7"),
        ("quantise_weights: {bits: 1}", "a whole number of bits from 2 to 8, got 1"),
        ("quantise_weights: {bits: 9}", "a whole number of bits from 2 to 8, got 9"),
        ("quantise_weights: {bits: 3.5}", "a whole number of bits from 2 to 8, got 3.5"),
        ("quantise_weights: {bits: eight}", "a whole number of bits from 2 to 8, got 'eight'"),
        ("quantise_weights: {bits: true}", "a whole number of bits from 2 to 8, got True"),
        ("quantise_weights: {granularity: row}", "granularity='row': input should be 'tensor', 'channel' or 'group'"),
        ("factorise: {rank: 4}", "The step 'factorise' has no option 'rank'; its options are: keep, layers"),
        ("factorise: {keep: 2}", "a share of its weights above 0 and below 1, got 2"),
        ("factorise: {keep: half}", "cannot be taken with keep='half': input should be a valid number"),
        ("factorise: {layers: 7}", "cannot be taken with layers=7: input should be a valid string"),
        ('factorise: {layers: "nothing*"}', "No dense layer named 'nothing*'"),
        ("prune_magnitude: {keep: 0}", "The share to keep lies between 0 and 1, got 0"),
        ("prune_magnitude: {keep: true}", "cannot be taken with keep=True: input should be a valid number"),
        ("prune_magnitude: {macs: 1.5}", "cannot be taken with macs=1.5: input should be a valid integer"),
        ("prune_magnitude: {parameters: 5}", "parameters at best, and 5 were asked for"),
        ("prune_magnitude: {keep: 0.5, macs: 5}", "Pruning has one target; got keep and macs"),
        ("merge_tokens: {remove: 0}", "removes at least one token per block, not 0"),
        ("merge_adapters", "has no adapters to merge; leave the step out"),
        ("grow", "has no layers of parameter tokens to append to"),
        ("grow: {factor: 1}", "multiplies the parameter tokens by more than 1, got 1"),
        ("sparsify: {sparsity: .nan}", "The share of zeros lies from 0 to below 1, got nan"),
        ("cluster: {clusters: 1}", "at least 2 clusters, got 1"),
        ("extract: {parameters: many}", "cannot be taken with parameters='many': input should be a valid integer"),
        ("train: {minutes: .nan}", "A model is trained for some minutes, got nan"),
        ("int8", "needs batches of data: name the data with --data"),
    ],
)
def test_a_step_that_cannot_be_taken(cli, model, recipe, tmp_path, step, words):
    steps = recipe(f"steps:\n  - fold\n  - {step}\n")
    assert words in cli("compress", model, "--steps", steps, "--out", tmp_path / "out").refusal()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["unet_1d_small", "t5_small"])
def test_norms_of_networks_that_are_no_chain_are_not_replaced(cli, recipe, tmp_path, name):
    small = {"dims": (8, 12), "depths": (1, 1), "classes": 3, "image_size": 16}
    if name == "t5_small":
        small = {"dim": 8, "depth": 1, "heads": 2, "hidden": 8, "head_dim": 4, "vocabulary": 9}
    create_model(name, **small).save_pretrained(tmp_path / "it")
    steps = recipe("steps: [replace_layer_norms]")
    sentence = cli("compress", tmp_path / "it", "--steps", steps, "--out", tmp_path / "out").refusal()
    assert "cannot be replaced: its tokens are not one stream from an embedding" in sentence
    assert not (tmp_path / "out").exists()


def test_a_model_that_cannot_be_exported_leaves_nothing(cli, model, recipe, tmp_path, monkeypatch):
    def refuse(*arguments: Any, **options: Any) -> float:
        raise ExportError("The model cannot be written as ONNX (no reason); use it in PyTorch.")

    monkeypatch.setattr("formwright.fitting.compress.export_onnx", refuse)
    before = sorted(tmp_path.rglob("*"))
    steps = recipe("steps: [fold]")
    (tmp_path / "out").mkdir()
    sentence = cli("compress", model, "--steps", steps, "--out", tmp_path / "out", "--quiet").refusal()
    assert "cannot be written as ONNX" in sentence
    assert sorted(tmp_path.rglob("*")) == sorted([*before, steps, tmp_path / "out"])


def test_what_needs_no_data_is_done_and_shown(cli, model, recipe, tmp_path):
    (tmp_path / "out").mkdir()
    answer = cli("compress", model, "--steps", recipe("steps: [fold, quantise_weights]"), "--out", tmp_path / "out")
    assert answer.code == 0, answer
    assert "parameters" in answer.out
    assert "validation" not in answer.out
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["compression.json", "config.json", "model.onnx", "model.safetensors"]
    assert from_pretrained(tmp_path / "out")(torch.randn(1, 1, 8, 8)).shape == (1, 10)


def test_a_model_of_pictures_writes_no_text(cli, model):
    sentence = cli("generate", model, "--prompt", "a").refusal()
    assert "was made for image-classification and writes no text" in sentence

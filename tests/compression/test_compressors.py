"""The registry of compressors: every entry makes a model that saves, reloads and exports; recipes are files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from typer.testing import CliRunner

from formwright.batch import Batch
from formwright.cli.app import app
from formwright.compression import COMPRESSORS, Job, Step, compress, read_recipe
from formwright.deployment.export import export_onnx
from formwright.errors import UserError
from formwright.models import Network, create_model, from_pretrained
from formwright.nn.edits import adapt_layer

#: Options that make each entry do something to a small ViT, and its entries that need another model.
OPTIONS: dict[str, dict[str, Any]] = {
    "prune": {"keep": 0.7, "multiple": 4},
    "prune_magnitude": {"keep": 0.7, "multiple": 4},
    "quantise_weights": {"bits": 4},
    "merge_tokens": {"remove": 1},
    "extract": {"ratios": 0.5},
    "train": {"minutes": 0.01},
}
#: Those that leave the model's answers as they are.
EXACT = {"fold", "merge_adapters", "replace_layer_norms", "grow"}


def small(name: str, depth: int = 1) -> Network:
    torch.manual_seed(0)
    if name == "grow":
        return create_model("tokenformer_150m", dim=16, depth=1, heads=2, vocabulary=20, length=8).eval()
    model = create_model(
        "vit_tiny_patch16_224", dim=16, depth=depth, heads=2, classes=5, channels=1, image_size=8, patch_size=4
    )
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    if name == "merge_adapters":
        path = "backbone.stages.0.blocks.0.branches.0.part.qkv"
        model.record_edits([adapt_layer(model, path, "lora", rank=2)])
        torch.nn.init.normal_(model.get_submodule(path).lora_b)
    return model.eval()


def batches() -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    return [
        Batch(torch.randn(16, 1, 8, 8, generator=generator), torch.randint(5, (16,), generator=generator))
        for _ in range(2)
    ]


def train(model: Network, teacher: torch.nn.Module | None, seconds: float, seed: int) -> Network:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.99)
    return model.eval()


@pytest.mark.parametrize("name", COMPRESSORS)
def test_every_compressor_makes_a_model_like_any_other(name: str, tmp_path: Path) -> None:
    model = small(name, depth=2 if name == "merge_tokens" else 1)  # tokens are merged between blocks
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    job = Job(batches=batches(), train=train)
    result = compress(model, [Step(name, OPTIONS.get(name, {}))], job=job)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items()), "it changed its input"
    made = result.model.eval()
    x = model.example(2)
    with torch.inference_mode():
        answer = made(x)
        changed = (answer - model(x)).abs().max() / model(x).std()
    assert (changed < 1e-4) == (name in EXACT), f"answers changed by {changed}"
    assert result.report["steps"][0]["step"] == name
    made.save_pretrained(tmp_path)
    again = from_pretrained(tmp_path)
    with torch.inference_mode():
        torch.testing.assert_close(again(x), answer)
    export_onnx(again, tmp_path / "model.onnx", x)
    assert made.specification.edits[len(model.specification.edits) :] == result.edits[0]


@pytest.mark.parametrize("name", COMPRESSORS)
def test_what_a_compressor_needs_is_asked_for(name: str) -> None:
    needs = COMPRESSORS[name].needs
    if not needs:
        pytest.skip("it needs nothing")
    with pytest.raises(UserError, match=f"The step '{name}' needs"):
        compress(small(name), [Step(name, OPTIONS.get(name, {}))])


def test_steps_follow_each_other_and_several_models_are_treated_alike() -> None:
    models = [small("prune"), small("prune")]
    result = compress(models, ["fold", Step("factorise", {"keep": 0.5})], batches())
    assert len(result.models) == len(result.edits) == 2
    assert result.edits[0][0].name == "fold"
    assert result.models[0].parameter_count() < models[0].parameter_count()
    with pytest.raises(UserError, match="made 2 models"):
        _ = result.model


def test_the_branch_that_matters_least_is_dropped() -> None:
    model = small("prune", depth=2)
    part = model.backbone.stages[0].blocks[1].branches[0].part
    with torch.no_grad():
        part.proj.weight.zero_()
        part.proj.bias.zero_()
    with torch.no_grad():  # its own answers are the targets, so that nothing is better than the whole model
        asked = [Batch(batch.inputs, model(batch.inputs).softmax(1)) for batch in batches()]
    result = compress(model, [Step("drop_branches", {"count": 1})], asked)
    assert result.report["steps"][0]["dropped"] == ["backbone.stages.0.blocks.1.branches.0"]
    x = model.example(2)
    torch.testing.assert_close(result.model(x), model(x))
    with pytest.raises(UserError, match="from 1 to 3 can be dropped"):
        compress(model, [Step("drop_branches", {"count": 4})], batches())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: [pruen]", "There is no compressor named 'pruen'; did you mean prune"),
        ("steps:\n  - prune: {kep: 0.5}", "has no option 'kep'; its options are: keep"),
        ("steps: prune", "a list under 'steps'"),
        ("steps: []", "names no step"),
        ("- prune", "is no recipe"),
        ("steps: [{a: 1, b: 2}]", "a step that cannot be read"),
        ("steps: [", "is no YAML file"),
        ("steps:\n  - train: {minutes: 0}", "for some minutes, got 0"),
    ],
)
def test_recipes_that_cannot_be_read(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_recipe(path)
    with pytest.raises(UserError, match="There is no recipe"):
        read_recipe(tmp_path / "other.yaml")


def test_the_command_compresses_a_saved_model(tmp_path: Path) -> None:
    digits = load_digits()
    np.savez(tmp_path / "digits.npz", images=(digits.images * 15).astype("uint8"), labels=digits.target)
    torch.manual_seed(0)
    options: dict[str, Any] = {"classes": 10, "channels": 1, "image_size": 8}
    create_model("poolformer_s12", dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), **options).save_pretrained(tmp_path / "it")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("steps:\n  - prune: {keep: 0.6}\n  - train: {minutes: 0.05}\n  - fold\n  - quantise_weights\n")
    out = tmp_path / "out"
    arguments = ["compress", str(tmp_path / "it"), "--steps", str(recipe), "--out", str(out)]
    refused = CliRunner().invoke(app, arguments)
    assert isinstance(refused.exception, UserError)
    assert "name the data with --data" in str(refused.exception)
    assert not out.exists()
    done = CliRunner().invoke(app, [*arguments, "--data", str(tmp_path / "digits.npz"), "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads((out / "compression.json").read_text())
    assert report["after"]["parameters"] < report["before"]["parameters"]
    assert report["after"]["bytes"] < report["before"]["bytes"]
    assert [step["step"] for step in report["steps"]] == ["prune", "train", "fold", "quantise_weights"]
    assert sorted(p.name for p in out.iterdir()) == [
        "compression.json",
        "config.json",
        "model.onnx",
        "model.safetensors",
    ]
    assert from_pretrained(out)(torch.randn(2, 1, 8, 8)).shape == (2, 10)
    again = CliRunner().invoke(app, [*arguments, "--data", str(tmp_path / "digits.npz")])
    assert "is not empty" in str(again.exception)

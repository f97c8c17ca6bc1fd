"""Zeros and clusters are as many as asked for, and stay while the model is trained on."""

from __future__ import annotations

import copy
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load

from formwright.compression.files import FORMATS, read_codebooks, write_formats
from formwright.compression.values import KeptValues, cluster, kernels, sparsify, unique_values, zeros
from formwright.data.array_batches import ArrayBatches
from formwright.deployment.runtime import OnnxModel
from formwright.errors import UserError
from formwright.models import Model, create_model, from_pretrained
from formwright.objectives import Classification
from formwright.training import Recipe, Trainer


def model() -> Model:
    torch.manual_seed(0)
    built = create_model("t2_plasticc", bands=3, length=10, dim=16, heads=4, hidden=24, classes=4)
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return built.eval()


def series(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 10, 3)).astype(np.float32)


@pytest.mark.parametrize("sparsity", [0.0, 0.37, 0.9])
def test_the_smallest_weights_are_zero_and_exactly_as_many_as_asked_for(sparsity: float) -> None:
    original = model()
    sparse = sparsify(original, sparsity)
    for (_, before), (_, after) in zip(kernels(original), kernels(sparse), strict=True):
        gone = after == 0
        assert int(gone.sum()) == round(sparsity * after.numel())
        assert torch.equal(after[~gone], before[~gone])
        if gone.any():
            assert before[gone].abs().max() <= before[~gone].abs().min()
    assert zeros(original) == dict.fromkeys(zeros(original), 0.0)


@torch.no_grad()
@pytest.mark.parametrize("clusters", [2, 5, 16])
def test_clustered_kernels_have_few_values_and_each_weight_the_nearest(clusters: int) -> None:
    original = model()
    clustered = cluster(original, clusters)
    assert max(unique_values(clustered).values()) <= clusters
    for (_, before), (_, after) in zip(kernels(original), kernels(clustered), strict=True):
        distance = (before.reshape(-1, 1) - after.unique()).abs()
        assert torch.allclose(distance.min(1).values, (before - after).abs().reshape(-1), atol=1e-6)
        even = torch.linspace(float(before.min()), float(before.max()), clusters)
        linear = (before.reshape(-1, 1) - even).abs().min(1).values
        assert (before - after).square().sum() <= linear.square().sum() * (1 + 1e-5)
    assert {name: t.shape for name, t in clustered.state_dict().items()} == {
        name: t.shape for name, t in original.state_dict().items()
    }


def test_other_weights_are_left_alone_and_zeros_stay_zero() -> None:
    original = model()
    both = cluster(sparsify(original, 0.5), 8)
    touched = {name for name, _ in kernels(original)}
    for name, tensor in original.state_dict().items():
        assert (name in touched) == (not torch.equal(tensor, both.state_dict()[name]))
    assert zeros(both) == zeros(sparsify(original, 0.5))
    assert max(unique_values(both).values()) <= 8


def test_training_on_keeps_zeros_and_values_and_still_learns() -> None:
    small = cluster(sparsify(model(), 0.4), 6)
    before = copy.deepcopy(small)
    inputs = series(64)
    labels = (inputs[:, :, 0].mean(1) > 0).astype(np.int64)
    objective = KeptValues(Classification(), small)
    recipe = Recipe(optimizer="adamw", learning_rate=1e-2, batch_size=32, warmup=1)
    trainer = Trainer(small, objective, ArrayBatches(inputs, labels, batch_size=32), recipe)
    first = trainer.train(steps=5)
    assert trainer.train(steps=40) < first
    for trained in (small, trainer.averaged_model()):
        for (name, old), (_, new) in zip(kernels(before), kernels(trained), strict=True):
            assert torch.equal(new == 0, old == 0), name
            assert new.unique().numel() <= 6
            assert not torch.equal(new, old)
    assert list(objective.parameters()) == []


def test_such_a_model_is_saved_and_loaded_like_any_other(tmp_path: Path) -> None:
    small = cluster(model(), 4)
    small.save_pretrained(tmp_path)
    assert torch.equal(from_pretrained(tmp_path)(torch.from_numpy(series(2))), small(torch.from_numpy(series(2))))


def test_every_format_holds_the_model_and_weighs_what_is_said(tmp_path: Path) -> None:
    plain = model()
    written = write_formats(plain, tmp_path / "plain", series(32))
    assert tuple(written) == FORMATS
    for file in written.values():
        assert file.path.stat().st_size == file.size
    state = plain.state_dict()
    content = zipfile.ZipFile(written["safetensors.zip"].path)
    from_zip = load(content.read(content.namelist()[0]))
    assert all(torch.equal(from_zip[name], tensor) for name, tensor in state.items())
    from_npz = np.load(written["npz"].path, allow_pickle=False)
    assert all(np.array_equal(from_npz[name], tensor.numpy()) for name, tensor in state.items())
    x = series(3, seed=1)
    expected = plain(torch.from_numpy(x)).detach().numpy()
    assert np.abs(OnnxModel(written["onnx"].path)(x) - expected).max() < 1e-4
    assert np.abs(OnnxModel(written["int8.onnx"].path)(x) - expected).mean() < 0.2 * expected.std()
    for name, tensor in read_codebooks(written["codebook.zip"].path).items():
        assert torch.equal(tensor, state[name])
    clustered = write_formats(cluster(plain, 4), tmp_path / "clustered", series(32))
    assert clustered["safetensors"].size == written["safetensors"].size
    assert clustered["safetensors.zip"].size < 0.6 * written["safetensors.zip"].size
    assert clustered["codebook.zip"].size < clustered["safetensors.zip"].size
    assert written["int8.onnx"].weights < written["onnx"].weights / 2


def test_numbers_out_of_range_are_refused() -> None:
    for sparsity in (-0.1, 1.0):
        with pytest.raises(UserError, match="from 0 to below 1"):
            sparsify(model(), sparsity)
    with pytest.raises(UserError, match="at least 2 clusters"):
        cluster(model(), 1)


def test_codebooks_come_back_bit_by_bit_into_a_model(tmp_path: Path) -> None:
    small = cluster(sparsify(model(), 0.5), 8)
    path = write_formats(small, tmp_path, series(32))["codebook.zip"].path
    again = model()
    again.load_state_dict(read_codebooks(path))
    x = torch.from_numpy(series(2))
    assert torch.equal(again(x), small(x))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="not a whole file"):
        read_codebooks(path)
    with pytest.raises(UserError, match="There is no file"):
        read_codebooks(tmp_path / "none.zip")

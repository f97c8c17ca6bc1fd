"""Runs on pictures that start from checkpoints: how pictures are prepared for them, and what is refused."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from formwright.cli import main
from formwright.deployment import predict
from formwright.deployment.preparations.image_classification import PicturePreparation
from formwright.errors import UserError
from formwright.fitting import fit, run, teaching
from formwright.fitting.bench import Bench
from formwright.fitting.compress import compress_folder
from formwright.fitting.kind import Reading
from formwright.fitting.records import Trial
from formwright.fitting.task import find_task
from formwright.models import create_model, from_pretrained
from formwright.models.pretrained import read_pretrained
from formwright.resizing import LARGEST_BOX, Resizing
from formwright.shapes import PictureShape
from tests.fitting.sample import few_candidates
from tests.models.test_checkpoints import as_timm

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
RESIZING = Resizing("short_side", "bilinear", 0.875)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of pictures of 44 x 60 pixels: bright at the top, or at the left."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[0:44, 0:60]
    for name, ramp in (("left", 1 - columns / 60), ("top", 1 - rows / 44)):
        (folder / name).mkdir()
        for index in range(60):
            values = 90 * ramp[..., None] + random.normal(60, 12, (44, 60, 3)) + random.uniform(0, 40, 3)
            Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(folder / name / f"{index}.png")
    return folder


def saved(folder, mean=MEAN, std=STD, size=(32, 32), resizing=RESIZING, *, seed=0, dim=16, **changes):
    """A small convolutional network as a folder of ours."""
    torch.manual_seed(seed)
    options = {"dims": (dim, 2 * dim), "depths": (1, 1), "classes": 3, "image_size": size, **changes}
    create_model("convnext_tiny", **options).save_pretrained(folder)
    if mean is not None:
        PicturePreparation(size, len(mean), mean, std, ("a", "b", "c"), resizing).save(folder)
    return folder


@pytest.fixture(scope="module")
def convnext(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("weights") / "small-convnext")


def task_of(path, *weights):
    return find_task(path, None, {})[0].read(path, Reading(weights=[read_pretrained(one) for one in weights]))


def notes_of(task):
    return " ".join(task.data.notes)


# Preparing


def test_the_weights_decide_on_size_filter_cut_and_values(photos, convnext):
    task = task_of(photos, convnext)
    data = task.data
    assert data.content.size == (32, 32)
    assert data.preparation == PicturePreparation((32, 32), 3, MEAN, STD, ("left", "top"), RESIZING)
    first = next(iter(data.evaluation_batches("train", batch_size=1))).inputs[0]
    file = photos / data.content.files[data.content.split.train[0]]
    with Image.open(file) as image:
        whole = image.resize((49, 36), Image.Resampling.BILINEAR).crop((8, 2, 40, 34))
    expected = (np.asarray(whole, np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
    np.testing.assert_allclose(first.permute(1, 2, 0).numpy(), expected, atol=1e-4)
    np.testing.assert_allclose(data.preparation.read(file), first.numpy(), atol=1e-4)
    assert "32 x 32 pixels (as for the weights: the middle, 0.875 of its sides, bilinear)" in notes_of(task)
    assert f"those of {convnext}" in notes_of(task)
    facts = dict(data.facts(json.loads(json.dumps(data.describe()))))
    assert facts["prepared by"] == (
        "the middle, 0.875 of its sides, bilinear; less 0.5, 0.4, 0.3, divided by 0.2, 0.25, 0.3"
    )
    plain = task_of(photos).data
    assert plain.content.size == (44, 60)
    assert "prepared" not in plain.describe()


def test_small_pictures_stay_small(photos, tmp_path):
    large = saved(tmp_path / "large", size=(96, 96))
    task = task_of(photos, large)
    assert task.data.content.size == (44, 60)
    assert task.data.content.resizing == LARGEST_BOX
    assert task.data.content.mean == MEAN
    assert "the 96 x 96 of the weights would enlarge them more than twice" in notes_of(task)
    deep = saved(tmp_path / "deep", size=(96, 96), dims=(8, 8, 8, 8, 8), depths=(1, 1, 1, 1, 1))
    assert task_of(photos, deep).data.content.size == (96, 96)  # of 44 pixels, nothing would be left
    half = task_of(photos, saved(tmp_path / "half", size=(88, 88)))
    assert half.data.content.size == (88, 88)


def test_arrays_are_prepared_as_files(photos, convnext, tmp_path):
    files = sorted(photos.glob("*/*.png"))
    images = np.stack([np.asarray(Image.open(file)) for file in files])
    np.savez(tmp_path / "photos.npz", images=images, labels=[file.parent.name == "top" for file in files])
    content = task_of(tmp_path / "photos.npz", convnext).data.content
    of_files = task_of(photos, convnext).data.content
    order = [files.index(photos / name) for name in of_files.files]
    np.testing.assert_array_equal(content.images[order], of_files.images)
    assert content.resizing == RESIZING


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_are_those_of_the_weights(photos, channels, tmp_path):
    mean, std = (0.5,) * channels, (0.25,) * channels
    weights = saved(tmp_path / "weights", mean, std, channels=channels)
    grey = tmp_path / "grey"
    for file in photos.glob("*/*.png"):
        (grey / file.parent.name).mkdir(parents=True, exist_ok=True)
        Image.open(file).convert("L").save(grey / file.parent.name / file.name)
    for path in (photos, grey):
        task = task_of(path, weights)
        assert task.data.content.channels == task.data.preparation.channels == channels
        proposal = task.space.from_weights(task.data.weights[0].specification, 0)[0]
        assert create_model(proposal.specification)(task.data.example(2)).shape == (2, 2)


def test_weights_that_say_nothing_get_what_there_is(photos, convnext, tmp_path):
    silent = saved(tmp_path / "silent", None, None, seed=1)
    alone = task_of(photos, silent)
    assert alone.data.content.mean == task_of(photos).data.content.mean
    assert f"Nothing says how pictures were prepared for {silent}: it is done without weights." in notes_of(alone)
    beside = task_of(photos, silent, convnext)
    assert beside.data.content.mean == MEAN
    assert f"prepared for {silent}: it gets the same ones" in notes_of(beside)


def test_other_means_are_made_up_for(photos, convnext, tmp_path):
    other = saved(tmp_path / "other", (0.3, 0.6, 0.5), (0.5, 0.1, 0.2), size=(48, 48), seed=2)
    task = task_of(photos, convnext, other)
    assert task.data.content.size == (32, 32)
    assert task.data.content.mean == MEAN
    assert f"{other} was trained with others, and gets its own values from these" in notes_of(task)
    pixels = torch.rand(2, 3, 32, 32)
    given, own = (
        (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        for mean, std in ((MEAN, STD), ((0.3, 0.6, 0.5), (0.5, 0.1, 0.2)))
    )
    with torch.inference_mode():
        expected = from_pretrained(other)(own)
        assert torch.allclose(task.data.weights[1].model()(given), expected, atol=1e-4)
        assert not torch.allclose(from_pretrained(other)(given), expected, atol=1e-2)


def test_patches_of_timm_get_their_own_values_too(photos, convnext, tmp_path):
    model = create_model("vit_tiny_patch16_224", image_size=64, classes=5)
    folder = tmp_path / "vit"
    folder.mkdir()
    save_file(as_timm(model), folder / "model.safetensors")
    prepared = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "input_size": [3, 64, 64]}
    config = {"architecture": "vit_tiny_patch16_224", "num_classes": 5, "pretrained_cfg": prepared}
    (folder / "config.json").write_text(json.dumps(config))
    assert task_of(photos, folder).data.content.size == (64, 64)
    task = task_of(photos, convnext, folder)
    bench = Bench(task, tmp_path / "run", seed=0, threads=1)
    proposal = task.space.from_weights(task.data.weights[1].specification, 1)[1]
    recipe = {**dataclasses.asdict(proposal.recipe), "groups": ()}
    trial = Trial(0, proposal.name, proposal.family, proposal.choices, proposal.specification.to_dict(), recipe)
    built = bench.build(trial).state_dict()
    assert torch.equal(built["backbone.embed.embed.conv.weight"], model.state_dict()["backbone.embed.conv.weight"])
    assert any(group.pattern.startswith("backbone.embed") for group in proposal.recipe.groups)


# Refusing


def test_what_does_not_go_together_is_refused(photos, convnext, tmp_path, capsys):
    grey = saved(tmp_path / "grey", (0.5,), (0.2,), channels=1)
    five = saved(tmp_path / "five", None, None, channels=5)
    means = saved(tmp_path / "means")
    broken = saved(tmp_path / "broken")
    texts = tmp_path / "texts"
    create_model("bert_tiny", classes=2).save_pretrained(texts)
    PicturePreparation((32, 32), 1, (0.5,), (0.2,), ("a",)).save(means)
    record = json.loads((broken / "preprocessing.json").read_text())
    (broken / "preprocessing.json").write_text(json.dumps({**record, "std": [0.2, 0.0, 0.2]}))
    for given, says in (
        ([convnext, grey], f"{grey} takes pictures of 1 channels and {convnext} those of 3"),
        ([five], "takes pictures of 5 channels"),
        ([means], "states 1 means for pictures of 3 channels"),
        ([broken], "does not say how pictures are prepared (deviations of 0.2, 0, 0.2; above 0 is expected)"),
        ([texts], "and pictures are to be learned"),
    ):
        arguments = [text for one in given for text in ("--weights", str(one))]
        with pytest.raises(SystemExit) as ended:
            main(["fit", str(photos), *arguments, "--out", str(tmp_path / "run"), "-y"])
        assert ended.value.code == 2
        assert says in " ".join(capsys.readouterr().err.split())
        assert not (tmp_path / "run").exists()


# Whole runs


@pytest.fixture
def few(short_runs, monkeypatch):
    few_candidates(monkeypatch, "image-classification", ("poolformer",), PictureShape, (8,))


def test_a_checkpoint_is_fitted_shipped_and_predicts_files(photos, convnext, tmp_path, few):
    root = tmp_path / "run"
    result = fit(photos, out=root, max_time=14, threads=1, weights=convnext)
    frozen, tuned = result.trials[:2]
    assert frozen.name == "small-convnext, your weights, a new classifier on its features"
    assert frozen.score > 0.9
    assert tuned.curve
    preparation = PicturePreparation.load(root)
    assert (preparation.mean, preparation.std, preparation.resizing) == (MEAN, STD, RESIZING)
    assert result.test["accuracy"] > 0.9
    files = [str(photos / name) for name in ("left/3.png", "top/5.png", "top/7.png")]
    assert [one.label for one in predict(root, files)] == ["left", "top", "top"]
    model = from_pretrained(root)
    with torch.inference_mode():
        inputs = torch.from_numpy(np.stack([preparation.read(file) for file in files]))
        expected = model(inputs).softmax(-1).max(-1).values.numpy()
    if result.shipped.precision == "float32":
        assert [one.probability for one in predict(root, files)] == pytest.approx(expected.tolist(), abs=1e-3)
    assert "the middle, 0.875 of its sides, bilinear" in (root / "report.html").read_text()
    (tmp_path / "steps.yaml").write_text("steps: [quantise_weights]\n")
    report = compress_folder(root, tmp_path / "steps.yaml", out=tmp_path / "small", threads=1)
    assert report["after"]["validation"] > 0.85
    assert PicturePreparation.load(tmp_path / "small") == preparation


def test_a_checkpoint_that_misses_the_budget_teaches(photos, tmp_path, few):
    large = saved(tmp_path / "large", dim=64)
    root = tmp_path / "run"
    result = fit(photos, out=root, max_time=16, max_size="150kB", threads=1, weights=large)
    step = next(step for step in result.shrink if step.name == teaching.TAUGHT)
    assert step.tried
    assert step.kept is (root / "checkpoints" / "answers.safetensors").is_file()
    assert result.trials[0].teacher
    assert result.trials[1].teacher
    assert result.shipped.size <= 150_000
    assert PicturePreparation.load(root).mean == MEAN


def test_a_killed_run_goes_on_with_the_same_numbers_and_several_race(photos, convnext, tmp_path, few, monkeypatch):
    other = saved(tmp_path / "other", (0.3, 0.6, 0.5), (0.5, 0.1, 0.2), seed=2)

    class Killed(BaseException):
        pass

    def die(*args, **options):
        raise Killed

    options = {"out": tmp_path / "run", "max_time": 18, "threads": 1, "weights": [convnext, other]}
    with monkeypatch.context() as patch:
        patch.setattr(run, "finish_winner", die)
        with pytest.raises(Killed):
            fit(photos, **options)
    before = json.loads((tmp_path / "run" / "run.json").read_text())
    result = fit(photos, **options, resume=True)
    assert [trial.proposal["weights"] for trial in result.trials[:4]] == [0, 0, 1, 1]
    for trial, known in zip(result.trials[:4], before["trials"], strict=False):
        assert trial.proposal == known["proposal"]
        assert [dataclasses.asdict(point) for point in trial.curve[: len(known["curve"])]] == known["curve"]
        assert known["curve"] or not trial.fitted
    assert result.trials[2].score > 0.9
    with pytest.raises(UserError):
        fit(photos, **{**options, "weights": [convnext]}, resume=True)

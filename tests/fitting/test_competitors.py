"""Simple competitors are candidates, averages too, and what is chosen learns once more."""

from __future__ import annotations

import dataclasses
import json
import math
from functools import partial

import numpy as np
import onnx
import pytest
import torch

from formwright.candidates import CANDIDATES
from formwright.data.augmentation import Augmentation
from formwright.deployment import predict
from formwright.deployment.runtime import OnnxModel
from formwright.fitting import final, fit, race, run
from formwright.fitting.ensembles import Found, average, find_members, with_mirror_images
from formwright.fitting.metric import ACCURACY
from formwright.fitting.task import find_task
from formwright.models import create_model, from_pretrained
from formwright.models.topologies.ensemble import EnsembleSpec
from formwright.open_choices import Categorical
from formwright.shapes import LabelledShape, PictureShape, TextShape
from formwright.training.evaluation import runner
from tests.fitting import sample
from tests.fitting.test_race import bench_of, with_trials
from tests.fitting.test_report import Page
from tests.fitting.test_tasks import LINES

NAME = "logistic regression on n-grams"
#: All candidates, whatever a fixture leaves of them.
EVERY = {task: dict(families) for task, families in CANDIDATES.items()}


@pytest.fixture
def table(tmp_path):
    (tmp_path / "table.tsv").write_text(LINES)
    return tmp_path / "table.tsv"


def fitted_model(task, family: str):
    """The simple competitor of a task, after its solver."""
    proposal = task.space.propose(family, **task.space.ladder(family)[-1])
    model = create_model(proposal.specification).eval()
    entry = task.space.families[family]
    entry.fit(model, partial(task.data.some, ("train",)), 0)
    assert proposal.name.startswith(entry.called)
    return model


@pytest.mark.parametrize(
    ("name", "family", "least"),
    [
        (None, "pixels", 0.93),
        (None, "gradients", 0.96),
        ("table.tsv", "ngram_regression", 0.95),
        ("series-classification", "spectrum", 0.9),
    ],
)
def test_a_solver_finds_weights_that_answer(table, name, family, least):
    path = table if name == "table.tsv" else None
    task = find_task(path, name if name and path is None else None, {})[0].read(path)
    model = fitted_model(task, family)
    assert task.goal.score(runner(model), "val") >= least
    assert task.goal.score(runner(model), "test") >= least


def test_every_simple_competitor_has_a_name_and_none_is_the_plain_model():
    entries = [entry for families in CANDIDATES.values() for entry in families.values() if entry.fit is not None]
    assert len(entries) >= 4
    assert all(entry.called and not entry.plain for entry in entries)


def few_candidates(monkeypatch, task: str, families, shape, widths) -> None:
    monkeypatch.setitem(CANDIDATES, task, EVERY[task])
    sample.few_candidates(monkeypatch, task, families, shape, widths)


def crippled(monkeypatch, task: str, families, shape, widths):
    """Few candidates whose networks learn nothing."""
    few_candidates(monkeypatch, task, families, shape, widths)
    for name, entry in CANDIDATES[task].items():
        if entry.fit is None:
            recipe = {**entry.recipe, "optimizer": "sgd", "learning_rate": 1e-9}
            monkeypatch.setitem(CANDIDATES[task], name, dataclasses.replace(entry, recipe=recipe))


def test_the_simple_competitor_is_shipped_where_no_network_is_better(table, short_runs, monkeypatch):
    crippled(monkeypatch, "text-classification", ("encoder", "ngram_regression"), TextShape, (16,))
    root = table.parent / "run"
    result = fit(table, out=root, max_time=8, threads=1, label_column="2")
    trial = next(trial for trial in result.trials if trial.number == result.shipped.trial)
    assert trial.fitted
    assert result.test["accuracy"] > 0.9
    assert result.agreement.same_answer == 1.0
    assert NAME not in {baseline.name for baseline in result.baselines}
    assert "plain Transformer" in {baseline.name for baseline in result.baselines}
    words = Page((root / "report.html").read_text(encoding="utf-8")).words
    assert "Logistic regression on n-grams was the best within the budget; no network beat it" in words
    assert "figures are those of scored.onnx" in words
    answer = predict(root, ["this fine film was good"])[0]
    assert answer.label == "1"
    model = from_pretrained(root)
    assert model.specification.family == "ngram_regression"


def test_few_samples_are_learned_whole_and_the_score_belongs_to_another_file(table, short_runs, monkeypatch):
    crippled(monkeypatch, "text-classification", ("ngram_regression",), TextShape, (16,))
    root = table.parent / "run"
    result = fit(table, out=root, max_time=8, threads=1, label_column="2")
    assert (result.scored, result.learned) == ("scored.onnx", ["train", "val", "test"])
    files = [root / name for name in ("model.onnx", "scored.onnx")]
    assert files[0].read_bytes() != files[1].read_bytes()
    assert onnx.load(root / result.shipped.file).graph == onnx.load(files[0]).graph
    task = find_task(table, None, {})[0].read(table)
    score = task.goal.score(OnnxModel(files[1]).on_tensors, "test")
    assert score == pytest.approx(result.test["accuracy"])
    assert sum("scored.onnx" in note for note in result.notes) == 1
    values = json.loads((root / "metrics.json").read_text())
    assert values["scored"] == "scored.onnx"


def test_many_samples_keep_the_test_part_apart(tmp_path, short_runs, monkeypatch):
    few_candidates(monkeypatch, "image-classification", ("poolformer", "pixels"), PictureShape, (8,))
    result = fit(out=tmp_path / "run", max_time=10, threads=1)
    assert (result.scored, result.learned) == ("model.onnx", ["train", "val"])
    assert not (tmp_path / "run" / "scored.onnx").exists()
    assert sum(note.startswith("What was chosen learned once more") for note in result.notes) == 1


@pytest.mark.parametrize("stage", [final.LEARNED, final.WHOLE])
def test_a_run_that_is_killed_while_it_learns_the_rest_goes_on(table, short_runs, monkeypatch, stage):
    crippled(monkeypatch, "text-classification", ("encoder", "ngram_regression"), TextShape, (16,))

    class Killed(BaseException):
        pass

    from formwright.fitting import exports

    write = exports.write

    def die(bench, model, label, *rest):
        if label == stage:
            raise Killed
        return write(bench, model, label, *rest)

    options = {"out": table.parent / "run", "max_time": 8, "threads": 1}
    with monkeypatch.context() as patch:
        patch.setattr(exports, "write", die)
        with pytest.raises(Killed):
            fit(table, **options)
    result = fit(table, **options, resume=True)
    assert result.scored == "scored.onnx"
    again = fit(table, out=table.parent / "other", max_time=8, threads=1)
    assert result.test["accuracy"] == again.test["accuracy"]


def test_a_competitor_that_misses_the_budget_stands_beside_what_is_shipped(tmp_path, short_runs, monkeypatch):
    few_candidates(monkeypatch, "image-classification", ("poolformer", "kernel"), PictureShape, (8,))
    wide = dataclasses.replace(CANDIDATES["image-classification"]["kernel"], choices={"centres": Categorical((1024,))})
    monkeypatch.setitem(CANDIDATES["image-classification"], "kernel", wide)
    result = fit(out=tmp_path / "run", max_time=8, max_size="150kB", threads=1)
    kernel = next(trial for trial in result.trials if trial.fitted)
    assert kernel.teacher
    assert kernel.score > 0.9
    assert kernel.family not in {one.form for one in result.variants}
    assert result.budget_met
    assert any(baseline.name == "kernel logistic regression" for baseline in result.baselines)


# The average of the best few


def probabilities(right: np.ndarray) -> np.ndarray:
    """Of two classes, of which the first is right; sure where right, less so where wrong."""
    first = np.where(right, 0.9, 0.3)
    return np.stack([first, 1 - first], axis=1)


def scores(values: np.ndarray) -> np.ndarray:
    return (values.argmax(1) == 0).astype(float)


def test_those_who_err_elsewhere_are_averaged():
    numbers = np.arange(200)
    candidates = [probabilities(numbers % 5 != 0), probabilities(numbers % 5 != 1), probabilities(numbers % 5 > 1)]
    free = [(0.0,)] * 3
    found = find_members(candidates, scores, free, [1.0])
    assert found.members == [0, 1]
    assert found.gain == pytest.approx(0.2)
    assert found.better
    costly = find_members(candidates, scores, [(0.4,), (0.7,), (0.7,)], [1.0])
    assert (costly.members, costly.better) == ([0], False)


def test_a_gain_within_chance_is_none():
    right = np.ones(100, bool)
    right[:10] = False
    other = ~right
    other[1:] = True  # errs at none but the first of those, so that the average gains one sample
    found = find_members([probabilities(right), probabilities(right | (np.arange(100) == 3))], scores, [()] * 2, [])
    assert found.members[0] == 1
    assert not found.better


def test_mirror_images_are_asked_about_where_that_pays():
    numbers = np.arange(200)
    plain, elsewhere = probabilities(numbers % 5 != 0), probabilities(numbers % 5 != 1)
    alone = Found([2], 0.0, 0.0)
    found = with_mirror_images(alone, plain, elsewhere, plain, scores)
    assert (found.members, found.mirrored, found.better) == ([2], True, True)
    assert found.gain == pytest.approx(0.2)
    assert with_mirror_images(alone, plain, plain, plain, scores) is alone


def test_a_network_is_asked_about_both_images(tmp_path):
    member = create_model("resnet18", depths=(1, 1), dims=(8, 8), classes=3, image_size=16).eval()
    specification = EnsembleSpec(
        family="ensemble",
        name="e",
        task="image-classification",
        members=(member.specification.to_dict(),),
        mirrored=True,
    )
    network = create_model(specification).eval()
    network.members[0].load_state_dict(member.state_dict())
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        expected = (member(x).softmax(-1) + member(x.flip(-1)).softmax(-1)) / 2
        torch.testing.assert_close(network(x).exp(), expected)
        torch.testing.assert_close(network(x.flip(-1)), network(x))
        network.save_pretrained(tmp_path / "saved")
        torch.testing.assert_close(from_pretrained(tmp_path / "saved").eval()(x), network(x))


def test_no_mirror_image_is_asked_about_beyond_the_limits(tmp_path):
    made = with_trials(tmp_path / "run", 1)
    bench, (trial,) = bench_of(made), made.folder.state.trials
    bench.task.data.augmentation = Augmentation(flip=True)
    made.train_until(trial, 0.1, end=1e9)
    trial.onnx_latency, trial.size, trial.macs = 1.0, 1, 1
    seen = []
    forward = type(bench.trained(trial)).forward
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(bench.trained(trial)), "forward", lambda self, x: (seen.append(1), forward(self, x))[1])
        counts = []
        for limits in ([math.inf] * 3, [1.5, math.inf, math.inf], [math.inf, math.inf, 1.5]):
            seen.clear()
            average(bench, [trial], -1, limits)
            counts.append(len(seen))
    assert counts[1] == counts[2] < counts[0]


def test_an_average_is_shipped_only_beyond_the_tolerance(tmp_path, short_runs, monkeypatch):
    few_candidates(monkeypatch, "image-classification", ("poolformer", "pixels", "gradients"), PictureShape, (8,))
    result = fit(out=tmp_path / "run", max_time=10, threads=1)
    step = next(step for step in result.shrink if step.name == "average of the best few")
    assert step.tried
    averages = [one for one in result.variants if one.form == "ensemble"]
    assert bool(averages) is step.kept
    best = max(one.score for one in result.variants if one.form != "ensemble")
    if result.shipped.form == "ensemble":
        assert result.shipped.score > best


# The plain model


def test_the_plain_model_is_not_cut_while_it_is_tied(tmp_path, monkeypatch):
    made = with_trials(tmp_path / "run")
    trials = made.folder.state.trials
    trials[2].family = "resnet"
    made.folder.state.facts["rungs"] = [{"entrants": 3, "seconds": 0.1, "survivors": 1}]
    results = {0: 0.80, 1: 0.70, 2: 0.79}

    def train(trial, seconds, *, end):
        from formwright.fitting.records import CurvePoint

        trial.curve = [CurvePoint(1, seconds, 1.0, results[trial.number], 0.1)]

    monkeypatch.setattr(made, "train_until", train, raising=False)
    race.race(made, 10.0)
    assert made.folder.state.winner == 2
    assert "as the difference is within chance" in trials[0].reason
    assert "the last to go on had" in trials[1].reason
    assert bench_of(made) is not None


def test_a_tie_is_wider_where_samples_are_few():
    assert ACCURACY.tie(0.9, 100) == pytest.approx(0.03)
    assert ACCURACY.tie(0.9, 1_000_000) == ACCURACY.tolerance
    assert ACCURACY.tie(1.0, 10) == ACCURACY.tolerance
    assert run.REFIT_SHARE < 0.2
    assert LabelledShape.sizes

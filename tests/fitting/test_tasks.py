"""Which task takes which data, and runs of seconds on texts and on language, from reading to predictions."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from formwright.cli import main
from formwright.deployment import predict
from formwright.errors import UserError
from formwright.fitting import FitResult, fit
from formwright.fitting.task import find_task, task_type
from formwright.models import create_model, from_pretrained
from formwright.shapes import LanguageShape, TextShape
from formwright.training.evaluation import runner
from formwright.training.loop import Trainer
from tests.fitting.sample import few_candidates
from tests.fitting.test_report import Page

LINES = "".join(
    f"the {('dull', 'fine')[i % 2]} film number {i} was {('bad', 'good')[i % 2]}\t{i % 2}\n" for i in range(160)
)
PROSE = "".join(f"In the year {1000 + 7 * i} the river rose again, and the town moved uphill.\n" for i in range(400))


@pytest.fixture
def data(tmp_path):
    """One of each kind of data."""
    for label in ("cat", "dog"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        (tmp_path / "texts" / label).mkdir(parents=True)
        for index in range(3):
            Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "pictures" / label / f"{index}.png")
            (tmp_path / "texts" / label / f"{index}.txt").write_text("some words")
    (tmp_path / "table.tsv").write_text(LINES)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "train.tsv").write_text(LINES)
    (tmp_path / "parts" / "test.tsv").write_text(LINES)
    (tmp_path / "book.txt").write_text(PROSE)
    (tmp_path / "tree" / "package").mkdir(parents=True)
    (tmp_path / "tree" / "package" / "code.py").write_text(PROSE)
    (tmp_path / "tree" / "notes.txt").write_text(PROSE)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("pictures", "image-classification"),
        ("texts", "text-classification"),
        ("table.tsv", "text-classification"),
        ("parts", "text-classification"),
        ("book.txt", "language-modelling"),
        ("tree", "language-modelling"),
    ],
)
def test_the_task_is_inferred(data, name, task):
    found, reason = find_task(data / name, None, {})
    assert found.name == task
    assert reason.startswith("a ")
    assert find_task(data / name, "image-classification", {}) == (task_type("image-classification"), "")


def test_what_nobody_recognises_is_refused_with_what_is_read_and_no_data_are_digits(tmp_path):
    (tmp_path / "old.dat").write_bytes("Größe".encode("latin-1") * 9)
    for name, words in (("", "holds nothing that is"), ("missing", "There is no"), ("old.dat", "not recognised")):
        with pytest.raises(UserError, match=f"{words}.*pictures.*running text"):
            find_task(tmp_path / name, None, {})
    assert find_task(None, None, {})[1] == "scikit-learn's digits"


def test_options_belong_to_tasks(data):
    assert find_task(data / "table.tsv", None, {"label_column": "2"})[0].name == "text-classification"
    with pytest.raises(UserError, match="language-modelling has no option --label-column; its options are: --encoding"):
        find_task(data / "book.txt", "language-modelling", {"label_column": "2"})
    with pytest.raises(UserError, match="image-classification has no option --text-column"):
        find_task(data / "pictures", None, {"text_column": "2"})
    with pytest.raises(UserError, match="no task named 'poetry'"):
        find_task(data / "book.txt", "poetry", {})


def page_of(root) -> Page:
    return Page((root / "report.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "family", "better"), [("table.tsv", "bag_of_embeddings", 0.95), ("book.txt", "ngram_decoder", -3.0)]
)
def test_candidates_learn(data, name, family, better):
    task = find_task(data / name, None, {})[0].read(data / name)
    torch.manual_seed(0)
    proposal = task.space.propose(family, width=32, depth=2)
    recipe = dataclasses.replace(proposal.recipe, warmup=5)
    batches = task.data.training_batches(recipe.batch_size, seed=0)
    trainer = Trainer(create_model(proposal.specification), task.goal.objective(recipe), batches, recipe)
    before = task.goal.score(runner(trainer.averaged_model()), "val")
    trainer.train(steps=60)
    after = task.goal.score(runner(trainer.averaged_model()), "val")
    assert before < better < after


def test_a_run_on_texts(data, short_runs, monkeypatch, capsys):
    few_candidates(
        monkeypatch, "text-classification", ("encoder", "bag_of_embeddings", "ngram_regression"), TextShape, (16,)
    )
    root = data / "run"
    result = fit(data / "table.tsv", out=root, max_time=8, threads=1, label_column="2")
    assert (result.task, result.metric["key"]) == ("text-classification", "accuracy")
    assert "majority class" in {baseline.name for baseline in result.baselines}
    told = {trial.name.partition(",")[0] for trial in result.trials} | {one.name for one in result.baselines}
    assert "logistic regression on n-grams" in told
    assert result.agreement.same_answer == 1.0
    values = json.loads((root / "metrics.json").read_text())
    assert FitResult.from_dict(values).to_dict() == values == json.loads(json.dumps(result.to_dict()))
    words = page_of(root).words
    for text in ("a classifier of texts", "160 texts, 2 classes", "plain Transformer", "Where it errs", "some text"):
        assert text in words, text
    assert "--label-column 2" in words
    (data / "one.txt").write_text("this fine film was good")
    answers = predict(root, [str(data / "one.txt"), "such a dull and bad film"])
    assert [answer.file for answer in answers] == [str(data / "one.txt"), "such a dull and bad film"]
    assert all({*answer.probabilities} == {"0", "1"} and answer.label in "01" for answer in answers)
    with pytest.raises(UserError, match=r"There is no file two\.txt"):
        predict(root, ["two.txt"])
    with pytest.raises(UserError, match="An empty text"):
        predict(root, [" "])
    with pytest.raises(SystemExit):
        main(["predict", str(root), "a good one", "--json"])
    assert json.loads(capsys.readouterr().out)[0]["file"] == "a good one"


def test_a_run_on_language(data, short_runs, monkeypatch):
    few_candidates(monkeypatch, "language-modelling", ("decoder",), LanguageShape, (32,))
    monkeypatch.setattr("formwright.fitting.goals.modelling.SAMPLE_TOKENS", 20)
    root = data / "run"
    result = fit(data / "book.txt", out=root, max_time=8, threads=1)
    assert (result.task, result.metric["lower_is_better"]) == ("language-modelling", True)
    bits = result.test["bits_per_byte"]
    assert result.test["nats_per_character"] == pytest.approx(bits * np.log(2))
    unigram, ngram = result.baselines[-2:]
    assert -unigram.score > -ngram.score > 0
    assert result.shipped.score < 0
    assert len(result.details["samples"]) == 3
    assert any(note.startswith("What was chosen learned once more") for note in result.notes)
    assert {sample["prompt"] for sample in result.details["samples"]} < {PROSE[i : i + 40] for i in range(len(PROSE))}
    words = page_of(root).words
    for text in (
        f"{bits:.3f} bits",
        "a model of language",
        "nats per character",
        "What it writes",
        "memory of a stream",
    ):
        assert text in words, text
    short, long = predict(root, ["In the year 1014", str(data / "book.txt")])
    assert (short.bytes, long.bytes) == (15, len(PROSE) - 1)
    assert long.bits_per_byte == pytest.approx(bits, abs=1.0)
    assert from_pretrained(root).specification.input.vocabulary == 258
    assert (root / "tokenizer.json").is_file()


def test_a_text_run_that_was_stopped_is_continued(data, short_runs, monkeypatch):
    few_candidates(monkeypatch, "text-classification", ("bag_of_embeddings",), TextShape, (16,))
    from formwright.fitting import restarts, run

    class Killed(BaseException):
        pass

    def die(*args, **options):
        raise Killed

    monkeypatch.setattr(run, "shrink", die)
    with pytest.raises(Killed):
        fit(data / "table.tsv", out=data / "run", max_time=6, threads=1)
    before = json.loads((data / "run" / "run.json").read_text())
    monkeypatch.undo()
    monkeypatch.setattr(run, "SHORTEST_RUN", 1.0)
    monkeypatch.setattr(restarts, "LENGTHS", ())
    result = fit(data / "table.tsv", out=data / "run", max_time=6, threads=1, resume=True)
    after = {trial.number: trial for trial in result.trials}
    for trial in before["trials"]:
        assert after[trial["number"]].curve[0].score == trial["curve"][0]["score"]
        assert after[trial["number"]].kept == trial["kept"]
    assert (data / "run" / "model.onnx").is_file()

"""Runs that start from what exists: texts and language, with checkpoints in the layout of transformers."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tokenizers
import torch
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from formwright.cli import main
from formwright.data.tokenization import LibraryTokenizer, read_tokenizer, save_tokenizer, train_tokenizer
from formwright.data.vocabulary import fewest_tokens, with_fewer_tokens
from formwright.deployment import predict
from formwright.errors import UserError
from formwright.fitting import fit, run, teaching
from formwright.fitting.bench import Bench
from formwright.fitting.kind import Reading
from formwright.fitting.task import find_task
from formwright.models import create_model, from_pretrained
from formwright.models.pretrained import read_pretrained
from formwright.models.tables import main_directions
from formwright.nn.layers import LoRA
from formwright.shapes import LanguageShape, TextShape
from formwright.training.evaluation import runner
from tests.fitting.sample import few_candidates
from tests.fitting.test_tasks import LINES, PROSE

RECIPE = {"batch_size": 16}
WORDS = sorted({word for line in LINES.splitlines() for word in line.split("\t")[0].split()})


def word_pieces(texts) -> LibraryTokenizer:
    """A tokeniser as BERT's, with special tokens around a text."""
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(texts, trainer)
    ends = [(name, tokenizer.token_to_id(name)) for name in ("[SEP]", "[CLS]")]
    tokenizer.post_processor = processors.BertProcessing(*ends)
    return LibraryTokenizer(tokenizer)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A small BERT in a folder as transformers writes it."""
    folder = tmp_path_factory.mktemp("weights") / "small-bert"
    folder.mkdir()
    tokenizer = word_pieces([*WORDS, "so much better than any other film of the year"])
    torch.manual_seed(0)
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=tokenizer.vocabulary, max_position_embeddings=40, **sizes)
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer.to_json()))
    return folder


@pytest.fixture(scope="module")
def gpt(tmp_path_factory):
    """A small GPT-2 in a folder as transformers writes it."""
    folder = tmp_path_factory.mktemp("weights") / "small-gpt"
    folder.mkdir()
    tokenizer = train_tokenizer([PROSE], vocabulary=300)
    torch.manual_seed(0)
    transformers = pytest.importorskip("transformers")
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}
    config = transformers.GPT2Config(vocab_size=tokenizer.vocabulary, **sizes)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    return folder


@pytest.fixture
def table(tmp_path):
    (tmp_path / "table.tsv").write_text(LINES)
    return tmp_path / "table.tsv"


def task_of(path, *weights, most_bytes=None):
    how = Reading(weights=[read_pretrained(one) for one in weights], most_bytes=most_bytes)
    return find_task(path, None, {})[0].read(path, how)


# Texts


def test_a_checkpoint_brings_its_tokens_and_what_it_puts_around_a_text(table, bert):
    data = task_of(table, bert).data
    tokenizer = read_tokenizer(bert)
    assert data.preparation.special
    row = data.rows["train"][0]
    real = row[row != data.padding]
    assert (real[0], real[-1]) == (tokenizer.encode("", special=True)[0], tokenizer.encode("", special=True)[-1])
    assert real.tolist() == tokenizer.encode(data.content.part("train")[0], special=True)
    cut = data.preparation.maker.rows([tokenizer.encode("the fine film " * 40, special=True)], 16)
    assert cut[0, -1] == real[-1]


def test_a_checkpoint_is_fine_tuned_or_read_by_a_new_classifier_and_shipped(table, bert, short_runs, monkeypatch):
    few_candidates(monkeypatch, "text-classification", ("bag_of_embeddings",), TextShape, (16,))
    root = table.parent / "run"
    result = fit(table, out=root, max_time=14, threads=1, weights=bert)
    names = [trial.name for trial in result.trials]
    assert names[0] == "small-bert, your weights, a new classifier on its features"
    assert names[1] == "small-bert, your weights, fine-tuned"
    frozen, tuned = result.trials[:2]
    assert frozen.fitted
    assert frozen.score > 0.9
    assert tuned.curve
    assert tuned.proposal["head"] == frozen.number
    assert result.test["accuracy"] > 0.9
    assert (root / "tokenizer.json").read_text() != ""
    answer = predict(root, ["the fine film number 7 was good", "the dull film number 12 was bad"])
    assert [one.label for one in answer] == ["1", "0"]
    kept = json.loads((root / "preprocessing.json").read_text())
    assert kept["special"] is True


def test_fine_tuning_begins_with_the_classifier_that_the_solver_found(table, bert, tmp_path):
    from formwright.fitting.fitted import fit_competitor
    from formwright.fitting.records import Trial

    task = task_of(table, bert)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    bench = Bench(task, tmp_path / "run", seed=0, threads=1)
    frozen, tuned = (
        Trial(
            number, p.name, p.family, dict(p.choices), p.specification.to_dict(), {"batch_size": 16}, fitted=not number
        )
        for number, p in enumerate(task.space.from_weights(task.data.weights[0].specification, 0))
    )
    tuned.proposal["head"] = 0
    fit_competitor(bench, frozen)
    model, other = bench.build(tuned), bench.trained(frozen)
    for name, tensor in other.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert task.goal.score(runner(model), "test") > 0.9


def test_a_teacher_that_misses_the_budget_is_asked_once_and_teaches(table, bert, short_runs, monkeypatch):
    few_candidates(monkeypatch, "text-classification", ("text_cnn",), TextShape, (8,))
    root = table.parent / "run"
    result = fit(table, out=root, max_time=14, max_size="30kB", threads=1, weights=bert)
    step = next(step for step in result.shrink if step.name == teaching.TAUGHT)
    assert step.tried
    taught = (root / "checkpoints" / "answers.safetensors").is_file()
    assert step.kept is taught
    assert result.trials[0].teacher
    assert result.trials[1].teacher
    assert result.budget_met
    assert result.shipped.size <= 30_000


def test_answers_are_mixed_with_classes_and_further_texts_are_learned(table, bert):
    from formwright.fitting.kind import TRUE_SHARE, Answers

    data = task_of(table, bert).data
    shares = {part: np.full((count, 2), 0.5, np.float32) for part, count in data.samples_of.items()}
    targets = data.targets(("train", "val"), Answers(shares))
    labels = data.labels("train", "val")
    assert targets[np.arange(len(labels)), labels] == pytest.approx(TRUE_SHARE + (1 - TRUE_SHARE) / 2)
    further = data.further_inputs(30, seed=1)
    assert further.shape == (30, data.preparation.length)
    assert (further == data.further_inputs(30, seed=1)).all()
    assert not (further == data.further_inputs(30, seed=2)).all()
    first, last = data.preparation.maker.around
    assert (further[:, 0] == first[0]).all()
    assert ((further == last[0]).sum(1) == 1).all()
    answers = Answers(shares, further, np.full((30, 2), 0.5, np.float32))
    batches = data.training_batches(10, seed=0, answers=answers)
    assert len(batches) == (data.samples_of["train"] + 30) // 10
    assert next(batches).targets.shape == (10, 2)


def test_a_small_file_gets_a_small_vocabulary_that_splits_the_texts_as_before(table, bert):
    whole, small = task_of(table, bert).data, task_of(table, bert, most_bytes=24_000).data
    assert small.preparation.tokenizer.vocabulary < whole.preparation.tokenizer.vocabulary
    texts = small.content.part("train")
    for text in texts[:20]:
        assert small.preparation.tokenizer.decode(small.preparation.tokenizer.encode(text)) == text
    first, second = (data.weights[0].model()(torch.from_numpy(data.rows["train"])) for data in (whole, small))
    assert torch.allclose(first, second, atol=1e-5)


def test_words_that_are_left_out_are_split_into_pieces_that_are_left():
    tokenizer = word_pieces(["the film the film another", "another thing"])
    rows = [tokenizer.encode("the film", special=True)]
    fewest = fewest_tokens(tokenizer, rows)
    made, kept = with_fewer_tokens(tokenizer, rows, fewest)
    assert made.vocabulary == len(kept) == fewest
    assert made.encode("the film") == [int(np.flatnonzero(kept == id_)[0]) for id_ in tokenizer.encode("the film")]
    assert len(made.encode("another")) > len(tokenizer.encode("another"))
    assert made.decode(made.encode("another")) == "another"
    assert made.encode("x", special=True)[0] == int(np.flatnonzero(kept == tokenizer.encode("", special=True)[0])[0])
    assert fewest_tokens(train_tokenizer([PROSE], vocabulary=300), rows) is None


def test_main_directions_keep_distances_as_far_as_they_go():
    torch.manual_seed(0)
    plane = (torch.randn(50, 3) @ torch.randn(3, 12) + 5).double()
    narrow = main_directions(plane, 3)
    assert torch.allclose(torch.cdist(plane, plane), torch.cdist(narrow, narrow), atol=1e-3)


def test_a_run_with_a_teacher_that_was_killed_goes_on_with_the_same_answers(table, bert, short_runs, monkeypatch):
    few_candidates(monkeypatch, "text-classification", ("text_cnn",), TextShape, (8,))

    class Killed(BaseException):
        pass

    def die(*args, **options):
        raise Killed

    options = {"out": table.parent / "run", "max_time": 14, "max_size": "30kB", "threads": 1, "weights": [bert]}
    with monkeypatch.context() as patch:
        patch.setattr(run, "race", die)
        with pytest.raises(Killed):
            fit(table, **options)
    before = json.loads((table.parent / "run" / "run.json").read_text())
    assert "teach" in before["finished"]
    result = fit(table, **options, resume=True)
    assert [step.name for step in result.shrink].count(teaching.TAUGHT) == 1
    assert result.trials[1].curve[-1].step == before["trials"][1]["curve"][-1]["step"]


def test_several_checkpoints_race_and_another_tokeniser_is_refused(table, bert, gpt, tmp_path, short_runs, monkeypatch):
    other = shutil.copytree(bert, tmp_path / "other")
    few_candidates(monkeypatch, "text-classification", ("bag_of_embeddings",), TextShape, (16,))
    result = fit(table, out=tmp_path / "run", max_time=16, threads=1, weights=[bert, other])
    assert [trial.proposal["weights"] for trial in result.trials[:4]] == [0, 0, 1, 1]
    assert {trial.name.partition(",")[0] for trial in result.trials[:4]} == {"small-bert", "other"}
    with pytest.raises(UserError, match="splits texts into other tokens"):
        task_of(table, bert, gpt)


def test_weights_of_another_task_or_without_tokens_are_refused(table, bert, tmp_path, capsys):
    model = create_model("resnet18", classes=2, image_size=32)
    model.save_pretrained(tmp_path / "pictures")
    bare = shutil.copytree(bert, tmp_path / "bare")
    (bare / "tokenizer.json").unlink()
    wrong = shutil.copytree(bert, tmp_path / "wrong")
    (wrong / "tokenizer.json").write_text(json.dumps(word_pieces(["one", "two"]).to_json()))
    for folder, says in (
        (tmp_path / "pictures", "holds a model for image-classification"),
        (bare, "has no tokeniser"),
        (wrong, "they do not belong together"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["fit", str(table), "--weights", str(folder), "--out", str(tmp_path / "run"), "-y"])
        assert ended.value.code == 2
        assert says in capsys.readouterr().err
        assert not (tmp_path / "run").exists()


# Language


def test_a_model_of_language_learns_on_or_gets_adapters(gpt, tmp_path, short_runs, monkeypatch):
    few_candidates(monkeypatch, "language-modelling", ("decoder",), LanguageShape, (32,))
    monkeypatch.setattr("formwright.fitting.goals.modelling.SAMPLE_TOKENS", 10)
    (tmp_path / "book.txt").write_text(PROSE)
    root = tmp_path / "run"
    result = fit(tmp_path / "book.txt", out=root, max_time=16, threads=1, weights=gpt)
    whole, adapted = result.trials[:2]
    assert whole.name == "small-gpt, your weights, trained on"
    assert adapted.name == "small-gpt, your weights, adapters of rank 8"
    assert any(edit["name"] == "adapt" for edit in adapted.specification["edits"])
    assert whole.curve
    assert adapted.curve
    assert result.test["bits_per_byte"] < 8
    unigram = next(one for one in result.baselines if one.name == "unigram")
    assert 3 < -unigram.score < 5
    short = predict(root, ["In the year 1014 the river rose again"])[0]
    assert short.bits_per_byte > 0
    assert from_pretrained(root).specification.input.vocabulary == read_tokenizer(gpt).vocabulary


def test_a_teacher_of_language_is_asked_at_every_batch(gpt, tmp_path, short_runs, monkeypatch):
    few_candidates(monkeypatch, "language-modelling", ("decoder",), LanguageShape, (8,))
    monkeypatch.setattr("formwright.fitting.goals.modelling.SAMPLE_TOKENS", 10)
    (tmp_path / "book.txt").write_text(PROSE)
    result = fit(tmp_path / "book.txt", out=tmp_path / "run", max_time=14, max_size="32kB", threads=1, weights=gpt)
    assert result.trials[0].teacher
    assert not (tmp_path / "run" / "checkpoints" / "answers.safetensors").exists()
    assert any(trial.teacher and trial.curve for trial in result.trials)


def test_adapters_alone_learn_and_become_part_of_what_is_exported(gpt, tmp_path):
    from formwright.fitting.exports import write
    from formwright.fitting.records import Trial

    (tmp_path / "book.txt").write_text(PROSE)
    task = task_of(tmp_path / "book.txt", gpt)
    bench = Bench(task, tmp_path / "run", seed=0, threads=1)
    proposal = task.space.from_weights(task.data.weights[0].specification, 0)[1]
    recipe = {**proposal.recipe.__dict__, "batch_size": 8}
    trial = Trial(1, proposal.name, proposal.family, proposal.choices, proposal.specification.to_dict(), recipe)
    model = bench.build(trial)
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning
    assert all(name.endswith(("lora_a", "lora_b")) for name in learning)
    ids = torch.from_numpy(task.data.rows["val"][0][:2])
    plain = read_pretrained(gpt).model()(ids)
    assert torch.allclose(model.eval()(ids), plain, atol=1e-5)
    trainer = bench.trainer(trial)
    trainer.train(steps=30)
    tuned = trainer.averaged_model()
    assert not torch.allclose(tuned(ids), plain, atol=1e-3)
    write(bench, tuned, "trained")
    shipped = from_pretrained(tmp_path / "run" / "variants" / "trained")
    assert not any(isinstance(module, LoRA) for module in shipped.modules())
    assert torch.allclose(shipped(ids), tuned(ids), atol=1e-4)


def test_a_model_that_fills_in_masks_does_not_foretell(bert, tmp_path):
    (tmp_path / "book.txt").write_text(PROSE)
    with pytest.raises(UserError, match="that foretells no next token"):
        task_of(tmp_path / "book.txt", bert)

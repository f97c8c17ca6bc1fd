"""Options, names, budgets, folders and checkpoints that are refused, in one sentence each."""

from __future__ import annotations

import json

import pytest
import torch

from formwright.models import create_model


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["fit", "--task", "image-clasification"], "There is no task named 'image-clasification'; did you mean"),
        (["fit", "--threads", "0"], "Invalid value for '--threads'"),
        (["fit", "--threads", "two"], "Invalid value for '--threads'"),
        (["fit", "--seed", "-1"], "a whole number from 0 to 2147483647 (--seed), got -1"),
        (["fit", "--max-time", "5s"], "at least 45 seconds (--max-time), got 5s: give it more"),
        (["fit", "--max-time", "soon"], "'soon' is not a duration: expected a number and a unit of d, h, m, s"),
        (["fit", "--max-latency", "5 parsecs"], "'5 parsecs' is not a latency: expected a number and a unit of s, ms"),
        (["fit", "--max-latency", "-5ms"], "'-5ms' is not a latency"),
        (["fit", "--max-size", "4"], "'4' is not a size"),
        (["fit", "--max-macs", "nan"], "'nan' is not a count"),
        (["fit", "--max-sise", "4MB"], "No such option: --max-sise (Possible options: --image-size, --max-size"),
        (["fit", "a", "b"], "unexpected extra argument"),
        (["fitt"], "No such command 'fitt'"),
        (["predict"], "Missing argument"),
        (["predict", "nowhere", "a.png"], "There is no folder nowhere; give one that a fitted model was shipped to"),
        (["measure", "cct_77"], "There is no model named 'cct_77'; did you mean cct_7_7x2_224"),
        (["measure", "poolformer_s12", "--backend", "onyx"], "There is no backend named 'onyx'; did you mean onnx?"),
        (["measure", "poolformer_s12", "--batch", "0"], "Invalid value for '--batch'"),
        (["measure", "convnext_tiny", "--size", "8"], "8 x 8 is too small for this model"),
        (["list", "nothing*"], "No model matches 'nothing*'; see formwright list"),
        (["list", "--task", "cooking"], "No model for the task 'cooking' matches '*'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_came_is_named_with_what_was_expected(cli, tmp_path, args, words):
    assert words in cli(*args).refusal()
    assert list((tmp_path / "working").iterdir()) == []


def test_a_folder_that_is_not_empty(cli, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    sentence = cli("fit", "--out", tmp_path / "mine").refusal()
    assert sentence == f"The folder {tmp_path / 'mine'} is not empty; choose a new or an empty one (--out)."
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]


def test_a_folder_with_a_run_in_it(cli, tmp_path):
    (tmp_path / "run.json").write_text("{}")
    assert "holds a run already; continue it with --resume" in cli("fit", "--out", tmp_path).refusal()


def test_a_file_instead_of_a_folder(cli, tmp_path):
    (tmp_path / "mine").write_text("")
    assert "mine is a file; give a folder for the results (--out)" in cli("fit", "--out", tmp_path / "mine").refusal()
    assert "could not be written" in cli("fit", "--out", tmp_path / "mine" / "deeper").refusal()


def test_resuming_where_there_is_no_run(cli, tmp_path):
    sentence = cli("fit", "--resume", "--out", tmp_path / "mine").refusal()
    assert sentence == f"There is no run to continue in {tmp_path / 'mine'}; start one without --resume."
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"options": {}, "trials": 5}', '{"trials": [{"a": 1}]}'])
def test_resuming_from_a_damaged_record(cli, tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    sentence = cli("fit", "--resume", "--out", tmp_path).refusal()
    assert "run.json" in sentence


def test_resuming_with_other_options(cli, tmp_path):
    options = {"data": None, "task": "image-classification", "max_latency": 0.005, "max_size": None, "max_macs": None}
    options |= {"max_time": 900.0, "seed": 0, "skip_bad": False, "weights": None}
    record = {"options": options, "trials": [], "shrink": [], "variants": [], "baselines": []}
    (tmp_path / "run.json").write_text(json.dumps(record))
    sentence = cli("fit", "--resume", "--out", tmp_path).refusal()
    assert "was started with --max-latency 5ms, and now no --max-latency is given; continue it with the" in sentence
    sentence = cli("fit", "--resume", "--out", tmp_path, "--max-latency", "5ms", "--seed", "3").refusal()
    assert "was started with --seed 0, and now --seed 3 is given" in sentence
    sentence = cli("fit", "photos", "--resume", "--out", tmp_path, "--max-latency", "5ms").refusal()
    assert "was started with no data (scikit-learn's digits), and now the data" in sentence


def test_a_checkpoint_that_is_missing_or_damaged(cli, tmp_path):
    assert "There is no checkpoint file" in cli("fit", "--weights", tmp_path / "none.pth").refusal()
    (tmp_path / "half.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    assert "half.safetensors is not a whole" in cli("fit", "--weights", tmp_path / "half.safetensors").refusal()
    (tmp_path / "half.pth").write_bytes(b"PK\x03\x04")
    assert "half.pth" in cli("fit", "--weights", tmp_path / "half.pth").refusal()


class Trap:
    """Would run a command when it is unpickled."""

    def __reduce__(self):
        import os

        return os.mkdir, ("sprung",)


def test_a_checkpoint_that_would_run_code_is_refused(cli, tmp_path):
    torch.save({"state_dict": {"weight": torch.ones(2)}, "args": Trap()}, tmp_path / "trap.pth")
    sentence = cli("fit", "--weights", tmp_path / "trap.pth").refusal()
    assert "holds more than plain tensors, and reading it could run code of its author; it is refused" in sentence
    assert "safetensors" in sentence
    assert list((tmp_path / "working").iterdir()) == []


def test_a_checkpoint_of_another_model(cli, tmp_path):
    torch.save({"model": {"layers.0.weight": torch.ones(3, 3)}}, tmp_path / "other.pth")
    sentence = cli("fit", "--weights", tmp_path / "other.pth").refusal()
    assert "other.pth belongs to none of the registered models" in sentence


def test_a_saved_model_whose_weights_do_not_fit(cli, tmp_path):
    create_model("cct_2_3x2_32", classes=3).save_pretrained(tmp_path / "one")
    create_model("cct_2_3x2_32", dim=64, heads=2, classes=3).save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").replace(tmp_path / "one" / "model.safetensors")
    sentence = cli("measure", tmp_path / "one").refusal()
    assert "of another shape" in sentence


def test_a_model_of_another_size_than_it_was_built_for(cli, tmp_path):
    create_model("cct_2_3x2_32", classes=3).save_pretrained(tmp_path / "one")
    sentence = cli("measure", tmp_path / "one", "--size", "64").refusal()
    assert "made for 64 tokens (8 x 8)" in sentence
    assert "build the model for this input size" in sentence


def test_help_is_no_mistake(cli):
    answer = cli()
    assert answer.code == 0
    assert "measure" in answer.out
    assert answer.err == ""

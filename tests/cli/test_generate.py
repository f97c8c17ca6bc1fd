"""formwright generate: texts on standard output, figures on standard error, refusals in a sentence."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from formwright.data.tokenization import ByteTokenizer, save_tokenizer, train_tokenizer
from formwright.models import create_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    create_model("decoder_tiny", dim=16, depth=1, heads=2).save_pretrained(tmp_path / "model")
    save_tokenizer(ByteTokenizer(), tmp_path / "model")
    return tmp_path / "model"


def test_a_text_goes_on(cli, folder):
    answer = cli("generate", folder, "--prompt", "Once ", "--max-tokens", "20", "--seed", "1")
    assert answer.code == 0
    assert answer.out.startswith("Once ")
    assert answer.err.startswith("20 tokens in")
    quiet = cli("generate", folder, "--prompt", "Once ", "--max-tokens", "20", "--seed", "1", "--quiet")
    assert (quiet.out, quiet.err) == (answer.out, "")
    other = cli("generate", folder, "--prompt", "Once ", "--max-tokens", "20", "--seed", "2", "--quiet")
    assert other.out != answer.out


def test_several_texts_as_json(cli, folder):
    options = ("--max-tokens", "7", "--temperature", "0", "--json")
    both = json.loads(cli("generate", folder, "-p", "one", "-p", "another", *options).out)
    assert [row["prompt"] for row in both["texts"]] == ["one", "another"]
    assert both["steps"] == 7
    for row in both["texts"]:
        alone = json.loads(cli("generate", folder, "-p", row["prompt"], *options).out)
        assert alone["texts"] == [row]


def test_several_texts_one_below_the_other(cli, folder):
    out = cli("generate", folder, "-p", "one", "-p", "two", "--max-tokens", "1", "--temperature", "0", "-q").out
    assert out.startswith("one")
    assert "\n\ntwo" in out


def test_the_prompt_from_standard_input(cli, folder, monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO("Bär\xff".encode("latin-1"))))
    row = json.loads(cli("generate", folder, "--prompt", "-", "--max-tokens", "3", "--json").out)["texts"][0]
    assert row["prompt"] == "B\ufffdr\ufffd"


def test_a_stop_text_ends_it(cli, folder):
    options = ("generate", folder, "-p", "Once ", "--max-tokens", "200", "--json")
    free = json.loads(cli(*options).out)
    first = next(letter for letter in free["texts"][0]["text"] if letter.isascii())
    stopped = json.loads(cli(*options, "--stop", first).out)
    assert stopped["steps"] < free["steps"]
    assert first not in stopped["texts"][0]["text"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--prompt", ""], "A prompt is empty"),
        (["--prompt", "a", "--stop", "ab"], "'ab' is 2 tokens of this model"),
        (["--prompt", "a", "--temperature", "-1"], "temperature must be 0"),
        (["--prompt", "a", "--top-p", "2"], "top_p must be above 0"),
        (["--prompt", "a", "--max-tokens", "0"], "Invalid value for '--max-tokens'"),
        ([], "Missing option '--prompt'"),
    ],
)
def test_what_cannot_be_done_is_said(cli, folder, options, words):
    assert words in cli("generate", folder, *options).refusal()


def test_folders_without_a_model_or_tokeniser(cli, folder, tmp_path):
    assert "There is no folder nowhere" in cli("generate", "nowhere", "-p", "a").refusal()
    (folder / "tokenizer.json").unlink()
    assert "There is no tokeniser" in cli("generate", folder, "-p", "a").refusal()
    (tmp_path / "other.json").write_text(json.dumps(train_tokenizer(["text"], 400).to_json()))
    answer = cli("generate", folder, "-p", "a", "--tokenizer", tmp_path / "other.json", "--max-tokens", "2")
    assert "do not belong together" in answer.refusal()


def test_a_model_that_writes_no_text(cli, tmp_path):
    create_model("encoder_tiny", dim=16, depth=1, heads=2).save_pretrained(tmp_path)
    save_tokenizer(ByteTokenizer(), tmp_path)
    assert "made for text-classification and writes no text" in cli("generate", tmp_path, "-p", "a").refusal()


def test_an_encoder_decoder_answers_without_repeating_what_it_read(cli, tmp_path):
    torch.manual_seed(0)
    options = {"dim": 16, "depth": 1, "heads": 2, "hidden": 24, "vocabulary": 258, "padding": 257, "start": 257}
    create_model("t5_small", end=256, **options).save_pretrained(tmp_path)
    save_tokenizer(ByteTokenizer(), tmp_path)
    settings = ("--max-tokens", "6", "--seed", "1", "--quiet")
    answer = cli("generate", tmp_path, "--prompt", "Once upon", *settings)
    assert answer.code == 0
    assert answer.out.strip()
    assert "Once upon" not in answer.out
    both = cli("generate", tmp_path, "-p", "Once upon", "-p", "a", "--json", *settings)
    row = json.loads(both.out)["texts"][0]
    assert row["prompt"] == "Once upon"
    assert row["text"] == answer.out.removesuffix("\n")

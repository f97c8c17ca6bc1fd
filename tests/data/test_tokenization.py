"""Tokenisers: texts come back, files round trip, and a tokeniser of another model is noticed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer as LibrarysOwn
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from formwright.data.tokenization import (
    ByteTokenizer,
    LibraryTokenizer,
    Tokenizer,
    decode_text,
    read_tokenizer,
    save_tokenizer,
    train_tokenizer,
)
from formwright.errors import UserError
from formwright.models import create_model

TEXTS = ["the cat sat on the mat, the cat sat", "der Bär fängt Fische 🐟 und frißt sie", ""]
TRAINED = train_tokenizer(TEXTS, 280)
each_tokenizer = pytest.mark.parametrize("tokenizer", [ByteTokenizer(), TRAINED], ids=["bytes", "trained"])


@each_tokenizer
@pytest.mark.parametrize("text", [*TEXTS, "never seen: 漢字\n\ttabs  and spaces "])
def test_texts_come_back(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert all(0 <= id_ < tokenizer.vocabulary for id_ in ids)
    stream = tokenizer.stream()
    assert "".join(map(stream, ids)) == text
    assert tokenizer.encode(text.encode()) == ids


@each_tokenizer
def test_special_tokens_are_no_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.end is not None
    assert tokenizer.padding is not None
    assert tokenizer.decode([*tokenizer.encode("ab"), tokenizer.end, tokenizer.padding]) == "ab"


def test_bytes_that_make_no_character() -> None:
    assert ByteTokenizer().encode(b"a\xff") == [97, 255]
    assert ByteTokenizer().decode([97, 255, 98]) == "a\ufffdb"
    with pytest.raises(UserError, match="byte 0xff at place 1"):
        TRAINED.encode(b"a\xff")
    with pytest.raises(UserError, match=r"notes\.txt is not UTF-8"):
        decode_text(b"\xe4\xf6", "notes.txt")
    assert decode_text(b"\xef\xbb\xbfa") == "a"


def test_frequent_pieces_become_tokens() -> None:
    assert TRAINED.vocabulary == 280
    assert len(TRAINED.encode("the cat")) < len(b"the cat")


@each_tokenizer
def test_files_round_trip(tokenizer: Tokenizer, tmp_path: Path) -> None:
    save_tokenizer(tokenizer, tmp_path)
    again = read_tokenizer(tmp_path / "tokenizer.json")
    assert again.fingerprint == tokenizer.fingerprint
    assert again.encode(TEXTS[1]) == tokenizer.encode(TEXTS[1])


def test_any_file_of_the_library_is_read(tmp_path: Path) -> None:
    words = LibrarysOwn(WordLevel({"hello": 0, "world": 1, "</s>": 2, "[UNK]": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    words.enable_padding(length=9)
    words.save(str(tmp_path / "words.json"))
    tokenizer = read_tokenizer(tmp_path / "words.json")
    assert tokenizer.encode("hello world") == [0, 1]
    assert (tokenizer.vocabulary, tokenizer.end, tokenizer.padding) == (4, 2, None)


def test_a_tokeniser_of_another_model_is_noticed(tmp_path: Path) -> None:
    model = create_model("decoder_tiny", dim=16, depth=1, heads=2)
    model.save_pretrained(tmp_path)
    save_tokenizer(ByteTokenizer(), tmp_path)
    assert isinstance(read_tokenizer(tmp_path), ByteTokenizer)
    (tmp_path / "tokenizer.json").write_text(json.dumps(TRAINED.to_json()))
    with pytest.raises(UserError, match="not the tokeniser that the model beside it was saved with"):
        read_tokenizer(tmp_path)


def test_sizes_that_do_not_fit_are_refused() -> None:
    ByteTokenizer().check_fits(258)
    ByteTokenizer().check_fits(320)
    for vocabulary in (256, 50257):
        with pytest.raises(UserError, match=f"258 tokens and the model {vocabulary}"):
            ByteTokenizer().check_fits(vocabulary)


@pytest.mark.parametrize("content", ["[]", "{}", '{"model": {"type": "nonsense"}}'])
def test_files_that_hold_no_tokeniser_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(UserError, match="tokenise"):
        read_tokenizer(tmp_path)


def test_nothing_to_read_or_to_train_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no tokeniser"):
        read_tokenizer(tmp_path)
    with pytest.raises(UserError, match="no text to train"):
        train_tokenizer(["", ""], 300)
    with pytest.raises(UserError, match="no room"):
        train_tokenizer(TEXTS, 257)


def test_a_library_file_as_text() -> None:
    text = json.dumps(TRAINED.to_json())
    assert LibraryTokenizer(text).fingerprint == TRAINED.fingerprint

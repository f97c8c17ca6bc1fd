"""From text to token ids and back: bytes, or any file of the ``tokenizers`` library.

A tokeniser is saved beside its model as ``tokenizer.json``, and the model's ``config.json`` remembers which it was.
"""

from __future__ import annotations

import codecs
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from formwright.data.encodings import mended
from formwright.errors import UserError
from formwright.files import read_json, write_json

TOKENIZER_FILE = "tokenizer.json"
#: The words of BERT, one per line, and how it splits texts, where there is no ``tokenizer.json``.
VOCABULARY_FILE, TOKENIZER_CONFIG_FILE = "vocab.txt", "tokenizer_config.json"
CONFIG_FILE = "config.json"
#: Special tokens of the tokenisers that are trained here.
END, PADDING = "<|end|>", "<|padding|>"
_END_NAMES = (END, "<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "[SEP]")
_PADDING_NAMES = (PADDING, "<|pad|>", "<pad>", "[PAD]")
BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
#: Models may have this many ids more than their tokeniser, to make the vocabulary a round number.
ROUNDING = 128


class Tokenizer(ABC):
    """Splits text into ids below ``vocabulary``.

    Attributes:
        vocabulary: number of ids.
        end: the id that ends a text, if there is one.
        padding: the id that is no token, if there is one.
    """

    vocabulary: int
    end: int | None
    padding: int | None

    @abstractmethod
    def encode(self, text: str | bytes, *, special: bool = False) -> list[int]:
        """The ids of a text; with ``special`` also the tokens that the tokeniser puts around one, where it does."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; special tokens have none, and bytes that make no character become U+FFFD."""

    @abstractmethod
    def stream(self) -> Callable[[int], str]:
        """A function of each next id: the text that is complete with it, often empty within a character."""

    def pieces(self, steps: Iterable[Sequence[int | None]], rows: int) -> Iterator[list[str]]:
        """The next piece of each row's text, from the next id of each; empty where there is none yet, or no more."""
        decoders = [self.stream() for _ in range(rows)]
        for step in steps:
            yield ["" if id_ is None else decode(id_) for id_, decode in zip(step, decoders, strict=True)]

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """What ``tokenizer.json`` holds."""

    @property
    def fingerprint(self) -> str:
        """The same for equal tokenisers, and different for others."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:16]

    def check_fits(self, vocabulary: int) -> None:
        """Refuse to serve a model of another vocabulary.

        Raises:
            UserError: names both sizes.
        """
        if not self.vocabulary <= vocabulary < self.vocabulary + ROUNDING:
            raise UserError(
                f"The tokeniser has {self.vocabulary} tokens and the model {vocabulary}: they do not belong together; "
                "use the tokenizer.json that was saved with the model."
            )


class ByteTokenizer(Tokenizer):
    """Every byte is a token: any text of any language, nothing to train; 256 ends a text, 257 is padding."""

    vocabulary = 258
    end = 256
    padding = 257

    def encode(self, text: str | bytes, *, special: bool = False) -> list[int]:
        return list(text if isinstance(text, bytes) else text.encode(errors="surrogateescape"))

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(id_ for id_ in ids if id_ < 256).decode(errors="replace")

    def stream(self) -> Callable[[int], str]:
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        return lambda id_: decoder.decode(bytes([id_])) if id_ < 256 else ""

    def to_json(self) -> dict[str, Any]:
        return {"kind": "bytes"}


class LibraryTokenizer(Tokenizer):
    """A tokeniser of the ``tokenizers`` library.

    Args:
        tokenizer: what it is, or the text of its JSON file.

    Raises:
        UserError: the text is not that of such a file.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer | str) -> None:
        if isinstance(tokenizer, str):
            try:
                tokenizer = tokenizers.Tokenizer.from_str(tokenizer)
            except Exception as error:  # the library raises plain exceptions
                raise UserError(f"This is no tokeniser of the tokenizers library: {error}.") from None
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.vocabulary = self._tokenizer.get_vocab_size(with_added_tokens=True)
        self.end, self.padding = self._first(_END_NAMES), self._first(_PADDING_NAMES)

    def _first(self, names: Iterable[str]) -> int | None:
        found = (self._tokenizer.token_to_id(name) for name in names)
        return next((id_ for id_ in found if id_ is not None), None)

    def encode(self, text: str | bytes, *, special: bool = False) -> list[int]:
        text = decode_text(text) if isinstance(text, bytes) else mended(text)[0]
        return list(self._tokenizer.encode(text, add_special_tokens=special).ids)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids)))

    def stream(self) -> Callable[[int], str]:
        decoder = decoders.DecodeStream(skip_special_tokens=True)
        return lambda id_: decoder.step(self._tokenizer, id_) or ""

    def to_json(self) -> dict[str, Any]:
        return json.loads(self._tokenizer.to_str())


def decode_text(content: bytes, source: str = "The text") -> str:
    """Bytes as UTF-8 text.

    Raises:
        UserError: names the first byte that is no UTF-8 and where it is.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{source} is not UTF-8: byte {content[error.start]:#04x} at place {error.start} makes no character. "
            "Convert it, or use the bytes themselves as tokens, which takes any text."
        ) from None


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> LibraryTokenizer:
    """Byte-pair encoding of the user's own texts: frequent sequences of bytes become tokens.

    Args:
        texts: what the tokens are chosen on.
        vocabulary: number of ids, those of 256 bytes and two special tokens included; fewer if the texts are small.

    Raises:
        UserError: the vocabulary has no room for the bytes, or there is no text.

    Source: Neural Machine Translation of Rare Words with Subword Units, arXiv 1508.07909; on bytes, as GPT-2 does.
    """
    if vocabulary < ByteTokenizer.vocabulary:
        raise UserError(
            f"A vocabulary of {vocabulary} has no room for 256 bytes and 2 special tokens; choose at least 258."
        )
    counted = _NonEmpty(texts)
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END, PADDING],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(counted, trainer)
    if not counted.characters:
        raise UserError("There is no text to train a tokeniser on; give at least one that is not empty.")
    return LibraryTokenizer(tokenizer)


class _NonEmpty:
    """Passes texts on and counts their characters."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = texts
        self.characters = 0

    def __iter__(self) -> Iterator[str]:
        for text in self._texts:
            self.characters += len(text)
            yield text


def read_tokenizer(path: str | Path) -> Tokenizer:
    """Read ``tokenizer.json``, ours or one of the ``tokenizers`` library, or BERT's ``vocab.txt``, or from a folder.

    From a folder with a ``config.json`` that names the tokeniser of its model, no other is accepted.

    Raises:
        UserError: the file is missing, holds no tokeniser, or belongs to another model than its neighbour.
    """
    path = Path(path)
    file = path / TOKENIZER_FILE if path.is_dir() else path
    if not file.is_file() and (path / VOCABULARY_FILE).is_file():
        file = path / VOCABULARY_FILE
    if file.name == VOCABULARY_FILE and file.is_file():
        return _word_pieces(file)
    if not file.is_file():
        raise UserError(f"There is no tokeniser {file}; give a tokenizer.json, or train one.")
    content = read_json(file)
    if isinstance(content, dict) and content.get("kind") == "bytes":
        tokenizer: Tokenizer = ByteTokenizer()
    elif isinstance(content, dict) and "model" in content:
        tokenizer = LibraryTokenizer(json.dumps(content))
    else:
        raise UserError(f"{file} holds no tokeniser: neither ours nor one of the tokenizers library.")
    config = read_json(path / CONFIG_FILE) if (path / CONFIG_FILE).is_file() else {}
    expected = config.get("tokenizer") if isinstance(config, dict) else None
    if path.is_dir() and expected not in (None, tokenizer.fingerprint):
        raise UserError(
            f"{file} is not the tokeniser that the model beside it was saved with; copy the whole folder again."
        )
    return tokenizer


def _word_pieces(file: Path) -> LibraryTokenizer:
    """BERT's tokeniser of a vocabulary, with a ``tokenizer_config.json`` beside it if it is not the usual one.

    Raises:
        UserError: it is no vocabulary of word pieces.

    Source: BERT, arXiv 1810.04805; the order of steps is that of its first tokeniser.
    """
    words = decode_text(file.read_bytes(), str(file)).split("\n")
    vocabulary = {word.rstrip("\r"): index for index, word in enumerate(words) if word or index + 1 < len(words)}
    missing = [token for token in ("[UNK]", "[CLS]", "[SEP]") if token not in vocabulary]
    if missing:
        raise UserError(f"{file} is no vocabulary of BERT: it has no {missing[0]}; give a tokenizer.json.")
    beside = file.parent / TOKENIZER_CONFIG_FILE
    options = read_json(beside) if beside.is_file() else {}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(
        handle_chinese_chars=options.get("tokenize_chinese_chars", True),
        strip_accents=options.get("strip_accents"),
        lowercase=options.get("do_lower_case", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens([token for token in BERT_SPECIAL if token in vocabulary])
    ends = [(token, vocabulary[token]) for token in ("[SEP]", "[CLS]")]
    tokenizer.post_processor = processors.BertProcessing(*ends)
    tokenizer.decoder = decoders.WordPiece()
    return LibraryTokenizer(tokenizer)


def tokenizer_of(file: Path | None, vocabulary: int, source: str) -> Tokenizer:
    """The tokeniser of a checkpoint.

    Args:
        file: where it lies, if there is one.
        vocabulary: how many ids the model has.
        source: what the checkpoint is called.

    Raises:
        UserError: there is none, it cannot be read, or it belongs to another model.
    """
    if file is None:
        raise UserError(f"{source} has no tokeniser; put its tokenizer.json (or BERT's vocab.txt) beside the weights.")
    tokenizer = read_tokenizer(file)
    try:
        tokenizer.check_fits(vocabulary)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: str | Path) -> None:
    """Write ``tokenizer.json``, and its fingerprint into the ``config.json`` of the model in the same folder."""
    folder = Path(folder)
    write_json(folder / TOKENIZER_FILE, tokenizer.to_json())
    if (folder / CONFIG_FILE).is_file():
        write_json(folder / CONFIG_FILE, {**read_json(folder / CONFIG_FILE), "tokenizer": tokenizer.fingerprint})

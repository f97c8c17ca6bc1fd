"""What a shipped classifier of texts expects, and the names of its classes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from formwright.data.tables import decode, read_bytes
from formwright.data.token_rows import RowMaker
from formwright.data.tokenization import Tokenizer, read_tokenizer, save_tokenizer
from formwright.deployment.classes import Prediction, classify
from formwright.deployment.preparation import PREPARATIONS, Preparation
from formwright.deployment.runtime import OnnxModel
from formwright.errors import UserError
from formwright.reporting import SILENT, Reporter

BATCH = 64
#: An argument that ends so and is one word is meant as a file.
_FILE_SUFFIXES = (".txt", ".text", ".md", ".csv", ".tsv", ".json", ".jsonl", ".html")


@PREPARATIONS.register("text-classification")
@dataclass(frozen=True)
class TextPreparation(Preparation):
    """From a text to a row of ids: the tokeniser of ``tokenizer.json``, cut or filled up to ``length``.

    ``labels``: the classes, in the order of the model's outputs. ``special``: whether the tokeniser puts its special
    tokens around a text.
    """

    task: ClassVar[str] = "text-classification"
    of: ClassVar[str] = "texts"

    tokenizer: Tokenizer
    length: int
    labels: tuple[str, ...]
    special: bool = False

    def record(self) -> dict[str, Any]:
        record = {"length": self.length, "labels": list(self.labels), "padding": self.maker.padding}
        return {**record, "special": True} if self.special else record

    @classmethod
    def from_record(cls, record: Mapping[str, Any], folder: Path) -> Self:
        length, labels = int(record["length"]), tuple(map(str, record["labels"]))
        if length < 1 or not labels:
            raise ValueError("at least one token and one class are expected")
        return cls(read_tokenizer(folder), length, labels, bool(record.get("special", False)))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``tokenizer.json`` and ``preprocessing.json`` into ``folder``."""
        save_tokenizer(self.tokenizer, Path(folder))
        super().save(folder)

    def rows(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """``(texts, length)``, as the model takes them."""
        return self.maker.rows(self.maker.encode(texts), self.length)

    @property
    def maker(self) -> RowMaker:
        """What makes rows of texts."""
        return RowMaker(self.tokenizer, self.special)

    def predict(self, model: OnnxModel, inputs: Sequence[str], reporter: Reporter = SILENT) -> Iterator[Prediction]:
        """What ``model`` says of each input: a file, whose content is one text, or the text itself."""
        for start in range(0, len(inputs), BATCH):
            chunk = inputs[start : start + BATCH]
            yield from classify(model, self.rows([read_input(one) for one in chunk]), chunk, self.labels)


def read_input(given: str) -> str:
    """The text that an argument means.

    Raises:
        UserError: it is empty, or a file that is missing, empty or not UTF-8.
    """
    path = Path(given)
    if len(given) < 1000 and "\n" not in given and "\0" not in given:  # longer ones cannot be the name of a file
        if path.is_file():
            return decode(read_bytes(path), path, skip_bad=False)
        if path.suffix.lower() in _FILE_SUFFIXES and not any(letter.isspace() for letter in given):
            raise UserError(f"There is no file {given}; give a file, or a text in quotes.")
    if not given.strip():
        raise UserError("An empty text was given; give a file, or a text in quotes.")
    return given

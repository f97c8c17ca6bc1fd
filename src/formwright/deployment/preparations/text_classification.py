"""What a shipped classifier of texts expects, and the names of its classes."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from formwright.data.tables import SUFFIXES
from formwright.data.token_rows import RowMaker
from formwright.data.tokenization import Tokenizer, read_tokenizer, save_tokenizer
from formwright.deployment.classes import Prediction, classify
from formwright.deployment.inputs import AS_FOUND, TEXT_SUFFIXES, InputOptions, texts_in
from formwright.deployment.preparation import PREPARATIONS, Preparation
from formwright.deployment.runtime import OnnxModel
from formwright.reporting import SILENT, Reporter

BATCH = 64


@PREPARATIONS.register("text-classification")
@dataclass(frozen=True)
class TextPreparation(Preparation):
    """From a text to a row of ids: the tokeniser of ``tokenizer.json``, cut or filled up to ``length``.

    ``labels``: the classes, in the order of the model's outputs. ``special``: whether the tokeniser puts its special
    tokens around a text. ``column``: what the table of training called its texts.
    """

    task: ClassVar[str] = "text-classification"
    of: ClassVar[str] = "texts"
    suffixes: ClassVar[Collection[str]] = (*TEXT_SUFFIXES, *SUFFIXES)
    reads_texts: ClassVar[bool] = True

    tokenizer: Tokenizer
    length: int
    labels: tuple[str, ...]
    special: bool = False
    column: str = ""

    def record(self) -> dict[str, Any]:
        record: dict[str, Any] = {"length": self.length, "labels": list(self.labels), "padding": self.maker.padding}
        record |= {"special": True} if self.special else {}
        return {**record, "text_column": self.column} if self.column else record

    @classmethod
    def from_record(cls, record: Mapping[str, Any], folder: Path) -> Self:
        length, labels = int(record["length"]), tuple(map(str, record["labels"]))
        if length < 1 or not labels:
            raise ValueError("at least one token and one class are expected")
        special, column = bool(record.get("special", False)), str(record.get("text_column", ""))
        return cls(read_tokenizer(folder), length, labels, special, column)

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

    def predict(
        self,
        model: OnnxModel,
        inputs: Sequence[str],
        reporter: Reporter = SILENT,
        how: InputOptions = AS_FOUND,
    ) -> Iterator[Prediction]:
        """What ``model`` says of each text: files, rows of tables, or the texts themselves (:func:`texts_in`)."""
        texts = texts_in(inputs, how, reporter, usual=self.column)
        while chunk := list(islice(texts, BATCH)):
            rows = self.rows([text for _, text in chunk])
            yield from classify(model, rows, [name for name, _ in chunk], self.labels)

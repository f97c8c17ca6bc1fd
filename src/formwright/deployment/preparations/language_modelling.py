"""What a shipped model of language expects, and how well it foretells a text."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from formwright.data.language import windows
from formwright.data.tokenization import Tokenizer, read_tokenizer, save_tokenizer
from formwright.deployment.inputs import AS_FOUND, TEXT_SUFFIXES, InputOptions, texts_in
from formwright.deployment.preparation import PREPARATIONS, Preparation
from formwright.deployment.runtime import OnnxModel
from formwright.errors import UserError
from formwright.metrics.language import next_token_nats
from formwright.reporting import SILENT, Reporter


@dataclass(frozen=True)
class Surprise:
    """How well a text was foretold: bits for each of its bytes, and how many bytes it has after the first token."""

    file: str
    bits_per_byte: float
    bytes: int

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def cells(self) -> dict[str, str]:
        return {"file": self.file, "bits per byte": f"{self.bits_per_byte:.3f}", "bytes": f"{self.bytes:,}"}


@PREPARATIONS.register("language-modelling")
@dataclass(frozen=True)
class LanguagePreparation(Preparation):
    """From a text to windows of ids: the tokeniser of ``tokenizer.json``, and how many ids a window has."""

    task: ClassVar[str] = "language-modelling"
    of: ClassVar[str] = "language"
    suffixes: ClassVar[Collection[str]] = TEXT_SUFFIXES
    reads_texts: ClassVar[bool] = True

    tokenizer: Tokenizer
    length: int

    def record(self) -> dict[str, Any]:
        return {"length": self.length}

    @classmethod
    def from_record(cls, record: Mapping[str, Any], folder: Path) -> Self:
        length = int(record["length"])
        if length < 2:
            raise ValueError("windows of at least two tokens are expected")
        return cls(read_tokenizer(folder), length)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``tokenizer.json`` and ``preprocessing.json`` into ``folder``."""
        save_tokenizer(self.tokenizer, Path(folder))
        super().save(folder)

    def predict(
        self,
        model: OnnxModel,
        inputs: Sequence[str],
        reporter: Reporter = SILENT,
        how: InputOptions = AS_FOUND,
    ) -> Iterator[Surprise]:
        """How well ``model`` foretells each input: a file, or the text itself."""
        length = self.length
        for given, text in texts_in(inputs, how, reporter, rows=False):
            ids = np.array(self.tokenizer.encode(text), np.int64)
            if len(ids) < 2:
                raise UserError(f"{given!r} has a single token, which nothing goes before; give a longer text.")
            size = len(text.encode()) - len(self.tokenizer.decode(ids[:1].tolist()).encode())
            if len(ids) <= length:  # filled up behind, which a causal model does not see
                rows = np.pad(ids, (0, length + 1 - len(ids)))
                rows, targets = rows[None, :-1], np.where(np.arange(length) < len(ids) - 1, rows[None, 1:], -1)
            else:
                rows, targets = windows(ids, length, overlap=length // 2)
            nats = next_token_nats(model(rows), targets).sum()
            yield Surprise(given, float(nats / math.log(2) / max(size, 1)), max(size, 1))

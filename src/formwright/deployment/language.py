"""What a shipped model of language expects, and how well it foretells a text."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from formwright.data.language import windows
from formwright.data.tokenization import Tokenizer, read_tokenizer, save_tokenizer
from formwright.deployment.preprocessing import FILE
from formwright.deployment.runtime import OnnxModel
from formwright.deployment.text import read_input
from formwright.errors import UserError
from formwright.files import read_json, write_json
from formwright.metrics.language import next_token_nats
from formwright.reporting import SILENT, Reporter


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class _Fields:
    """``length``: ids of a window."""

    length: Annotated[int, Field(gt=1)]
    task: Literal["language-modelling"] = "language-modelling"
    schema_version: Literal[1] = 1


@plain_dataclass(frozen=True)
class Surprise:
    """How well a text was foretold: bits for each of its bytes, and how many bytes it has after the first token."""

    file: str
    bits_per_byte: float
    bytes: int

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def cells(self) -> dict[str, str]:
        return {"file": self.file, "bits per byte": f"{self.bits_per_byte:.3f}", "bytes": f"{self.bytes:,}"}


class LanguagePreprocessing:
    """From a text to windows of ids: the tokeniser of ``tokenizer.json``, and how long windows are."""

    def __init__(self, tokenizer: Tokenizer, length: int) -> None:
        self.tokenizer = tokenizer
        self.fields = _Fields(length)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``tokenizer.json`` and ``preprocessing.json`` into ``folder``."""
        save_tokenizer(self.tokenizer, Path(folder))
        write_json(Path(folder) / FILE, dataclasses.asdict(self.fields))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> LanguagePreprocessing:
        """Read what :meth:`save` wrote; raises :class:`UserError` where it is missing or not valid."""
        path = Path(folder) / FILE
        try:
            fields = TypeAdapter(_Fields).validate_python(read_json(path))
        except ValidationError as error:
            first = error.errors()[0]
            raise UserError(
                f"{path} does not describe a preprocessing of language: at {first['loc']}, {first['msg']}."
            ) from None
        return cls(read_tokenizer(Path(folder)), fields.length)

    def predict(self, model: OnnxModel, inputs: Sequence[str], reporter: Reporter = SILENT) -> Iterator[Surprise]:
        """How well ``model`` foretells each input: a file, or the text itself."""
        length = self.fields.length
        for given in inputs:
            text = read_input(given)
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

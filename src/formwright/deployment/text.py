"""What a shipped classifier of texts expects, and the names of its classes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from formwright.data.tables import decode, read_bytes
from formwright.data.token_rows import as_rows, encode
from formwright.data.tokenization import Tokenizer, read_tokenizer, save_tokenizer
from formwright.deployment.classes import Prediction, classify
from formwright.deployment.preprocessing import FILE
from formwright.deployment.runtime import OnnxModel
from formwright.errors import UserError
from formwright.files import read_json, write_json
from formwright.reporting import SILENT, Reporter

BATCH = 64
#: An argument that ends so and is one word is meant as a file.
_FILE_SUFFIXES = (".txt", ".text", ".md", ".csv", ".tsv", ".json", ".jsonl", ".html")


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class _Fields:
    """``length``: tokens that a text is cut or filled up to. ``labels``: the classes, as the model orders them."""

    length: Annotated[int, Field(gt=0)]
    labels: Annotated[tuple[str, ...], Field(min_length=1)]
    task: Literal["text-classification"] = "text-classification"
    schema_version: Literal[1] = 1


class TextPreprocessing:
    """From a text to a row of ids: the tokeniser of ``tokenizer.json``, cut or filled up to ``length``."""

    def __init__(self, tokenizer: Tokenizer, length: int, labels: Sequence[str]) -> None:
        self.tokenizer = tokenizer
        self.fields = _Fields(length, tuple(labels))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``tokenizer.json`` and ``preprocessing.json`` into ``folder``."""
        save_tokenizer(self.tokenizer, Path(folder))
        write_json(Path(folder) / FILE, dataclasses.asdict(self.fields))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> TextPreprocessing:
        """Read what :meth:`save` wrote; raises :class:`UserError` where it is missing or not valid."""
        path = Path(folder) / FILE
        try:
            fields = TypeAdapter(_Fields).validate_python(read_json(path))
        except ValidationError as error:
            first = error.errors()[0]
            raise UserError(
                f"{path} does not describe a preprocessing of texts: at {first['loc']}, {first['msg']}."
            ) from None
        return cls(read_tokenizer(Path(folder)), fields.length, fields.labels)

    def predict(self, model: OnnxModel, inputs: Sequence[str], reporter: Reporter = SILENT) -> Iterator[Prediction]:
        """What ``model`` says of each input: a file, whose content is one text, or the text itself."""
        for start in range(0, len(inputs), BATCH):
            chunk = inputs[start : start + BATCH]
            rows = as_rows(encode(self.tokenizer, [read_input(one) for one in chunk]), self.fields.length)
            yield from classify(model, rows, chunk, self.fields.labels)


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

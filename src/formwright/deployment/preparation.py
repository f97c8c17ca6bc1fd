"""What lies beside an exported model: how what a user has becomes its input, and how its output becomes answers.

The same object prepares the samples that a model is trained on, is saved in ``preprocessing.json`` and predicts. None
of it needs PyTorch.
"""

from __future__ import annotations

import dataclasses
import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from pydantic import TypeAdapter, ValidationError

from formwright.deployment.inputs import AS_FOUND, InputOptions
from formwright.deployment.runtime import OnnxModel
from formwright.errors import UserError
from formwright.files import read_json, write_json
from formwright.registry import Registry
from formwright.reporting import SILENT, Reporter

FILE = "preprocessing.json"
SCHEMA_VERSION = 1


class Answer(Protocol):
    """What is said of one input."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""

    def cells(self) -> dict[str, str]:
        """A row of a table: text by column."""


@dataclass(frozen=True)
class Unanswered:
    """An input that cannot be used, where others can: it costs itself, and is named.

    Attributes:
        kind: what it is, such as ``series`` or ``file``.
        name: what it is called.
        reason: why, in a sentence.
    """

    kind: str
    name: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        return {self.kind: self.name, "error": self.reason}

    def cells(self) -> dict[str, str]:
        return {self.kind: self.name, "": "no answer"}


class Preparation(ABC):
    """From what a user has to a model's input, and from its output to answers.

    A dataclass of plain fields is saved and read as it is; others say how by :meth:`record` and :meth:`from_record`.

    Class attributes:
        task: whose models it prepares for; its name in ``PREPARATIONS``, and that of its module.
        of: what it prepares, in messages.
        suffixes: endings of the files that stand for a folder that is given; none where folders are not taken.
        reads_texts: whether an input may be a text itself, or a table of texts, and not a file alone.
    """

    task: ClassVar[str]
    of: ClassVar[str]
    suffixes: ClassVar[Collection[str]] = ()
    reads_texts: ClassVar[bool] = False

    @abstractmethod
    def predict(
        self,
        model: OnnxModel,
        inputs: Sequence[str],
        reporter: Reporter = SILENT,
        how: InputOptions = AS_FOUND,
    ) -> Iterator[Answer]:
        """What ``model`` says of each of ``inputs``, in order; ``reporter`` hears how far it is.

        Raises:
            UserError: an input cannot be used.
        """

    def write(
        self,
        answers: Iterator[Answer],
        out: Path,
        reporter: Reporter = SILENT,
        how: InputOptions = AS_FOUND,
    ) -> Iterator[Answer]:
        """Write answers to ``out``, a file or a folder, as they come, and pass on what is left to be said of them.

        Raises:
            UserError: there is nothing to write beyond what is printed, or it cannot be written.
        """
        raise UserError(f"Answers about {self.of} are printed, and nothing of them is written to a file; leave it out.")

    def record(self) -> dict[str, Any]:
        """The fields as JSON."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_record(cls, record: Mapping[str, Any], folder: Path) -> Self:
        """What :meth:`record` gave; ``folder`` is where other files were saved.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it is not valid.
        """
        return TypeAdapter(cls).validate_python(record)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``preprocessing.json`` into ``folder``."""
        write_json(Path(folder) / FILE, {"task": self.task, "schema_version": SCHEMA_VERSION, **self.record()})

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read ``preprocessing.json`` in ``folder``.

        Raises:
            UserError: it is missing or not valid.
        """
        path = Path(folder) / FILE
        record = read_json(path)
        try:
            fields = dict(record)
            if fields.pop("schema_version", None) != SCHEMA_VERSION or fields.pop("task", cls.task) != cls.task:
                raise ValueError(f"schema_version {SCHEMA_VERSION} and task {cls.task!r} are expected")
            return cls.from_record(fields, Path(folder))
        except ValidationError as error:
            first = error.errors()[0]
            reason = f"at {'.'.join(map(str, first['loc'])) or 'top'!r}, {first['msg']}"
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = str(error)
        raise UserError(f"{path} does not describe a preparation of {cls.of}: {reason}; export it again.")


PREPARATIONS: Registry[type[Preparation]] = Registry(
    "task", group="formwright.preparations", package="formwright.deployment.preparations"
)


def load_preparation(folder: str | os.PathLike[str]) -> Preparation:
    """Read ``preprocessing.json`` in ``folder``.

    Raises:
        UserError: it is missing, not valid, or of a task that this version does not know.
    """
    values = read_json(Path(folder) / FILE)
    task = values.get("task", "image-classification") if isinstance(values, dict) else "image-classification"
    return PREPARATIONS[str(task)].load(folder)

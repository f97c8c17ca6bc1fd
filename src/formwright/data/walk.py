"""What lies in a folder and below: links are followed, and neither hidden files nor results of runs are data."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from formwright.errors import UserError

_HIDDEN = frozenset({
    "__MACOSX", "__pycache__", "Thumbs.db", "ehthumbs.db", "desktop.ini", "Icon\r",
    "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found",
})  # fmt: skip
#: What lies together in a saved or an exported model.
_MODELS = ({"config.json", "model.safetensors"}, {"preprocessing.json", "model.onnx"})
_RUN = "run.json"

Identity = tuple[int, int]  # device and inode


def is_hidden(name: str) -> bool:
    """Whether a file or folder belongs to the system, an editor or a cache rather than to the data."""
    return name.startswith(".") or name in _HIDDEN


def holds_results(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is that of a run, of a saved or of an exported model."""
    try:
        names = {entry.name for entry in os.scandir(folder)}
        if any(together <= names for together in _MODELS):
            return True
        if _RUN not in names:
            return False
        with open(os.path.join(folder, _RUN), encoding="utf-8") as file:
            values = json.load(file)
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and {"options", "trials", "variants"} <= set(values)


@dataclass
class LeftOut:
    """What was not read below a folder, by its name in there.

    Attributes:
        results: folders of runs and of models.
        repeated: links to a folder above, or to one that was read already.
    """

    results: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        """The same in sentences."""
        kinds = (
            (self.results, "Folders with results of Formwright are no data and were left out"),
            (self.repeated, "Links to folders that are read anyway were left out"),
        )
        return [f"{text}: {some(sorted(set(names)))}." for names, text in kinds if names]


@dataclass(frozen=True)
class Entries:
    """A folder, and the names of the folders and files in it, sorted."""

    folder: Path
    folders: list[str]
    files: list[str]


class Tree:
    """A folder and all below it.

    Args:
        root: the folder.
        out: where a run writes its results, which are no data even if nothing is there yet.
        strict: raise a ``UserError`` for a folder that may not be listed, instead of passing over it.

    Attributes:
        left_out: what was not read so far.
    """

    def __init__(self, root: Path, *, out: Path | None = None, strict: bool = True) -> None:
        self.root, self.strict = root, strict
        self.left_out = LeftOut()
        self._out = None if out is None else out.resolve()
        self._above = {_identity(folder) for folder in (root.resolve(), *root.resolve().parents)}

    def walk(self, start: str = "") -> Iterator[Entries]:
        """The folder ``start`` below the root, and every folder below that once, by name."""
        if not start:
            yield from self._walk(self.root, set())
        elif self._may_enter(self.root / start, set()):
            yield from self._walk(self.root / start, set())

    def top(self, start: str = "") -> Entries:
        """What lies in one folder."""
        return self._entries(self.root / start, set())

    def is_for_results(self, start: str, accepts: Callable[[str], bool]) -> bool:
        """Whether a folder holds results, or is made for those to come, and no files of the data."""
        if any(any(map(accepts, entries.files)) for entries in self.walk(start)):
            return False
        below = any(f"{name}/".startswith(f"{start}/") for name in self.left_out.results)
        return below or (self._out is not None and self._out.is_relative_to((self.root / start).resolve()))

    def _walk(self, folder: Path, seen: set[Identity]) -> Iterator[Entries]:
        seen.add(_identity(folder))
        entries = self._entries(folder, seen)
        yield entries
        for name in entries.folders:
            if _identity(folder / name) not in seen:  # two links may lead to one
                yield from self._walk(folder / name, seen)

    def _entries(self, folder: Path, seen: set[Identity]) -> Entries:
        folders, files = [], []
        try:
            found = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            if self.strict:
                raise UserError(
                    f"{folder} cannot be listed ({error.strerror}); give yourself the right to read it."
                ) from error
            return Entries(folder, [], [])
        for entry in found:
            if is_hidden(entry.name):
                continue
            if entry.is_dir():
                if self._may_enter(Path(entry.path), seen):
                    folders.append(entry.name)
            elif entry.is_file() or (entry.is_symlink() and not os.path.exists(entry)):
                files.append(entry.name)  # whoever reads it says where a link leads nowhere
        return Entries(folder, folders, files)

    def _may_enter(self, folder: Path, seen: set[Identity]) -> bool:
        identity = _identity(folder)
        if identity in self._above or identity in seen:
            self.left_out.repeated.append(self._name(folder))
            return False
        if holds_results(folder) or (self._out is not None and folder.resolve() == self._out):
            self.left_out.results.append(self._name(folder))
            return False
        return True

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def some(names: Sequence[str], most: int = 3) -> str:
    """The first ``most`` names and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _identity(folder: Path) -> Identity:
    status = os.stat(folder)
    return status.st_dev, status.st_ino

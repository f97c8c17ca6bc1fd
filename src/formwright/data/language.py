"""Running text from users' files: one text, several, or a source tree, in three parts one after the other."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from formwright.data.delimited import told
from formwright.data.encodings import decode, marked_wide, read_bytes
from formwright.data.preprocess import readable_suffixes
from formwright.data.splits import TEST, TRAIN, VAL
from formwright.data.tables import SUFFIXES
from formwright.data.text import PART_NAMES
from formwright.data.walk import Tree, some
from formwright.errors import UserError
from formwright.files import read_json, write_json

PARTS = ("train", "val", "test")
TEST_SHARE = VAL_SHARE = 0.1
#: Fewer characters than this in a part say nothing about how well a language is modelled.
FEWEST_CHARACTERS = 500
SCHEMA_VERSION = 1
_SNIFF = 8192
_MOST_FILES = 200_000
_LOOKED_AT = 200


@dataclass(frozen=True)
class LanguageData:
    """The text of each part (``train``, ``val``, ``test``), the files that they are from, and what was noticed."""

    parts: dict[str, str]
    files: tuple[str, ...]
    source: str
    hash: str
    notes: tuple[str, ...]

    def save_splits(self, path: str | Path) -> None:
        """Record how many characters each part has (JSON, atomically)."""
        record = {"schema_version": SCHEMA_VERSION, "data_hash": self.hash, "files": list(self.files)}
        write_json(Path(path), {**record, "characters": {name: len(text) for name, text in self.parts.items()}})

    def check_splits(self, path: str | Path) -> None:
        """Raise a ``UserError`` unless the text is that of the record."""
        record = read_json(Path(path))
        if not isinstance(record, dict) or record.get("schema_version") != SCHEMA_VERSION:
            raise UserError(f"{path} is not a record of parts of a text; start a new run in an empty folder.")
        if record.get("data_hash") != self.hash:
            raise UserError(
                f"The text is not that which {path} was recorded with; restore it, or start a new run in a new folder."
            )


def reads_like_text(path: Path) -> bool:
    """Whether the start of a file is UTF-8 without control bytes."""
    try:
        with path.open("rb") as file:
            start = file.read(_SNIFF)
    except OSError:
        return False
    if marked_wide(start):
        return True
    if b"\0" in start:
        return False
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        return len(start) == _SNIFF and error.start >= _SNIFF - 4  # a character that the end cuts
    return bool(start.strip())


def _is_meant_as_text(path: Path) -> bool:
    """Whether a file has the name of a text, and no byte that texts of any encoding lack: the reader says what is."""
    try:
        with path.open("rb") as file:
            start = file.read(_SNIFF)
    except OSError:
        return False
    return path.suffix.lower() in _TEXT_SUFFIXES and bool(start.strip()) and b"\0" not in start


def list_texts(tree: Tree) -> tuple[list[str], list[str]]:
    """Files below a folder that are texts, and those that are not."""
    texts: list[str] = []
    others: list[str] = []
    for entries in tree.walk():
        for name in entries.files:
            path = entries.folder / name
            (texts if reads_like_text(path) else others).append(path.relative_to(tree.root).as_posix())
        if len(texts) + len(others) > _MOST_FILES:
            raise UserError(f"{tree.root} holds more than {_MOST_FILES:,} files; give a smaller folder.")
    return texts, others


def read_language(
    path: str | Path, *, encoding: str | None = None, skip_bad: bool = False, out: Path | None = None
) -> LanguageData:
    """Read running text: a file, or all text files below a folder, in the order of their names.

    The last tenth is the test part and the tenth before it the validation part; a folder with files called train, val
    (or valid, dev) and test is divided as it says. Results of runs, such as that in ``out``, are no text. ``encoding``
    is that of files that are neither marked nor UTF-8.

    Raises:
        UserError: there is no text, it is not UTF-8 (the file and row are named), or it is too short.
    """
    path = Path(path).expanduser()
    notes: list[str] = []
    if path.is_dir():
        tree = Tree(path, out=out)
        files, others = list_texts(tree)
        notes += tree.left_out.notes()
        bad = [name for name in others if Path(name).suffix.lower() in _TEXT_SUFFIXES and _holds_bytes(path / name)]
        if encoding is not None:
            files, others = sorted({*files, *bad}), [name for name in others if name not in bad]
        elif bad and not skip_bad:
            decode(read_bytes(path / bad[0]), path / bad[0])  # names the row, where one is to blame
        if not files:
            raise UserError(f"{path} holds no text files; UTF-8 texts, or a tree of source files, are expected in it.")
        if others:
            notes.append(f"{len(others)} files that are not texts were left out: {some(others)}.")
    else:
        files = [path.name]
    root = path if path.is_dir() else path.parent
    texts: dict[str, str] = {}
    unreadable, replaced = [], 0
    for name in files:
        content = read_bytes(root / name)
        try:
            decoded = decode(content, root / name, encoding=encoding)
        except UserError:
            if not skip_bad or not path.is_dir():
                raise
            unreadable.append(name)
            continue
        texts[name] = decoded.text
        replaced += decoded.replaced
    notes += told([], replaced)
    if unreadable:
        notes.append(f"{len(unreadable)} files with bytes that are not UTF-8 were left out: {some(unreadable)}.")
    parts, how = _divide(texts)
    for part, text in parts.items():
        if len(text) < FEWEST_CHARACTERS:
            raise UserError(
                f"{path} has {len(text)} characters for its {part} part; at least {FEWEST_CHARACTERS} in each of "
                "the three are expected: give more text."
            )
    counts = {part: f"{len(text):,} characters" for part, text in parts.items()}
    notes = [
        f"Task: language modelling, {len(texts)} file{'s' if len(texts) != 1 else ''}.",
        f"Parts: {counts['train']} to train, {counts['val']} to validate, {counts['test']} to test ({how}).",
        *notes,
    ]
    digest = hashlib.sha256(json.dumps(list(texts.items())).encode(errors="surrogatepass")).hexdigest()
    return LanguageData(parts, tuple(texts), str(path), digest, tuple(notes))


#: Files that hold something else, whatever their first bytes look like.
_OTHER_SUFFIXES = (".parquet", ".feather", ".npz", ".npy", ".zip", ".tar", ".gz", ".xz", ".bz2", ".7z", ".pdf", ".docx")
_TEXT_SUFFIXES = (
    ".txt",
    ".md",
    ".rst",
    ".tex",
    ".py",
    ".c",
    ".h",
    ".cpp",
    ".js",
    ".ts",
    ".java",
    ".go",
    ".rs",
    ".html",
)


def _holds_bytes(file: Path) -> bool:
    return file.exists() and file.stat().st_size > 0


def _divide(texts: dict[str, str]) -> tuple[dict[str, str], str]:
    named = {PART_NAMES[Path(name).stem.lower()]: name for name in texts if Path(name).stem.lower() in PART_NAMES}
    if len(texts) == len(named) and TRAIN in named and TEST in named:
        train, test = texts[named[TRAIN]], texts[named[TEST]]
        if VAL in named:
            return {"train": train, "val": texts[named[VAL]], "test": test}, "as given"
        cut = round(len(train) * (1 - VAL_SHARE))
        return {
            "train": train[:cut],
            "val": train[cut:],
            "test": test,
        }, "test as given, the last tenth before it validates"
    whole = "\n".join(texts.values())
    first = round(len(whole) * (1 - TEST_SHARE - VAL_SHARE))
    second = round(len(whole) * (1 - TEST_SHARE))
    return (
        {"train": whole[:first], "val": whole[first:second], "test": whole[second:]},
        "one after the other: the last tenth tests, the tenth before it validates",
    )


def looks_like_language(path: Path) -> str | None:
    """What running text a path holds, if it does: a text file, or a folder of mostly texts."""
    if path.is_file():
        other = path.suffix.lower() in (*SUFFIXES, *_OTHER_SUFFIXES, *readable_suffixes())
        return "a text file" if not other and (reads_like_text(path) or _is_meant_as_text(path)) else None
    if not path.is_dir():
        return None
    files = (entries.folder / name for entries in Tree(path, strict=False).walk() for name in entries.files)
    first = list(itertools.islice(files, _LOOKED_AT))
    texts = sum(file.suffix.lower() not in SUFFIXES and reads_like_text(file) for file in first)
    return "a folder of text files" if texts and 2 * texts > len(first) else None


def windows(ids: NDArray[np.int64], length: int, *, overlap: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows ``(n, length)`` of ids and of what comes next, ``-1`` where that was counted in the row before.

    Rows begin ``length - overlap`` apart, and the first ``overlap`` places of each but the first only give context. The
    last row is the last ``length`` ids, so that every id but the first is predicted exactly once.
    """
    count = len(ids) - 1
    if count < length:
        raise UserError(f"A text of {len(ids)} tokens has no window of {length} and what follows; give a longer one.")
    starts = list(range(0, count - length + 1, length - overlap))
    if starts[-1] != count - length:
        starts.append(count - length)
    places = np.array(starts)[:, None] + np.arange(length)
    inputs, targets = ids[places], ids[places + 1].copy()
    done = 0
    for row, start in enumerate(starts):
        targets[row, : done - start] = -1
        done = start + length
    return inputs, targets

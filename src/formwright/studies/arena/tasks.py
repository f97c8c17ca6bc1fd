"""The arena's tasks: data that is made here or from anybody's texts and pictures, small or as in the paper."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from formwright.data.synthetic.byte_rows import (
    Documents,
    byte_classification,
    byte_retrieval,
    installed_sources,
    split_documents,
)
from formwright.data.synthetic.listops import listops
from formwright.data.synthetic.pathfinder import pathfinder
from formwright.data.synthetic.sequences import LabelledSequences
from formwright.errors import UnknownNameError
from formwright.models.language.long_range_arena import PAPER, long_range_arena
from formwright.nn.specification import NetworkSpec, PartSpec

if TYPE_CHECKING:
    from formwright.data.images import ImageData


class Parts(NamedTuple):
    """Rows to train and to test with."""

    train: LabelledSequences
    test: LabelledSequences


@dataclass(frozen=True)
class Sources:
    """What tasks are made of where they are not made up: sources that come with Python, digits of scikit-learn."""

    text: Documents | None = None
    images: str | Path | None = None

    @functools.cached_property
    def documents(self) -> Documents:
        return installed_sources() if self.text is None else self.text

    def pictures(self, side: int) -> ImageData:
        from formwright.data.images import read_images

        return read_images(self.images, size=side, channels=1)


def read_documents(path: str | Path) -> Documents:
    """Texts with classes from a table or a folder, as fit reads them.

    Raises:
        UserError: the data is missing, damaged, or has no classes.
    """
    from formwright.data.text import read_texts

    data = read_texts(path)
    return Documents(data.texts, data.labels, data.class_names, Path(data.source).name)


#: Makes rows: ``(train, test, sources, seed, **size)``.
Make = Callable[..., Parts]


def _listops(train: int, test: int, sources: Sources, seed: int, **size: Any) -> Parts:
    data = listops(train + test, seed=seed, **size)
    return Parts(_some(data, slice(train)), _some(data, slice(train, None)))


def _text(train: int, test: int, sources: Sources, seed: int, *, length: int) -> Parts:
    parts = split_documents(sources.documents, seed=seed)
    made = [
        byte_classification(part, length, passages=n, seed=seed) for part, n in zip(parts, (train, test), strict=True)
    ]
    return Parts(*made)


def _retrieval(train: int, test: int, sources: Sources, seed: int, *, length: int) -> Parts:
    parts = split_documents(sources.documents, seed=seed)
    made = [byte_retrieval(part, length, n, seed=seed) for part, n in zip(parts, (train, test), strict=True)]
    return Parts(*made)


def _image(train: int, test: int, sources: Sources, seed: int, *, side: int) -> Parts:
    from formwright.data.synthetic.pixels import pixel_sequences

    data = sources.pictures(side)
    return Parts(pixel_sequences(data, "train", most=train), pixel_sequences(data, "test", most=test))


def _pathfinder(train: int, test: int, sources: Sources, seed: int, **size: Any) -> Parts:
    data = pathfinder(train + test, seed=seed, **size)
    return Parts(_some(data, slice(train)), _some(data, slice(train, None)))


def _some(data: LabelledSequences, rows: slice) -> LabelledSequences:
    return dataclasses.replace(data, ids=data.ids[rows], labels=data.labels[rows])


@dataclass(frozen=True)
class ArenaTask:
    """A task of the arena.

    Attributes:
        name: what the command line calls it.
        make: makes its rows.
        small: the size that minutes on a processor are enough for.
        paper: the size in the paper; ``frame`` names the configuration that goes with it.
    """

    name: str
    make: Make
    small: Mapping[str, Any]
    paper: Mapping[str, Any]
    frame: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def rows(self, train: int, test: int, *, sources: Sources, seed: int = 0, paper: bool = False) -> Parts:
        """Rows to train and to test with."""
        return self.make(train, test, sources, seed, **(self.paper if paper else self.small))

    def specification(
        self, data: LabelledSequences, mixer: str | PartSpec, *, paper: bool = False, **size: int
    ) -> NetworkSpec:
        """The frame for the task's rows with a mixer in every layer, in the paper's size or a small one.

        Args:
            data: rows of the task.
            mixer: a name of the arena's mixers, or a part.
            size: ``dim``, ``depth``, ``heads`` and ``hidden`` of the small frame, where they are not :data:`SMALL`.
        """
        name = mixer if isinstance(mixer, str) else mixer.name
        frame = {**PAPER[self.frame or self.name]} if paper else {**SMALL, **size}
        own = {"vocabulary": data.vocabulary, "length": data.length, "padding": data.padding, "classes": data.classes}
        return long_range_arena(**{**frame, **own, "name": f"{self.name}-{name}", "mixer": mixer, "pairs": data.pairs})


#: The small frame.
SMALL: Mapping[str, int] = MappingProxyType({"dim": 64, "depth": 2, "heads": 4, "hidden": 128})

_ALL = (
    ArenaTask("listops", _listops, {"min_length": 60, "max_length": 256}, {"min_length": 500, "max_length": 2000}),
    ArenaTask("text", _text, {"length": 512}, {"length": 4000}),
    ArenaTask("retrieval", _retrieval, {"length": 256}, {"length": 4000}),
    ArenaTask("image", _image, {"side": 16}, {"side": 32}),
    ArenaTask("pathfinder", _pathfinder, {"side": 32, "level": "easy"}, {"side": 32, "level": "hard"}),
    ArenaTask(
        "path-x",
        _pathfinder,
        {"side": 64, "level": "easy"},
        {"side": 128, "level": "hard"},
        frame="pathfinder",
    ),
)

TASKS: Mapping[str, ArenaTask] = MappingProxyType({task.name: task for task in _ALL})


def task_named(name: str) -> ArenaTask:
    """A task of the arena.

    Raises:
        UnknownNameError: there is none; the nearest names are suggested.
    """
    if name not in TASKS:
        raise UnknownNameError("task of the arena", name, TASKS)
    return TASKS[name]

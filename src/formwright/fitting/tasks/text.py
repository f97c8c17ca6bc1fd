"""Classification of texts."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from formwright.batch import Batch
from formwright.data.splits import evenly_spaced
from formwright.data.tables import SUFFIXES
from formwright.data.text import TEXT_SUFFIXES, TextData, part_tables, read_texts
from formwright.data.text_batches import TextBatches, evaluation_rows
from formwright.data.token_rows import PADDING, as_rows, encode, train_word_pieces
from formwright.deployment.text import TextPreprocessing
from formwright.errors import UserError
from formwright.fitting.classification import ClassificationTask
from formwright.fitting.records import Baseline
from formwright.fitting.task import TASKS, Peer, Reading, Words
from formwright.metrics.baselines import majority_class, ngram_regression
from formwright.models.identification import Pretrained
from formwright.search.text import TextShape, TextSpace

#: Tokens of the vocabulary at most, and tokens of a text at most.
VOCABULARY, LONGEST = 8192, 512
#: Texts longer than those of this share are cut.
WHOLE_SHARE = 99.0
#: Share of the tokens of training texts that is left out at random, where texts are few.
DROPPED, FEW_TEXTS = 0.1, 200_000
#: A training that sees each text fewer times than this is not worth a larger model.
FEWEST_EPOCHS = 3
EXCERPT = 280


@TASKS.register("text-classification")
class TextClassification(ClassificationTask):
    """Texts, each of one class, as tokens of a vocabulary that is learned on the training part."""

    name: ClassVar[str] = "text-classification"
    order: ClassVar[int] = 20
    options: ClassVar[Mapping[str, str]] = {
        "text_column": "the column of the texts",
        "label_column": "the column of the classes",
    }
    words: ClassVar[Words] = Words(
        model="a classifier of texts",
        sample="text",
        samples="texts",
        argument="some text",
        answer="the class of a text, or of a file that holds one, and its probability",
        figure="Share of the test texts that each one gets right",
    )
    peer: ClassVar[Peer] = Peer("plain Transformer", "encoder")
    keeps_best: ClassVar[bool] = True
    template: ClassVar[str] = "texts.html.j2"

    def __init__(self, data: TextData) -> None:
        self.data = data
        self.source = data.source
        self.class_names = data.class_names
        self.samples = {part: len(data.split.part(part)) for part in ("train", "val", "test")}
        self.tokenizer = train_word_pieces(data.part("train"), VOCABULARY)
        ids = {part: encode(self.tokenizer, data.part(part)) for part in ("train", "val", "test")}
        lengths = [len(one) for one in ids["train"]]
        longest = int(np.ceil(np.percentile(lengths, WHOLE_SHARE) / 8) * 8)
        self.length = int(min(max(longest, 8), LONGEST))
        self.rows = {part: as_rows(one, self.length) for part, one in ids.items()}
        cut = sum(length > self.length for length in lengths)
        self.notes = (
            *data.notes,
            f"Tokens: {self.tokenizer.vocabulary:,} word pieces learned from the training texts, in lower case; texts "
            f"have {int(np.median(lengths))} in the median, and {self.length} at most are read"
            f" ({cut} training texts are longer, and lose their ends).",
        )

    @classmethod
    def recognise(cls, path: Path | None) -> str | None:
        if path is None:
            return None
        if path.is_file():
            return "a table of texts" if path.suffix in SUFFIXES and _has_texts(path) else None
        if not path.is_dir():
            return None
        tables = part_tables(path)
        if tables:
            return "a folder with tables of texts" if all(map(_has_texts, tables.values())) else None
        return "a folder with a sub-folder of texts for each class" if _has_class_folders(path) else None

    @classmethod
    def read(
        cls,
        path: str | Path | None,
        *,
        seed: int,
        skip_bad: bool = False,
        pretrained: Pretrained | None = None,
        progress: Reading | None = None,
        **options: Any,
    ) -> Self:
        if path is None:
            raise UserError("No texts were given; name a table or a folder of them.")
        if pretrained is not None:
            raise UserError(
                "A checkpoint (--weights) cannot join a race of texts: its tokens are not those of your data."
            )
        return cls(read_texts(path, seed=seed, skip_bad=skip_bad, **options))

    def save_splits(self, path: str | Path) -> None:
        self.data.save_splits(path)

    def check_splits(self, path: str | Path) -> None:
        self.data.check_splits(path)

    def training_batches(self, batch_size: int, *, seed: int) -> TextBatches:
        drop = DROPPED if self.samples["train"] < FEW_TEXTS else 0.0
        return TextBatches(self.rows["train"], self.part_labels("train"), batch_size=batch_size, seed=seed, drop=drop)

    def evaluation_batches(
        self, part: str, *, batch_size: int | None = None, most: int | None = None
    ) -> Iterator[Batch]:
        chosen = np.arange(self.samples[part])
        if most is not None:
            chosen = evenly_spaced(chosen, most)
        return evaluation_rows(self.rows[part][chosen], self.part_labels(part)[chosen], batch_size or 256)

    def part_labels(self, part: str) -> NDArray[np.int64]:
        return self.data.labels[self.data.split.part(part)]

    def part_names(self, part: str) -> Sequence[tuple[int, str]]:
        return [(int(index), self.data.names[index]) for index in self.data.split.part(part)]

    @functools.cached_property
    def space(self) -> TextSpace:
        shape = TextShape(self.tokenizer.vocabulary, self.length, PADDING, len(self.class_names), self.samples["train"])
        return TextSpace(shape)

    @property
    def worthwhile_samples(self) -> float:
        return float(FEWEST_EPOCHS * self.samples["train"])

    def baselines(self, *, seconds: float, seed: int) -> list[Baseline]:
        labels, classes = self.part_labels("train"), len(self.class_names)
        regression = ngram_regression(self.data.part("train"), labels, self.data.part("test"), classes, seed=seed)
        return [self.scored(majority_class(labels, self.samples["test"], classes)), self.scored(regression)]

    def preprocessing(self) -> TextPreprocessing:
        return TextPreprocessing(self.tokenizer, self.length, self.class_names)

    def describe(self) -> dict[str, Any]:
        return {
            "texts": len(self.data.texts),
            **self.describe_classes(),
            "vocabulary": self.tokenizer.vocabulary,
            "length": self.length,
        }

    def attachments(self, details: Mapping[str, Any]) -> dict[int, Any]:
        numbers = [mistake["index"] for mistake in details["mistakes"]]
        return {number: self.data.texts[number][:EXCERPT] for number in numbers}

    @classmethod
    def data_facts(cls, data: Mapping[str, Any]) -> list[tuple[str, str]]:
        return [
            ("texts", f"{data['texts']:,}, of which {data['length']:,} tokens at most are read"),
            ("tokens", f"{data['vocabulary']:,} word pieces"),
        ]


def _has_texts(path: Path, most: int = 64 * 1024) -> bool:
    """Whether a table has a column that reads like texts: some letters, and on average several words."""
    try:
        with path.open("rb") as file:
            start = file.read(most).decode("utf-8", "replace")
    except OSError:
        return True  # the reader says what is wrong
    lines = [line for line in start.splitlines()[:200] if line.strip()]
    words = [len(line.split()) for line in lines[1:] or lines]
    letters = sum(letter.isalpha() for letter in start)
    return bool(words) and float(np.median(words)) >= 3 and letters > 0.5 * sum(not c.isspace() for c in start)


def _has_class_folders(path: Path) -> bool:
    """Whether every sub-folder (of a train folder, if there is one) holds texts and nothing else."""
    try:
        top = path / "train" if (path / "train").is_dir() else path
        folders = [entry for entry in sorted(top.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]
        files = [[file for file in folder.iterdir() if not file.name.startswith(".")] for folder in folders[:20]]
    except OSError:
        return False
    return bool(folders) and all(
        inside and all(file.suffix.lower() in TEXT_SUFFIXES for file in inside[:100]) for inside in files
    )

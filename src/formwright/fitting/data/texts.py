"""Texts, each of one class."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from formwright.data.encodings import start_of
from formwright.data.tables import SUFFIXES
from formwright.data.text import TEXT_SUFFIXES, TextData, part_tables, read_texts
from formwright.data.token_rows import RowMaker, train_word_pieces
from formwright.data.vocabulary import fewest_tokens, with_fewer_tokens
from formwright.data.walk import Tree
from formwright.deployment.preparations.text_classification import TextPreparation
from formwright.errors import UserError
from formwright.fitting.kind import DATA, ENCODING, PARTS, Answers, ClassifiedData, Option, Reading
from formwright.fitting.shown import ShownText, excerpt
from formwright.shapes import TextShape

if TYPE_CHECKING:
    from formwright.batch import Batch
    from formwright.data.further_texts import FurtherTexts
    from formwright.data.text_batches import TextBatches
    from formwright.models.pretrained import Pretrained

#: Tokens of the vocabulary at most, and tokens of a text at most.
VOCABULARY, LONGEST = 8192, 512
#: Texts longer than those of this share are cut.
WHOLE_SHARE = 99.0
#: Share of the tokens of training texts that is left out at random, where texts are few.
DROPPED, FEW_TEXTS = 0.1, 200_000
#: A training that sees each text fewer times than this is not worth a larger model.
FEWEST_EPOCHS = 3
#: Of a small file, the share for the table of tokens, and the width of such tables.
TABLE_SHARE, TABLE_WIDTH = 0.5, 64


@DATA.register("texts")
class Texts(ClassifiedData):
    """Texts as tokens of a vocabulary that is learned on the training part."""

    name: ClassVar[str] = "texts"
    subject: ClassVar[str] = "text"
    order: ClassVar[int] = 20
    expects: ClassVar[str] = "classified texts (a table, or a folder with a sub-folder of .txt files per class)"
    options: ClassVar[Mapping[str, Option]] = {
        "text_column": Option("column of the texts, by name or number; inferred if unset"),
        "label_column": Option("column of the classes, by name or number; inferred if unset"),
        "encoding": ENCODING,
    }
    sample: ClassVar[str] = "text"
    samples: ClassVar[str] = "texts"
    argument: ClassVar[str] = "some text"
    asked: ClassVar[str] = "a text, or of a file that holds one,"
    takes_weights: ClassVar[bool] = True
    keeps_best: ClassVar[bool] = True

    content: TextData
    preparation: TextPreparation

    def __init__(self, content: TextData, weights: Sequence[Pretrained] = (), most_bytes: float | None = None) -> None:
        self.content, self.weights = content, weights
        if weights:
            from formwright.fitting.tokens import shared_tokenizer

            maker = RowMaker(shared_tokenizer(weights), special=True)
            of_whom = f"those of {weights[0].title}"
            limit = min(weights[0].specification.input.length, LONGEST)  # type: ignore[union-attr]
            if most_bytes is not None:
                whole, maker = maker, self._fewer_tokens(maker, most_bytes)
                if maker is not whole:
                    of_whom += ", without those that hardly occur here, since the file is to be small"
        else:
            maker = RowMaker(train_word_pieces(content.part("train"), VOCABULARY))
            of_whom, limit = "learned from the training texts, in lower case", LONGEST
        ids = {part: maker.encode(content.part(part)) for part in PARTS}
        lengths = [len(one) for one in ids["train"]]
        longest = int(np.ceil(np.percentile(lengths, WHOLE_SHARE) / 8) * 8)
        length = int(min(max(longest, 8), limit))
        self.preparation = TextPreparation(
            maker.tokenizer, length, tuple(content.class_names), maker.special, content.column
        )
        self.rows = {part: maker.rows(one, length) for part, one in ids.items()}
        longer = sum(one > length for one in lengths)
        self._told = (
            f"Tokens: {maker.tokenizer.vocabulary:,} word pieces, {of_whom}; median length {int(np.median(lengths))}; "
            f"texts are cut after {length} tokens ({longer:,} of {len(lengths):,} are longer)."
        )

    def _fewer_tokens(self, maker: RowMaker, most_bytes: float) -> RowMaker:
        """Rows of a smaller vocabulary, where the file may have so many bytes; the checkpoints get it, too."""
        smallest = min(self.weights, key=lambda one: one.int8_bytes)
        if smallest.int8_bytes <= most_bytes:
            return maker
        rows = maker.encode(self.content.part("train"))
        fewest = fewest_tokens(maker.tokenizer, rows)
        if fewest is None:
            return maker
        dim, vocabulary = smallest.specification.stages[0].dim, maker.tokenizer.vocabulary
        most = vocabulary - int((smallest.int8_bytes - most_bytes) // dim) - 1
        if most < fewest:  # none of them can be shipped: what learns from them has a narrow table
            most = int(most_bytes * TABLE_SHARE / TABLE_WIDTH)
        made = with_fewer_tokens(maker.tokenizer, rows, min(most, vocabulary))
        assert made is not None
        self.weights = [one.with_tokens(made[1]) for one in self.weights]
        return RowMaker(made[0], special=True)

    @property
    def notes(self) -> tuple[str, ...]:
        return (*super().notes, self._told)

    @classmethod
    def recognise(cls, path: Path | None) -> str | None:
        if path is None:
            return None
        if path.is_file():
            return "a table of texts" if path.suffix.lower() in SUFFIXES and _has_texts(path) else None
        if not path.is_dir():
            return None
        tables = part_tables(path)
        if tables:
            return "a folder with tables of texts" if all(map(_has_texts, tables.values())) else None
        return "a folder with a sub-folder of texts for each class" if _has_class_folders(path) else None

    @classmethod
    def read(cls, path: Path | None, how: Reading) -> Self:
        if path is None:
            raise UserError("No texts were given; name a table or a folder of them.")
        from formwright.nn.inputs import TokenInput

        for weights in how.weights:
            weights.check_takes(TokenInput, cls.samples)
        content = read_texts(path, seed=how.seed, skip_bad=how.skip_bad, out=how.out, **how.options)
        return cls(content, how.weights, how.most_bytes)

    def training_batches(
        self, batch_size: int, *, seed: int, parts: Sequence[str] = ("train",), answers: Answers | None = None
    ) -> TextBatches:
        from formwright.data.text_batches import TextBatches

        started = bool(self.weights) and answers is None  # what knows the language already does better without
        drop = DROPPED if self.samples_of["train"] < FEW_TEXTS and not started else 0.0
        rows, targets = np.concatenate([self.rows[part] for part in parts]), self.targets(parts, answers)
        if answers is not None and answers.inputs is not None and answers.further is not None:
            rows, targets = np.concatenate([rows, answers.inputs]), np.concatenate([targets, answers.further])
        return TextBatches(
            rows,
            targets,
            batch_size=batch_size,
            seed=seed,
            drop=drop,
            padding=self.padding,
            special=self._special,
        )

    def further_inputs(self, count: int, *, seed: int) -> NDArray[np.int64]:
        before, after = self.preparation.maker.around
        made = [[*before, *text, *after] for text in self._further.make(count, seed=seed)]
        return self.preparation.maker.rows(made, self.preparation.length)

    @cached_property
    def _further(self) -> FurtherTexts:
        from formwright.data.further_texts import FurtherTexts

        aside = [*self._special, self.padding]
        texts = [row[~np.isin(row, aside)] for row in self.rows["train"]]
        return FurtherTexts(texts, self.weights[0].token_table, special=aside)

    @property
    def _special(self) -> list[int]:
        """The special tokens around a text."""
        return [id_ for ids in self.preparation.maker.around for id_ in ids]

    @property
    def padding(self) -> int:
        """The id that fills up short texts."""
        return self.preparation.maker.padding

    def evaluation_batches(
        self, part: str, *, batch_size: int | None = None, most: int | None = None
    ) -> Iterator[Batch]:
        from formwright.data.array_batches import in_order

        return in_order(self.rows[part], self.labels(part), batch_size=batch_size or 256, most=most)

    @property
    def shape(self) -> TextShape:
        tokenizer, length = self.preparation.tokenizer, self.preparation.length
        return TextShape(tokenizer.vocabulary, length, self.padding, len(self.class_names), self.samples_of["train"])

    @property
    def worthwhile_samples(self) -> float:
        return float(FEWEST_EPOCHS * self.samples_of["train"])

    def describe(self) -> dict[str, Any]:
        preparation = self.preparation
        return {
            **super().describe(),
            "vocabulary": preparation.tokenizer.vocabulary,
            "length": preparation.length,
        }

    @classmethod
    def facts(cls, data: Mapping[str, Any]) -> list[tuple[str, str]]:
        return [
            ("texts", f"{data['texts']:,}, of which {data['length']:,} tokens at most are read"),
            ("tokens", f"{data['vocabulary']:,} word pieces"),
            *super().facts(data),
        ]

    def show(self, index: int) -> ShownText:
        return excerpt(self.content.texts[index])


def _has_texts(path: Path, most: int = 64 * 1024) -> bool:
    """Whether a table has a column that reads like texts: some letters, and on average several words."""
    try:
        start = start_of(path, most)
    except OSError:
        return True  # the reader says what is wrong
    lines = [line for line in start.splitlines()[:200] if line.strip()]
    words = [len(line.split()) for line in lines[1:] or lines]
    letters = sum(letter.isalpha() for letter in start)
    return bool(words) and float(np.median(words)) >= 3 and letters > 0.5 * sum(not c.isspace() for c in start)


def _has_class_folders(path: Path) -> bool:
    """Whether every sub-folder (of a train folder, if there is one) that holds files holds texts and nothing else."""
    tree = Tree(path / "train" if (path / "train").is_dir() else path, strict=False)
    files = [
        list(itertools.islice((file for entries in tree.walk(name) for file in entries.files), 100))
        for name in tree.top().folders[:20]
    ]
    filled = [inside for inside in files if inside]
    return bool(filled) and all(file.lower().endswith(TEXT_SUFFIXES) for inside in filled for file in inside)

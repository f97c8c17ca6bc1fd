"""Running text as bytes, or as the tokens of a checkpoint, in windows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from formwright.data.language import LanguageData, looks_like_language, read_language, windows
from formwright.data.tokenization import ByteTokenizer, Tokenizer
from formwright.deployment.preparations.language_modelling import LanguagePreparation
from formwright.errors import UserError
from formwright.fitting.kind import DATA, ENCODING, Data, Option, Reading
from formwright.shapes import LanguageShape

if TYPE_CHECKING:
    from formwright.batch import Batch
    from formwright.data.language_batches import LanguageBatches
    from formwright.models.pretrained import Pretrained

#: Ids of a window; fewer where the text has fewer than so many windows.
LENGTH, FEWEST_WINDOWS = 256, 64
SHORTEST_LENGTH = 32
#: A training that sees the text fewer times than this, or fewer ids, is not worth a larger model.
FEWEST_EPOCHS, MOST_WORTHWHILE = 6, 20_000_000


@DATA.register("language")
class RunningText(Data):
    """A running text; each of its tokens is predicted from those before it in a window.

    Attributes:
        tokens_per_byte: of the text of each part.
    """

    name: ClassVar[str] = "language"
    subject: ClassVar[str] = "language"
    target: ClassVar[str] = "next tokens"
    order: ClassVar[int] = 90
    expects: ClassVar[str] = "running text (a file in UTF-8, or a folder of them)"
    options: ClassVar[Mapping[str, Option]] = {"encoding": ENCODING}
    sample: ClassVar[str] = "window of text"
    samples: ClassVar[str] = "windows"
    argument: ClassVar[str] = "some text"
    asked: ClassVar[str] = "a text, or a file that holds one"
    race_samples: ClassVar[int] = 64
    calibration_samples: ClassVar[int] = 48
    takes_weights: ClassVar[bool] = True
    keeps_best: ClassVar[bool] = True

    content: LanguageData
    preparation: LanguagePreparation

    def __init__(self, content: LanguageData, weights: Sequence[Pretrained] = ()) -> None:
        self.content, self.weights = content, weights
        tokenizer: Tokenizer = ByteTokenizer()
        longest = LENGTH
        if weights:
            from formwright.fitting.tokens import shared_tokenizer

            tokenizer = shared_tokenizer(weights)
            longest = min(LENGTH, *(one.specification.input.length for one in weights))  # type: ignore[union-attr]
        self.ids = {part: np.array(tokenizer.encode(text), np.int64) for part, text in content.parts.items()}
        sizes = {part: len(text.encode(errors="surrogateescape")) for part, text in content.parts.items()}
        self.tokens_per_byte = {part: len(ids) / max(sizes[part], 1) for part, ids in self.ids.items()}
        shortest = min(len(ids) for ids in self.ids.values()) - 2
        if shortest < SHORTEST_LENGTH:
            raise UserError(
                f"The shortest part of the text has {shortest + 2} tokens; windows have {SHORTEST_LENGTH} at least: "
                "give a longer text."
            )
        length = max(SHORTEST_LENGTH, min(longest, len(self.ids["train"]) // FEWEST_WINDOWS, shortest) // 32 * 32)
        self.preparation = LanguagePreparation(tokenizer, length)
        self.rows = {part: windows(ids, length, overlap=length // 2) for part, ids in self.ids.items()}
        self.samples_of = {part: len(rows) for part, (rows, _) in self.rows.items()}

    @property
    def length(self) -> int:
        """Ids of a window."""
        return self.preparation.length

    @property
    def notes(self) -> tuple[str, ...]:
        length = self.length
        tokens = f"those of {self.weights[0].title}" if self.weights else "bytes"
        told = f"Tokens: {tokens}, in windows of {length}; each is predicted from at least {length // 2} before it."
        return (*super().notes, told)

    @classmethod
    def recognise(cls, path: Path | None) -> str | None:
        return None if path is None else looks_like_language(path)

    @classmethod
    def read(cls, path: Path | None, how: Reading) -> Self:
        if path is None:
            raise UserError("No text was given; name a text file, or a folder of them.")
        from formwright.nn.inputs import TokenInput

        for weights in how.weights:
            weights.check_takes(TokenInput, "running text")
            if weights.specification.task != "language-modelling":
                raise UserError(
                    f"{weights.origin} holds a model ({weights.specification.name}) that foretells no next token: give "
                    "the weights of a model of language, such as GPT-2's."
                )
        encoding = how.options.get("encoding")
        return cls(read_language(path, encoding=encoding, skip_bad=how.skip_bad, out=how.out), how.weights)

    def training_batches(self, batch_size: int, *, seed: int, parts: Sequence[str] = ("train",)) -> LanguageBatches:
        from formwright.data.language_batches import LanguageBatches

        ids = np.concatenate([self.ids[part] for part in parts])
        return LanguageBatches(ids, self.length, batch_size=batch_size, seed=seed)

    def evaluation_batches(
        self, part: str, *, batch_size: int | None = None, most: int | None = None
    ) -> Iterator[Batch]:
        from formwright.data.array_batches import in_order

        return in_order(*self.rows[part], batch_size=batch_size or 32, most=most)

    @property
    def shape(self) -> LanguageShape:
        return LanguageShape(self.preparation.tokenizer.vocabulary, self.length, len(self.ids["train"]))

    @property
    def worthwhile_samples(self) -> float:
        return min(FEWEST_EPOCHS * len(self.ids["train"]), MOST_WORTHWHILE) / self.length

    def describe(self) -> dict[str, Any]:
        return {
            "files": len(self.content.files),
            "characters": {part: len(text) for part, text in self.content.parts.items()},
            "vocabulary": self.preparation.tokenizer.vocabulary,
            "length": self.length,
            "tokens": f"{self.preparation.tokenizer.vocabulary:,} of a vocabulary" if self.weights else "bytes",
        }

    @classmethod
    def facts(cls, data: Mapping[str, Any]) -> list[tuple[str, str]]:
        return [
            ("characters", cls.summary(data)),
            ("tokens", f"{data.get('tokens', 'bytes')}, windows of {data['length']:,}"),
        ]

    @classmethod
    def summary(cls, data: Mapping[str, Any]) -> str:
        files = f"{data['files']:,} file{'s' if data['files'] != 1 else ''}"
        return f"{sum(data['characters'].values()):,} characters in {files}"

"""Modelling of language: foretelling the next byte of a text."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from formwright.batch import Batch
from formwright.data.language import LanguageData, looks_like_language, read_language, windows
from formwright.data.language_batches import LanguageBatches
from formwright.data.splits import evenly_spaced
from formwright.data.tokenization import ByteTokenizer
from formwright.deployment.language import LanguagePreprocessing
from formwright.errors import UserError
from formwright.fitting.metric import Metric
from formwright.fitting.records import Baseline, FitResult
from formwright.fitting.task import TASKS, Findings, Page, Peer, Reading, Run, Task, Words
from formwright.inference.generation import generate_text
from formwright.inference.sampling import Sampling
from formwright.measurement.budget import format_bytes
from formwright.metrics.language import next_token_nats, ngram_nats, unigram_nats
from formwright.models import Network
from formwright.models.identification import Pretrained
from formwright.objectives import Distillation, Objective
from formwright.objectives.language import NextToken
from formwright.search.language import LanguageShape, LanguageSpace
from formwright.training.recipe import Recipe

#: Ids of a window; fewer where the text has fewer than so many windows.
LENGTH, FEWEST_WINDOWS = 256, 64
#: A training that sees the text fewer times than this, or fewer ids, is not worth a larger model.
FEWEST_EPOCHS, MOST_WORTHWHILE = 6, 20_000_000
ORDER = 5
SAMPLES, SAMPLE_TOKENS, PROMPT = 3, 400, 40
_BITS = 1 / math.log(2)


@TASKS.register("language-modelling")
class LanguageModelling(Task):
    """A running text as bytes; each is foretold from those before it in a window."""

    name: ClassVar[str] = "language-modelling"
    order: ClassVar[int] = 90
    metric: ClassVar[Metric] = Metric(
        "bits per byte", "bits_per_byte", lower_is_better=True, tolerance=0.01, relative=True, closeness="1 % of"
    )
    words: ClassVar[Words] = Words(
        model="a model of language",
        sample="window of text",
        samples="windows",
        argument="some text",
        answer="how well a text is foretold; formwright generate continues one",
        figure="Bits that each one needs for a byte of the test text; fewer are better",
    )
    peer: ClassVar[Peer] = Peer("plain Transformer", "decoder")
    race_samples: ClassVar[int] = 64
    calibration_samples: ClassVar[int] = 48
    keeps_best: ClassVar[bool] = True
    refits: ClassVar[bool] = True

    def __init__(self, data: LanguageData) -> None:
        self.data = data
        self.source = data.source
        self.tokenizer = ByteTokenizer()
        self.ids = {part: np.array(self.tokenizer.encode(text), np.int64) for part, text in data.parts.items()}
        shortest = min(len(ids) for ids in self.ids.values()) - 2
        self.length = max(32, min(LENGTH, len(self.ids["train"]) // FEWEST_WINDOWS, shortest) // 32 * 32)
        self.rows = {part: windows(ids, self.length, overlap=self.length // 2) for part, ids in self.ids.items()}
        self.samples = {part: len(rows) for part, (rows, _) in self.rows.items()}
        self.notes = (
            *data.notes,
            f"Tokens: bytes, in windows of {self.length}; each is foretold from {self.length // 2} before it at least.",
        )

    @classmethod
    def recognise(cls, path: Path | None) -> str | None:
        return None if path is None else looks_like_language(path)

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
            raise UserError("No text was given; name a text file, or a folder of them.")
        if pretrained is not None:
            raise UserError("A checkpoint (--weights) cannot join a race of models of language; leave it out.")
        return cls(read_language(path, skip_bad=skip_bad))

    def save_splits(self, path: str | Path) -> None:
        self.data.save_splits(path)

    def check_splits(self, path: str | Path) -> None:
        self.data.check_splits(path)

    def training_batches(self, batch_size: int, *, seed: int) -> LanguageBatches:
        return LanguageBatches(self.ids["train"], self.length, batch_size=batch_size, seed=seed)

    def refit_batches(self, batch_size: int, *, seed: int) -> tuple[LanguageBatches, int]:
        ids = np.concatenate([self.ids["train"], self.ids["val"]])
        batches = LanguageBatches(ids, self.length, batch_size=batch_size, seed=seed)
        return batches, len(batches)

    def evaluation_batches(
        self, part: str, *, batch_size: int | None = None, most: int | None = None
    ) -> Iterator[Batch]:
        inputs, targets = self.rows[part]
        chosen = np.arange(len(inputs))
        if most is not None:
            chosen = evenly_spaced(chosen, most)
        size = batch_size or 32
        for start in range(0, len(chosen), size):
            rows = chosen[start : start + size]
            yield Batch(torch.from_numpy(inputs[rows]), torch.from_numpy(targets[rows]))

    @functools.cached_property
    def space(self) -> LanguageSpace:
        return LanguageSpace(LanguageShape(self.tokenizer.vocabulary, self.length, len(self.ids["train"])))

    @property
    def worthwhile_samples(self) -> float:
        return min(FEWEST_EPOCHS * len(self.ids["train"]), MOST_WORTHWHILE) / self.length

    def objective(self, recipe: Recipe | None = None) -> Objective:
        return NextToken(0.0 if recipe is None else recipe.label_smoothing)

    def distilled(self, recipe: Recipe, teacher: nn.Module) -> Objective:
        return Distillation(teacher, self.objective(recipe), weight=0.5, temperature=1.0)

    def counted(self, outputs: NDArray[np.float32], targets: NDArray[Any]) -> tuple[float, float]:
        nats = next_token_nats(outputs, targets)
        return float(nats.sum()) * _BITS, float(len(nats))

    def examine(self, run: Run, model: nn.Module) -> Findings:
        bits = self.metric.figure(self.score(run, "test"))
        count = len(self.ids["test"]) - 1
        characters = len(self.data.parts["test"]) - 1
        assert isinstance(model, Network)
        samples, speed = self._samples(model)
        state = model.init_state(1, self.length)
        return Findings(
            test={
                "bits_per_byte": bits,
                "nats_per_character": bits / _BITS * count / max(characters, 1),
                "perplexity_per_byte": 2.0**bits,
                "tokens_per_second": speed,
                "memory_per_stream": float(sum(value.numel() * value.element_size() for value in state.values())),
            },
            details={"samples": samples},
        )

    def _samples(self, model: Network) -> tuple[list[dict[str, str]], float]:
        """Continuations of places of the test part, and how many tokens a second each stream got."""
        text = self.data.parts["test"]
        prompts = [text[place : place + PROMPT] for place in range(0, len(text) - PROMPT, len(text) // SAMPLES)][
            :SAMPLES
        ]
        tokens = SAMPLE_TOKENS
        if any(part.name == "learned_positions" for stage in model.specification.stages for part in stage.entry):
            tokens = self.length - 4 * PROMPT  # a position table ends, and a character may have four bytes
        written = [""] * len(prompts)
        steps, started = 0, time.perf_counter()
        sampling = Sampling(temperature=0.8, seed=0)
        for pieces in generate_text(model, self.tokenizer, prompts, tokens=tokens, sampling=sampling):
            written = [before + (piece or "") for before, piece in zip(written, pieces, strict=True)]
            steps += 1
        speed = steps / (time.perf_counter() - started)
        return [{"prompt": one, "continuation": more} for one, more in zip(prompts, written, strict=True)], speed

    def baselines(self, *, seconds: float, seed: int) -> list[Baseline]:
        train, test, vocabulary = self.ids["train"], self.ids["test"], 256
        started = time.perf_counter()
        unigram = unigram_nats(train, test, vocabulary) * _BITS
        counted = time.perf_counter()
        ngram = ngram_nats(train[-20_000_000:], test, vocabulary, order=ORDER) * _BITS
        return [
            Baseline("unigram", self.metric.score(unigram), counted - started, "how frequent each byte is"),
            Baseline(
                f"{ORDER}-gram",
                self.metric.score(ngram),
                time.perf_counter() - counted,
                f"counts of up to {ORDER} bytes, interpolated with Witten-Bell weights",
            ),
        ]

    def preprocessing(self) -> LanguagePreprocessing:
        return LanguagePreprocessing(self.tokenizer, self.length)

    def describe(self) -> dict[str, Any]:
        return {
            "files": len(self.data.files),
            "characters": {part: len(text) for part, text in self.data.parts.items()},
            "vocabulary": self.tokenizer.vocabulary,
            "length": self.length,
        }

    @classmethod
    def page(cls, result: FitResult, attachments: Mapping[int, Any]) -> Page:
        test, data = result.test, result.data
        total = sum(data["characters"].values())
        bits = f"{test['bits_per_byte']:.3f} bits"
        return Page(
            answer=[("It needs", False), (bits, True), ("for a byte of the test text", False)],
            asked=f"{total:,} characters in {data['files']:,} file{'s' if data['files'] != 1 else ''}",
            figures=[
                ("bits per byte", "what compressing the test text with it would cost", f"{test['bits_per_byte']:.3f}"),
                ("nats per character", "the same as it is often reported", f"{test['nats_per_character']:.3f}"),
                ("perplexity", "between how many bytes it hesitates, on average", f"{test['perplexity_per_byte']:.2f}"),
                ("tokens a second", "of each of three streams in PyTorch", f"{test['tokens_per_second']:,.0f}"),
                (
                    "memory of a stream",
                    "what generation remembers of one window",
                    format_bytes(test["memory_per_stream"]),
                ),
            ],
            facts=[
                ("characters", f"{total:,} in {data['files']:,} files"),
                ("tokens", f"bytes, windows of {data['length']:,}"),
            ],
            title="What it writes",
            template="language.html.j2",
            content={"samples": result.details.get("samples", [])},
        )

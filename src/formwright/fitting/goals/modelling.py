"""Modelling of language: foretelling the next token of a text."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from formwright.errors import UserError
from formwright.fitting.data.language import RunningText
from formwright.fitting.goal import GOALS, Findings, Goal, Page, Run
from formwright.fitting.kind import Data
from formwright.fitting.metric import Metric
from formwright.fitting.records import Baseline, FitResult
from formwright.fitting.shown import Shown
from formwright.measurement.budget import format_bytes
from formwright.metrics.language import next_token_nats, ngram_nats, unigram_nats

if TYPE_CHECKING:
    from torch import nn

    from formwright.models import Network
    from formwright.objectives import Objective
    from formwright.training.recipe import Recipe

ORDER = 5
#: Continuations that the report shows, tokens of each, and characters before it.
SAMPLES, SAMPLE_TOKENS, PROMPT = 3, 400, 40
_BITS = 1 / math.log(2)


@GOALS.register("modelling")
class LanguageModellingGoal(Goal[RunningText]):
    """The next token of a text, a byte or one of a checkpoint's vocabulary."""

    name: ClassVar[str] = "modelling"
    target: ClassVar[str] = "next tokens"
    metric: Metric = Metric(
        "bits per byte", "bits_per_byte", lower_is_better=True, tolerance=0.01, relative=True, closeness="1 % of"
    )
    model: ClassVar[str] = "a model of language"
    answer: ClassVar[str] = "how well a text is predicted; formwright generate continues one"
    figure: ClassVar[str] = "Bits that each one needs for a byte of the test text; fewer are better"
    title: ClassVar[str] = "What it writes"
    template: ClassVar[str] = "language.html.j2"

    def objective(self, recipe: Recipe | None = None) -> Objective:
        from formwright.objectives.language import NextToken

        return NextToken(0.0 if recipe is None else recipe.label_smoothing)

    def distilled(self, recipe: Recipe, teacher: nn.Module) -> Objective:
        from formwright.objectives import Distillation

        return Distillation(teacher, self.objective(recipe), weight=0.5, temperature=1.0)

    def score(self, run: Run, part: str, *, most: int | None = None) -> float:
        return super().score(run, part, most=most) * self.data.tokens_per_byte[part]

    def counted(self, outputs: NDArray[np.float32], targets: NDArray[Any]) -> tuple[float, float]:
        nats = next_token_nats(outputs, targets)
        return float(nats.sum()) * _BITS, float(len(nats))

    def examine(self, run: Run, model: nn.Module) -> Findings:
        from formwright.models import Network
        from formwright.nn.streaming import bytes_of

        assert isinstance(model, Network)
        data = self.data
        bits = self.metric.figure(self.score(run, "test"))
        count, characters = len(_bytes(data.content.parts["test"])) - 1, len(data.content.parts["test"]) - 1
        samples, speed = self._samples(model)
        state = model.init_state(1, data.length)
        return Findings(
            test={
                "bits_per_byte": bits,
                "nats_per_character": bits / _BITS * count / max(characters, 1),
                "perplexity_per_byte": 2.0**bits,
                "tokens_per_second": speed,
                "memory_per_stream": float(bytes_of(state)),
            },
            details={"samples": samples},
        )

    def _samples(self, model: Network) -> tuple[list[dict[str, str]], float]:
        """Continuations of places of the test part, and how many tokens a second each stream got."""
        from formwright.inference.generation import generate_text
        from formwright.inference.sampling import Sampling

        text = self.data.content.parts["test"]
        places = range(0, len(text) - PROMPT, len(text) // SAMPLES)
        prompts = [text[place : place + PROMPT] for place in places][:SAMPLES]
        tokenizer, tokens = self.data.preparation.tokenizer, SAMPLE_TOKENS
        longest = max(len(tokenizer.encode(prompt)) for prompt in prompts)
        try:
            model.init_state(1, longest + tokens)
        except UserError:  # a position table ends
            while longest > self.data.length // 2:
                prompts = [prompt[: -(-len(prompt) // 2)] for prompt in prompts]
                longest = max(len(tokenizer.encode(prompt)) for prompt in prompts)
            tokens = self.data.length - longest
        written = [""] * len(prompts)
        steps, started = 0, time.perf_counter()
        sampling = Sampling(temperature=0.8, seed=0)
        for pieces in generate_text(model, tokenizer, prompts, tokens=tokens, sampling=sampling):
            written = [before + (piece or "") for before, piece in zip(written, pieces, strict=True)]
            steps += 1
        speed = steps / (time.perf_counter() - started)
        return [{"prompt": one, "continuation": more} for one, more in zip(prompts, written, strict=True)], speed

    def baselines(self, *, seconds: float, seed: int) -> list[Baseline]:
        train, test = (_bytes(self.data.content.parts[part]) for part in ("train", "test"))
        vocabulary = 256
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

    @classmethod
    def page(cls, result: FitResult, data: type[Data], attachments: Mapping[int, Shown | None]) -> Page:
        test = result.test
        bits, memory = f"{test['bits_per_byte']:.3f}", format_bytes(test["memory_per_stream"])
        return Page(
            answer=f"{bits} bits per byte on the test text",
            figures=[
                ("bits per byte", "what compressing the test text with it would cost", bits),
                ("nats per character", "the same as it is often reported", f"{test['nats_per_character']:.3f}"),
                ("perplexity", "equally likely choices per byte", f"{test['perplexity_per_byte']:.2f}"),
                ("tokens per second", "of each of three streams in PyTorch", f"{test['tokens_per_second']:,.0f}"),
                ("memory of a stream", "kept by generation for one stream", memory),
            ],
            content={"samples": result.details.get("samples", [])},
        )


def _bytes(text: str) -> NDArray[np.int64]:
    return np.frombuffer(text.encode(errors="surrogateescape"), np.uint8).astype(np.int64)

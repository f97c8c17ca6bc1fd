"""A small text, and decoders of bytes that are trained on it alike."""

from __future__ import annotations

import functools
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from formwright.batch import Batch
from formwright.catalog.experiments.contest import Contest
from formwright.models import Network, create_model
from formwright.models.language.transformer import decoder
from formwright.nn.specification import ChainSpec, PartSpec
from formwright.objectives import NextToken, Objective
from formwright.reporting import SILENT, Reporter

STEPS = 240
LENGTH, BATCH = 64, 16
VOCABULARY = 256
LEARNING_RATE = 3e-3
#: Windows of the held-out text that losses are measured on.
TEST_WINDOWS = 256

Result = TypeVar("Result")


@dataclass(frozen=True)
class SmallText:
    """Bytes of a text, its last tenth held out."""

    source: str
    train: NDArray[np.uint8]
    test: NDArray[np.uint8]


@functools.cache
def small_text() -> SmallText:
    """``tiny_shakespeare.txt`` where ``FORMWRIGHT_DATA`` has it, else the sources of PyTorch's layers."""
    folder = os.environ.get("FORMWRIGHT_DATA")
    path = Path(folder or "") / "tiny_shakespeare.txt"
    if folder and path.is_file():
        source, content = "tiny_shakespeare", path.read_bytes()
    else:
        sources = sorted(Path(torch.__file__).parent.joinpath("nn", "modules").glob("*.py"))
        source, content = "the sources of torch.nn.modules", b"".join(file.read_bytes() for file in sources)
    text = np.frombuffer(content, dtype=np.uint8)
    cut = len(text) * 9 // 10
    return SmallText(source, text[:cut], text[cut:])


class TextWindows:
    """Endless batches of windows of a text, drawn evenly; a batch depends on the seed and its step alone."""

    def __init__(self, text: NDArray[np.uint8], *, seed: int, length: int = LENGTH, batch: int = BATCH) -> None:
        self.text, self.seed, self.length, self.batch = text, seed, length, batch
        self.step = 0

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        starts = np.random.default_rng([self.seed, self.step]).integers(len(self.text) - self.length, size=self.batch)
        self.step += 1
        return windows(self.text, starts, self.length)

    def state_dict(self) -> dict[str, Any]:
        return {"seed": self.seed, "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seed, self.step = state["seed"], state["step"]


def windows(text: NDArray[np.uint8], starts: NDArray[np.int64], length: int) -> Batch:
    """Bytes from each start on, and the bytes that follow each of them."""
    ids = torch.from_numpy(text[starts[:, None] + np.arange(length + 1)].astype(np.int64))
    return Batch(ids[:, :-1], ids[:, 1:])


@torch.inference_mode()
def held_out_loss(model: torch.nn.Module, text: SmallText, *, length: int = LENGTH) -> float:
    """Nats a byte on evenly spaced windows of the held-out text."""
    starts = np.linspace(0, len(text.test) - length - 1, TEST_WINDOWS).astype(np.int64)
    model.eval()
    batches = (windows(text.test, chunk, length) for chunk in np.split(starts, 4))
    return statistics.mean(NextToken()(model, batch, 1.0).loss.item() for batch in batches)


@dataclass(frozen=True)
class TrainedModel:
    """A model after training, with its averaged weights; its loss on held-out text, and the last ones in training."""

    model: Network
    loss: float
    training_loss: float


def train_text(
    model: Network,
    *,
    steps: int = STEPS,
    seed: int = 0,
    objective: Objective | None = None,
    learning_rate: float = LEARNING_RATE,
    warmup: int | None = None,
    on_step: Callable[[int, float], None] | None = None,
    reporter: Reporter = SILENT,
) -> TrainedModel:
    """Train a decoder of bytes with one plain recipe for all: AdamW, warm-up and cosine, averaged weights.

    Args:
        objective: next tokens if unset.
        on_step: is told each step and its loss.
    """
    from formwright.training import Progress, Recipe, Trainer

    text = small_text()
    recipe = Recipe(
        optimizer="adamw",
        learning_rate=learning_rate,
        weight_decay=0.1,
        batch_size=BATCH,
        warmup=steps // 10 if warmup is None else warmup,
        ema_decay=0.98,
    )
    trainer = Trainer(model, objective or NextToken(), TextWindows(text.train, seed=seed), recipe, seed=seed)
    trainer.finish_at(steps)
    losses: list[float] = []

    def tell(progress: Progress) -> None:
        losses.append(progress.loss)
        if on_step is not None:
            on_step(progress.step, progress.loss)
        reporter.progress(progress.step / steps, f"{model.specification.name}, seed {seed}")

    trainer.train(steps=steps, on_step=tell)
    averaged = trainer.averaged_model()
    assert isinstance(averaged, Network)
    last = losses[-max(steps // 10, 1) :]
    return TrainedModel(averaged, held_out_loss(averaged, text), statistics.mean(last))


def small_decoder(
    channel_mixer: PartSpec, *, dim: int = 64, depth: int = 2, heads: int = 2, **options: Any
) -> ChainSpec:
    """A decoder of bytes with rotary attention."""
    return decoder(
        dim=dim,
        depth=depth,
        heads=heads,
        channel_mixer=channel_mixer,
        vocabulary=VOCABULARY,
        length=LENGTH,
        **options,
    )


def new_model(specification: ChainSpec, seed: int) -> Network:
    torch.manual_seed(seed)
    return create_model(specification)


#: What :func:`text_contest` scores models by.
HELD_OUT, IN_TRAINING = "on held-out text", "at the end of training"


def text_contest(contestants: Mapping[str, Callable[[], ChainSpec]], steps: int = STEPS) -> Contest[TrainedModel]:
    """A contest of decoders of bytes for the loss on held-out text, or at the end of training, in nats per byte."""

    def run(specification: ChainSpec, seed: int, reporter: Reporter) -> TrainedModel:
        return train_text(new_model(specification, seed), steps=steps, seed=seed, reporter=reporter)

    return Contest(
        contestants,
        run,
        functools.partial(conditions, steps),
        "{:.3f}".format,
        measures={HELD_OUT: lambda trained: trained.loss, IN_TRAINING: lambda trained: trained.training_loss},
        largest_first=False,
    )


def once(experiment: Callable[[Reporter], Result]) -> Callable[[Reporter], Result]:
    """The experiment, made when it is first asked for in a process; several claims read its result."""
    results: list[Result] = []

    @functools.wraps(experiment)
    def result(reporter: Reporter) -> Result:
        if not results:
            results.append(experiment(reporter))
        return results[0]

    return result


def conditions(steps: int, seeds: int | None = None) -> str:
    """On what, how long and how often was trained."""
    text = small_text()
    return (
        f"{text.source}, {len(text.train):,} bytes to train and {TEST_WINDOWS} windows of the rest to test, "
        f"{steps} steps of {BATCH} x {LENGTH} bytes{'' if seeds is None else f', {seeds} seeds'}"
    )


def spread(losses: Mapping[str, Sequence[float]]) -> str:
    """Mean and range over the seeds of each, in nats a byte, best first."""
    ranked = sorted(losses.items(), key=lambda item: statistics.mean(item[1]))
    return "; ".join(
        f"{name} {statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})" for name, values in ranked
    )

"""Claims that are directions on generated sequences: models that are trained alike, small, and compared over seeds."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from formwright.batch import Batch
from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.contests import SEEDS, parameters
from formwright.models import Network, create_model
from formwright.nn.specification import NetworkSpec
from formwright.objectives import Objective
from formwright.objectives.language import IGNORED
from formwright.reporting import SILENT, Reporter, Share
from formwright.training.loop import TrainingBatches

Scores = dict[str, list[float]]


def train_sequences(
    specification: NetworkSpec,
    objective: Objective,
    batches: TrainingBatches,
    *,
    steps: int,
    seed: int,
    learning_rate: float = 0.03,
    optimizer: Literal["muon", "adamw"] = "muon",
    warmup: int | None = None,
    reporter: Reporter = SILENT,
) -> Network:
    """Train a model from scratch with one plain recipe for all: cosine, averaged weights.

    Args:
        warmup: steps over which the learning rate rises; a tenth of all if unset.
    """
    from formwright.training import Progress, Recipe, Trainer

    recipe = Recipe(
        optimizer=optimizer,
        learning_rate=learning_rate,
        vector_learning_rate=learning_rate / 10,
        warmup=max(steps // 10, 1) if warmup is None else warmup,
        ema_decay=0.98,
    )
    torch.manual_seed(seed)
    trainer = Trainer(create_model(specification), objective, batches, recipe, seed=seed)
    trainer.finish_at(steps)

    def tell(progress: Progress) -> None:
        reporter.progress(progress.step / steps, f"{specification.name}, seed {seed}")

    trainer.train(steps=steps, on_step=tell)
    averaged = trainer.averaged_model()
    assert isinstance(averaged, Network)
    return averaged.eval()


@torch.inference_mode()
def answered_rightly(model: Network, batch: Batch) -> float:
    """The share of the targets that are the model's likeliest answer."""
    asked = batch.targets != IGNORED
    return float((model(batch.inputs).argmax(-1) == batch.targets)[asked].float().mean())


@dataclass(eq=False)
class SequenceContest:
    """Models that are trained alike, each with every seed; their scores are computed once in a process.

    Attributes:
        contestants: how each is built, by name.
        run: trains a specification with a seed and gives its score.
        conditions: on what, how long and how it was scored.
        show: a score as text.
        largest_first: whether larger scores are better.
    """

    contestants: Mapping[str, Callable[[], NetworkSpec]]
    run: Callable[[NetworkSpec, int, Reporter], float]
    conditions: str
    show: Callable[[float], str]
    largest_first: bool = True
    seeds: tuple[int, ...] = SEEDS
    _scores: Scores | None = field(default=None, init=False)

    def specifications(self) -> dict[str, NetworkSpec]:
        return {name: dataclasses.replace(build(), name=name) for name, build in self.contestants.items()}

    def scores(self, reporter: Reporter = SILENT) -> Scores:
        """The scores of each contestant, one a seed."""
        if self._scores is None:
            scores: Scores = {name: [] for name in self.contestants}
            runs = [(seed, *item) for seed in self.seeds for item in self.specifications().items()]
            for index, (seed, name, specification) in enumerate(runs):
                scores[name].append(self.run(specification, seed, Share(reporter, index, len(runs))))
            self._scores = scores
        return self._scores

    def claim(self, name: str, statement: str, *, holds: Callable[[Mapping[str, float]], bool]) -> Claim:
        """The claim that ``holds`` is true of the contestants' mean scores."""

        def run(reporter: Reporter) -> ClaimResult:
            scores = self.scores(reporter)
            means = {contestant: statistics.mean(values) for contestant, values in scores.items()}
            sizes = [
                f"{name} {parameters(spec) / 1e3:.0f} k parameters" for name, spec in self.specifications().items()
            ]
            details = f"{self.conditions}, {len(self.seeds)} seeds; {', '.join(sizes)}"
            return ClaimResult(self._spread(scores), holds(means), details)

        return Claim(name, "direction", statement, published=statement, run=run, slow=True)

    def _spread(self, scores: Mapping[str, Sequence[float]]) -> str:
        """Mean and range over the seeds of each, best first."""
        ranked = sorted(scores.items(), key=lambda item: statistics.mean(item[1]), reverse=self.largest_first)
        return "; ".join(
            f"{name} {self.show(statistics.mean(values))} ({self.show(min(values))} to {self.show(max(values))})"
            for name, values in ranked
        )

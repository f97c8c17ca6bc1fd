"""Claims that are directions: models that are trained alike, small, and compared over seeds."""

from __future__ import annotations

import dataclasses
import functools
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from formwright.catalog.claim import Claim, ClaimResult
from formwright.measurement.macs import count_macs
from formwright.models import create_model, empty_copy
from formwright.nn.specification import BlockSpec, ChainSpec, NetworkSpec, PartSpec
from formwright.reporting import SILENT, Reporter, Share

if TYPE_CHECKING:
    from formwright.data.images import ImageData

SEEDS = (0, 1, 2)
STEPS = 400
SIDE = 32
#: So many pictures of CIFAR-10 train and test: a small data set, as the claims say, and minutes instead of hours.
TRAIN_PICTURES, TEST_PICTURES = 5_000, 2_000

Scores = dict[str, list[float]]


@functools.cache
def small_images() -> ImageData:
    """Pictures of 32 x 32: CIFAR-10 where ``FORMWRIGHT_DATA`` has a folder ``cifar10``, else scikit-learn's digits."""
    from formwright.data import read_images
    from formwright.data.splits import evenly_spaced

    folder = Path(os.environ.get("FORMWRIGHT_DATA", "")) / "cifar10"
    if "FORMWRIGHT_DATA" not in os.environ or not folder.is_dir():
        return read_images(None, size=SIDE)
    data = read_images(folder, size=SIDE)
    few = dataclasses.replace(
        data.split,
        train=evenly_spaced(data.split.train, TRAIN_PICTURES),
        test=evenly_spaced(data.split.test, TEST_PICTURES),
    )
    return dataclasses.replace(data, split=few)


def train_small(
    specification: ChainSpec, data: ImageData, *, steps: int, seed: int, reporter: Reporter = SILENT
) -> float:
    """Train a model from scratch with one plain recipe for all, and return its accuracy on the test pictures.

    AdamW, warm-up and cosine, batches of 64, cautious augmentation, averaged weights. The seed decides the initial
    weights and the order of the pictures.
    """
    from formwright.data.augmentation import infer_augmentation
    from formwright.data.batches import evaluation_batches, training_batches
    from formwright.objectives import Classification
    from formwright.training import Progress, Recipe, Trainer
    from formwright.training.evaluation import accuracy_of

    recipe = Recipe(
        optimizer="adamw", learning_rate=2e-3, weight_decay=0.05, batch_size=64, warmup=steps // 10, ema_decay=0.99
    )
    torch.manual_seed(seed)
    model = create_model(specification)
    batches = training_batches(data, batch_size=recipe.batch_size, seed=seed, augmentation=infer_augmentation(data))
    trainer = Trainer(model, Classification(label_smoothing=recipe.label_smoothing), batches, recipe, seed=seed)
    trainer.finish_at(steps)

    def tell(progress: Progress) -> None:
        reporter.progress(progress.step / steps, f"{specification.name}, seed {seed}")

    trainer.train(steps=steps, on_step=tell)
    return accuracy_of(trainer.averaged_model(), evaluation_batches(data, "test"))


@dataclass(eq=False)
class Contest:
    """Models that are trained alike, each with every seed; their scores are computed once in a process.

    Attributes:
        contestants: the specification of each for a number of channels and of classes.
        steps: how long each is trained.
    """

    contestants: Mapping[str, Callable[[int, int], ChainSpec]]
    steps: int = STEPS
    seeds: tuple[int, ...] = SEEDS
    _scores: Scores | None = field(default=None, init=False)

    def specifications(self, data: ImageData) -> dict[str, ChainSpec]:
        return {
            name: dataclasses.replace(build(data.channels, data.classes), name=name)
            for name, build in self.contestants.items()
        }

    def scores(self, reporter: Reporter = SILENT) -> Scores:
        """Test accuracies of each contestant, one a seed."""
        if self._scores is None:
            self._scores = self._train(small_images(), reporter)
        return self._scores

    def _train(self, data: ImageData, reporter: Reporter) -> Scores:
        scores: Scores = {name: [] for name in self.contestants}
        runs = [(seed, *item) for seed in self.seeds for item in self.specifications(data).items()]
        for index, (seed, name, specification) in enumerate(runs):
            share = Share(reporter, index, len(runs))
            scores[name].append(train_small(specification, data, steps=self.steps, seed=seed, reporter=share))
        return scores

    def claim(self, name: str, statement: str, *, holds: Callable[[Mapping[str, float]], bool]) -> Claim:
        """The claim that ``holds`` is true of the contestants' mean scores."""

        def run(reporter: Reporter) -> ClaimResult:
            scores = self.scores(reporter)
            means = {contestant: statistics.mean(values) for contestant, values in scores.items()}
            return ClaimResult(_spread(scores), holds(means), self._conditions())

        return Claim(name, "direction", statement, published=statement, run=run, slow=True)

    def _conditions(self) -> str:
        data = small_images()
        sizes = [f"{name} {_size(specification)}" for name, specification in self.specifications(data).items()]
        return (
            f"{Path(data.source).name}, {len(data.split.train):,} pictures of {SIDE} x {SIDE} to train and "
            f"{len(data.split.test):,} to test, {self.steps} steps, {len(self.seeds)} seeds; {', '.join(sizes)}"
        )


def _spread(scores: Scores) -> str:
    """Mean and range over the seeds of each, best first."""
    ranked = sorted(scores.items(), key=lambda item: -statistics.mean(item[1]))
    return "; ".join(
        f"{name} {statistics.mean(values):.1%} ({min(values):.1%} to {max(values):.1%})" for name, values in ranked
    )


def _size(specification: ChainSpec) -> str:
    return f"{parameters(specification) / 1e3:.0f} k parameters and {macs(specification) / 1e6:.1f} M MACs"


def parameters(specification: NetworkSpec) -> int:
    return empty_copy(specification).parameter_count()


def macs(specification: ChainSpec) -> int:
    source = specification.input
    return count_macs(empty_copy(specification), torch.zeros(1, source.channels, *source.size, device="meta"))


def matched(
    build: Callable[[int], ChainSpec], widths: Sequence[int], target: int, measure: Callable[[ChainSpec], int]
) -> ChainSpec:
    """The model among ``widths`` whose size is nearest to ``target``: what makes a comparison one at equal cost."""
    return min((build(width) for width in widths), key=lambda specification: abs(measure(specification) - target))


def with_mixer(specification: ChainSpec, mixer: PartSpec) -> ChainSpec:
    """The model with another part in the first branch of every block."""

    def change(block: BlockSpec) -> BlockSpec:
        first, *others = block.branches
        return BlockSpec((dataclasses.replace(first, part=mixer), *others))

    stages: tuple[Any, ...] = tuple(
        dataclasses.replace(stage, blocks=tuple(map(change, stage.blocks))) for stage in specification.stages
    )
    return dataclasses.replace(specification, stages=stages)

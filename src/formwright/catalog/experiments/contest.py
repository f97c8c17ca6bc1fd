"""Claims that are directions: models that are trained alike, small, and compared over seeds."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch

from formwright.catalog.claim import Claim, ClaimResult
from formwright.measurement.macs import count_macs
from formwright.models import empty_copy
from formwright.nn.specification import BlockSpec, ChainSpec, NetworkSpec, PartSpec
from formwright.reporting import SILENT, Reporter, Share

SEEDS = (0, 1, 2)

Run = TypeVar("Run")


@dataclass(eq=False)
class Contest(Generic[Run]):
    """Models that are trained alike, each with every seed; computed once in a process.

    Attributes:
        contestants: how each is built, by name.
        run: trains a specification with a seed: a score, or a result of which ``measures`` are the scores.
        conditions: on what and how long was trained, and how it was scored; a function, where data must be read first.
        show: a score as text.
        measures: the scores of a result, and what each is called; the first is what claims are about.
        largest_first: whether larger scores are better.
        size: what is told of a specification beside its name.
    """

    contestants: Mapping[str, Callable[[], NetworkSpec]]
    run: Callable[[Any, int, Reporter], Run]
    conditions: str | Callable[[], str]
    show: Callable[[float], str]
    measures: Mapping[str, Callable[[Run], float]] = field(default_factory=lambda: {"": float})  # type: ignore[dict-item]
    largest_first: bool = True
    size: Callable[[Any], str] = lambda specification: f"{parameters(specification) / 1e3:.0f} k parameters"
    seeds: tuple[int, ...] = SEEDS
    _results: dict[str, list[Run]] | None = field(default=None, init=False)

    def specifications(self) -> dict[str, Any]:
        return {name: dataclasses.replace(build(), name=name) for name, build in self.contestants.items()}

    def results(self, reporter: Reporter = SILENT) -> dict[str, list[Run]]:
        """What each contestant's trainings gave, one per seed."""
        if self._results is None:
            results: dict[str, list[Run]] = {name: [] for name in self.contestants}
            runs = [(seed, *item) for seed in self.seeds for item in self.specifications().items()]
            for index, (seed, name, specification) in enumerate(runs):
                results[name].append(self.run(specification, seed, Share(reporter, index, len(runs))))
            self._results = results
        return self._results

    def claim(
        self, name: str, statement: str, *, holds: Callable[[Mapping[str, float]], bool], by: str | None = None
    ) -> Claim:
        """The claim that ``holds`` is true of the contestants' mean scores.

        Args:
            by: which of the measures is meant; the first if unset, and the others are told beside it.
        """
        first = next(iter(self.measures)) if by is None else by

        def run(reporter: Reporter) -> ClaimResult:
            results = self.results(reporter)
            scores = {
                measure: {contestant: [score(each) for each in runs] for contestant, runs in results.items()}
                for measure, score in self.measures.items()
            }
            means = {contestant: statistics.mean(values) for contestant, values in scores[first].items()}
            sizes = ", ".join(f"{name} {self.size(each)}" for name, each in self.specifications().items())
            others = [f"; {other}: {self._spread(scores[other])}" for other in self.measures if other != first]
            conditions = self.conditions if isinstance(self.conditions, str) else self.conditions()
            details = f"{conditions}, {len(self.seeds)} seeds; {sizes}{''.join(others)}"
            return ClaimResult(
                self._spread(scores[first]), holds(means), details, figures=scores[first], seeds=self.seeds
            )

        return Claim(name, "direction", statement, published=statement, run=run, slow=True)

    def _spread(self, scores: Mapping[str, Sequence[float]]) -> str:
        """Mean and range over the seeds of each, best first."""
        ranked = sorted(scores.items(), key=lambda item: statistics.mean(item[1]), reverse=self.largest_first)
        return "; ".join(
            f"{name} {self.show(statistics.mean(values))} ({self.show(min(values))} to {self.show(max(values))})"
            for name, values in ranked
        )


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

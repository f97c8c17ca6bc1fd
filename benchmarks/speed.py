"""The comparison with timm: cases, interleaved rounds, ratios."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks import sides
from benchmarks.peer import Peer
from benchmarks.timing import take_turn
from formwright.measurement import floor_seconds

MODELS = ("poolformer_s12", "convnext_tiny", "caformer_s18", "efficientvit_m5")
BATCHES = (1, 8)
TRAINING_BATCH = 8
SIZE = 224
THREADS = 2
FEWEST_ROUNDS, CASE_SECONDS = 5, 60.0  # a case of long calls has fewer rounds than asked for
REST = 0.02  # seconds between turns, in which the other side's threads stop spinning


@dataclass(frozen=True)
class Figure:
    """One form of one case beside timm, in one run of interleaved turns.

    ``speedup``: the median over rounds of timm's seconds over ours in the same round. ``floor_ratio``: our median over
    the least time that the machine needs for as many multiply-accumulates, or for reading the weights.
    """

    form: str
    model: str
    batch: int
    timm_seconds: float
    seconds: float
    speedup: float
    floor_ratio: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def run_cases(
    peer: Peer, models: Sequence[str], batches: Sequence[int], forms: Sequence[str], kinds: Sequence[str], rounds: int
) -> Iterator[Figure]:
    """Figures of every case as they are measured: inference at each batch size, then training steps."""
    for model in models:
        if "inference" in kinds:
            for batch in batches:
                ours = sides.inference(model, batch, SIZE, THREADS, forms)
                yield from _compare(peer, ours, model, batch, "inference", rounds)
        if "training" in kinds:
            ours = sides.training(model, TRAINING_BATCH, SIZE)
            yield from _compare(peer, ours, model, TRAINING_BATCH, "training", rounds)


def _compare(peer: Peer, ours: sides.Sides, model: str, batch: int, kind: str, rounds: int) -> Iterator[Figure]:
    case = {"model": model, "batch": batch, "size": SIZE, "kind": kind, "threads": THREADS}
    theirs = peer.ask(prepare=case)
    if theirs["parameters"] != ours.parameters:
        raise RuntimeError(f"timm's {model} has {theirs['parameters']:,} parameters, ours {ours.parameters:,}.")
    turns: dict[str, Callable[[], float]] = {"timm": peer.take_turn}
    turns |= {form: (lambda call=call: take_turn(call)) for form, call in ours.calls.items()}
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    start = time.monotonic()
    for done in range(rounds):
        if done >= FEWEST_ROUNDS and time.monotonic() - start > CASE_SECONDS:
            break
        for name, turn in turns.items():
            seconds[name].append(turn())
            time.sleep(REST)
    for form in ours.calls:
        median = statistics.median(seconds[form])
        yield Figure(
            form=form,
            model=model,
            batch=batch,
            timm_seconds=statistics.median(seconds["timm"]),
            seconds=median,
            speedup=statistics.median(slow / fast for slow, fast in zip(seconds["timm"], seconds[form], strict=True)),
            floor_ratio=median / floor_seconds(ours.macs * batch, 4 * ours.parameters, threads=THREADS),
        )


@dataclass(frozen=True)
class Goal:
    """What the figures of a kind shall reach: a geometric mean of the speed-ups, and none below ``lowest``."""

    name: str
    title: str
    mean: float
    lowest: float

    def chosen(self, figures: Sequence[Figure]) -> list[Figure]:
        """The figures that count: of the deployment forms, the fastest of each case."""
        if self.name != "deployed":
            return [figure for figure in figures if figure.form == self.name]
        cases: dict[tuple[str, int], Figure] = {}
        for figure in figures:
            case = figure.model, figure.batch
            if figure.form in sides.DEPLOYED and (case not in cases or figure.speedup > cases[case].speedup):
                cases[case] = figure
        return list(cases.values())

    def summary(self, figures: Sequence[Figure]) -> dict[str, Any] | None:
        speedups = [figure.speedup for figure in self.chosen(figures)]
        if not speedups:
            return None
        mean = math.exp(statistics.fmean(math.log(speedup) for speedup in speedups))
        return {
            "goal": self.title,
            "geometric_mean": mean,
            "asked_mean": self.mean,
            "lowest": min(speedups),
            "asked_lowest": self.lowest,
            "met": mean >= self.mean and min(speedups) >= self.lowest,
        }


GOALS = (
    Goal("eager", "eager inference over timm's eager", 1.2, 1.0),
    Goal("deployed", "best deployment form over timm's eager", 2.5, 1.3),
    Goal("training", "training step over timm's in channels_last", 1.0, 1.0),
)

"""Runs the arena within a budget of time: the same steps for every mixer, and speed and memory by length."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence

import torch

from formwright.errors import UserError
from formwright.measurement.budget import format_bytes, format_seconds
from formwright.measurement.memory import peak_memory
from formwright.models import create_model, empty_copy
from formwright.models.language.long_range_arena import ARENA_MIXERS, arena_mixer, long_range_arena
from formwright.nn.specification import NetworkSpec, PartSpec
from formwright.reporting import SILENT, Reporter
from formwright.studies.arena.contest import train_together
from formwright.studies.arena.records import ArenaResult, Score, Speed
from formwright.studies.arena.tasks import ArenaTask, Sources, task_named

LENGTHS = (1024, 2048, 4096, 8192, 16_384)
#: Rows of a task: as many as training may see once or a few times, and enough to tell accuracies apart by 2 %.
TRAIN_ROWS, TEST_ROWS = 4000, 500
PAPER_TRAIN_ROWS, PAPER_TEST_ROWS = 50_000, 2000

_SPEED_SHARE = 0.25  # of the budget
_MEMORY_SHARE = 0.5  # of what is free, for one step
_STEPS = 5  # that a length takes: one to warm up, one for memory, three for time


def run_arena(
    tasks: Sequence[str],
    mixers: Sequence[str],
    *,
    budget: float = 600.0,
    lengths: Sequence[int] = LENGTHS,
    paper: bool = False,
    seeds: Sequence[int] = (0,),
    sources: Sources | None = None,
    reporter: Reporter = SILENT,
) -> ArenaResult:
    """Train every mixer on every task in one frame with the same steps, and measure speed and memory by length.

    Three quarters of the budget are for training, the same for each task: all models of a task have the same number of
    steps, as many as its time allows. A length is left out for a mixer where it would need more memory than is free,
    or more time than its share.

    Args:
        tasks: names of :data:`~formwright.studies.arena.tasks.TASKS`; may be empty where only speed is asked for.
        mixers: names of :data:`~formwright.models.language.long_range_arena.ARENA_MIXERS`.
        budget: seconds for all.
        lengths: of rows, for speed and memory; may be empty.
        paper: the frame and the rows of the paper instead of small ones.
        seeds: each mixer is trained with each of them; they decide the rows, the first weights and the order.
        sources: texts and pictures to make tasks of, where they are not to be what comes with the dependencies.
        reporter: is told how far it is.

    Raises:
        UserError: an unknown task or mixer, no mixer, a length below 1, or a budget too small for a few steps of each.
    """
    chosen = [task_named(name) for name in dict.fromkeys(tasks)]
    mixers = list(dict.fromkeys(mixers))
    for mixer in mixers:
        arena_mixer(mixer, 1, 1)
    if not mixers:
        raise UserError(f"No mixer was named; choose among {', '.join(ARENA_MIXERS)}.")
    if any(length < 1 for length in lengths):
        raise UserError(f"Lengths are at least 1, and {min(lengths)} came.")
    if not seeds:
        raise UserError("No seed was given; give at least one.")
    sources = Sources() if sources is None else sources
    started = time.monotonic()
    for_speed = budget * (_SPEED_SHARE if chosen else 1.0) if lengths else 0.0
    speeds = _speeds(mixers, sorted(set(lengths)), for_speed, reporter)
    per_task = (budget - (time.monotonic() - started)) / max(len(chosen), 1)
    scores = []
    for task in chosen:
        scores += _scores(task, mixers, per_task, paper, tuple(seeds), sources, reporter)
    return ArenaResult(
        tasks=tuple(task.name for task in chosen),
        mixers=tuple(mixers),
        frame="the paper's configurations" if paper else "64 channels, 2 layers, 4 heads",
        scores=tuple(scores),
        speeds=tuple(speeds),
        budget=budget,
        seconds=time.monotonic() - started,
        machine=_machine(),
        seeds=tuple(seeds),
    )


def _machine() -> str:
    threads = torch.get_num_threads()
    return (
        f"{os.cpu_count()} processor cores, {threads} thread{'s' if threads > 1 else ''}, PyTorch {torch.__version__}"
    )


def _scores(
    task: ArenaTask,
    mixers: Sequence[str],
    seconds: float,
    paper: bool,
    seeds: tuple[int, ...],
    sources: Sources,
    reporter: Reporter,
) -> list[Score]:
    deadline = time.monotonic() + seconds
    reporter.stage(f"Training on {task.name}", seconds)
    counts = (PAPER_TRAIN_ROWS, PAPER_TEST_ROWS) if paper else (TRAIN_ROWS, TEST_ROWS)
    parts = {seed: task.rows(*counts, sources=sources, seed=seed, paper=paper) for seed in seeds}
    first = parts[seeds[0]]
    specifications = {mixer: task.specification(first.train, mixer, paper=paper) for mixer in mixers}
    contestants = {
        (mixer, seed): (specification, parts[seed], seed)
        for seed in seeds
        for mixer, specification in specifications.items()
    }
    found = train_together(contestants, seconds=deadline - time.monotonic(), reporter=reporter)
    scores = []
    for mixer, specification in specifications.items():
        trained = [found[mixer, seed] for seed in seeds]
        score = Score(
            task=task.name,
            mixer=mixer,
            accuracy=tuple(one.accuracy for one in trained),
            majority=first.test.first(trained[0].tested).majority(),
            tested=trained[0].tested,
            steps=trained[0].steps,
            seconds=statistics.mean(one.seconds for one in trained),
            parameters=empty_copy(specification).parameter_count(trainable=True),
            length=first.train.length,
            source=first.train.source,
        )
        scores.append(score)
        reporter.note(f"{task.name}: {mixer} {score.mean:.1%} after {score.steps:,} steps")
    return scores


def _speeds(mixers: Sequence[str], lengths: Sequence[int], seconds: float, reporter: Reporter) -> list[Speed]:
    if not lengths:
        return []
    reporter.stage("Speed and memory by length", seconds)
    deadline = time.monotonic() + seconds
    found: list[Speed] = []
    cells = len(mixers) * len(lengths)
    for row, mixer in enumerate(mixers):
        before: Speed | None = None
        for column, length in enumerate(lengths):
            index = row * len(lengths) + column
            reporter.progress(index / cells, f"{mixer}, {length:,} tokens")
            reason = _too_much(before, length, (deadline - time.monotonic()) / (cells - index))
            speed = Speed(mixer, length, skipped=reason) if reason else measure_speed(mixer, length)
            found.append(speed)
            before = speed if not reason else before
    return found


def _too_much(before: Speed | None, length: int, seconds: float) -> str:
    """Why a step at a length is not tried, after what was measured at a smaller one; empty where it is."""
    if before is None or before.steps_per_second is None:
        return ""
    growth = (length / before.length) ** 2  # that of full attention, the most there is
    expected = growth / before.steps_per_second
    if _STEPS * expected > max(seconds, 1.0):
        return f"a step would take about {format_seconds(expected)}"
    if before.peak_memory is not None:
        memory, free = growth * before.peak_memory, _free_memory()
        if free is not None and memory > _MEMORY_SHARE * free:
            return f"a step would need up to {format_bytes(memory)}"
    return ""


def _free_memory() -> int | None:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None


def speed_frame(mixer: str | PartSpec, length: int) -> NetworkSpec:
    """The small frame for rows of bytes of any length."""
    return long_range_arena(
        dim=64, depth=2, heads=4, hidden=128, mixer=mixer, vocabulary=257, length=length, padding=None, classes=2
    )


def measure_speed(mixer: str, length: int) -> Speed:
    """Training steps per second and their memory with one row, in the small frame."""
    torch.manual_seed(0)
    model = create_model(speed_frame(mixer, length)).train()
    ids = torch.randint(257, (1, length))
    target = torch.zeros(1, dtype=torch.int64)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        torch.autograd.backward(torch.nn.functional.cross_entropy(model(ids), target))

    step()  # what libraries set up once is nobody's memory
    memory = peak_memory(step)
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        step()
        times.append(time.perf_counter() - begun)
    return Speed(mixer, length, 1 / statistics.median(times), memory)

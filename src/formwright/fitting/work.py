"""The pieces of work that a run has done by an executor: each a function of a bench and of arguments in JSON.

What exports is imported where it is used: a worker that takes the place of a dead one shall be there soon.
"""

from __future__ import annotations

import dataclasses
import gc
import time
from collections.abc import Callable, Mapping
from typing import Any

from formwright.errors import LostError, NonFiniteLossError
from formwright.fitting.bench import Bench
from formwright.fitting.costs import faster_setting, measure_candidate, onnx_seconds
from formwright.fitting.records import trial_from_dict
from formwright.fitting.refits import REFIT_SHARE, refit, refitted
from formwright.fitting.restarts import begin_anew
from formwright.models import create_model
from formwright.nn.specification import NetworkSpec
from formwright.search.executors import Listener
from formwright.training.evaluation import runner
from formwright.training.recipe import Recipe

#: How PyTorch's errors say that there is not enough memory.
OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "bad_alloc")


def perform(bench: Bench, work: str, arguments: Mapping[str, Any], listener: Listener) -> Any:
    """Do a piece of work and return what came of it, in JSON.

    Raises:
        CandidateError: the candidate cannot go on; want of memory is told as such.
    """
    bench.tell = listener
    try:
        return WORK[work](bench, **arguments)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(words in str(error) for words in OUT_OF_MEMORY):
            raise
        bench.trainers.clear()
        gc.collect()
        raise LostError("There was not enough memory for this candidate.") from error


def train(bench: Bench, *, trial: dict[str, Any], seconds: float, left: float, running: list[int]) -> None:
    """Train a trial until it has had ``seconds`` of training, for ``left`` seconds at most."""
    deadline = time.monotonic() + left
    bench.forget_all_but(running)
    bench.train_until(trial_from_dict(trial), seconds, deadline=deadline)


def finish(
    bench: Bench,
    *,
    trial: dict[str, Any],
    teacher: dict[str, Any] | None,
    seconds: float,
    attempts: dict[str, Any] | None,
) -> None:
    """Train the winner of the race to the end in so many seconds, with what its task does beyond that."""
    end = time.monotonic() + seconds
    chosen = trial_from_dict(trial)
    bench.forget_all_but([chosen.number])
    trainer = bench.trainer(chosen)
    if teacher is not None:
        teaching = bench.trained(trial_from_dict(teacher))
        trainer.objective = bench.task.distilled(trainer.recipe, teaching)
    refits = bench.task.refits
    if refits:
        seconds *= 1 - REFIT_SHARE
    if bench.past_its_best(chosen):
        begin_anew(bench, chosen, trainer.objective, seconds, attempts)
    else:
        bench.finish(trainer, chosen, seconds, f"trial-{chosen.number:02d}")
    if refits:
        refit(bench, chosen, max(end - time.monotonic(), 1.0))


def measure(bench: Bench, *, specification: dict[str, Any], batch_size: int, precision: Any) -> dict[str, Any]:
    """What a candidate costs here, but for its latency in ONNX Runtime."""
    model = create_model(NetworkSpec.from_dict(specification))
    return dataclasses.asdict(measure_candidate(bench, model, batch_size=batch_size, precision=precision))


def latency(bench: Bench, *, specification: dict[str, Any]) -> float:
    """Median seconds for one sample in ONNX Runtime."""
    return onnx_seconds(bench, create_model(NetworkSpec.from_dict(specification)).eval())


def setting(bench: Bench, *, specification: dict[str, Any], batch_size: int) -> str:
    """The precision that training is faster in here; the number of threads is set to the faster one as well."""
    return faster_setting(bench, create_model(NetworkSpec.from_dict(specification)), batch_size=batch_size)


def export_trained(bench: Bench, *, trial: dict[str, Any]) -> dict[str, Any]:
    """Export the model of a trial as it is shipped: refitted where the task does that, else its averaged weights."""
    from formwright.fitting.exports import export

    chosen = trial_from_dict(trial)
    model = refitted(bench, chosen) if bench.task.refits else bench.trained(chosen)
    return dataclasses.asdict(export(bench, model, "trained", chosen.number))


def quantize_exported(bench: Bench, *, label: str, trial: int) -> dict[str, Any]:
    """The INT8 form of an exported model."""
    from formwright.fitting.exports import quantize

    return dataclasses.asdict(quantize(bench, label, trial))


def compress_exported(bench: Bench, *, label: str, recipe: dict[str, Any], **how: Any) -> dict[str, Any]:
    """A smaller model, made of an exported one."""
    from formwright.fitting.exports import compress

    return dataclasses.asdict(compress(bench, label, recipe=Recipe(**recipe), **how))


def peer(bench: Bench, *, trial: dict[str, Any], until: float | None) -> dict[str, Any]:
    """The plain model, trained until it has had ``until`` seconds if that is asked: its score on the test part."""
    plain = trial_from_dict(trial)
    trainer = bench.trainer(plain)
    failure = None
    if until is not None and trainer.seconds < until:
        checkpoint = f"trial-{plain.number:02d}-finished"
        if bench.paths.checkpoint(checkpoint).is_file():  # of a run that was killed here
            trainer.load(bench.paths.checkpoint(checkpoint))
        try:
            # Where the best weights are kept, those of before are among them.
            scored = plain if bench.task.data.keeps_best else None
            bench.finish(trainer, scored, max(until - trainer.seconds, 0.0), checkpoint)
        except NonFiniteLossError as error:
            failure = str(error)
    score = bench.task.goal.score(runner(bench.trained(plain)), "test")
    return {"score": score, "seconds": trainer.seconds, "failure": failure}


WORK: dict[str, Callable[..., Any]] = {
    "setting": setting,
    "measure": measure,
    "latency": latency,
    "train": train,
    "finish": finish,
    "export": export_trained,
    "quantize": quantize_exported,
    "compress": compress_exported,
    "peer": peer,
}

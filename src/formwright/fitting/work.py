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
from formwright.fitting.fitted import fit_competitor
from formwright.fitting.records import trial_from_dict
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


def fit(bench: Bench, *, trial: dict[str, Any], seconds: float) -> None:
    """Find the weights of a simple competitor, looking at samples for so many seconds at most."""
    fit_competitor(bench, trial_from_dict(trial), seconds)


def folds(
    bench: Bench, *, trial: dict[str, Any], seconds: float, attempts: dict[str, Any] | None
) -> dict[str, Any] | None:
    """The score of a candidate by cross-validation; none if there is no time for it."""
    from formwright.fitting.folds import score_by_folds

    found = score_by_folds(bench, trial_from_dict(trial), seconds, attempts)
    return None if found is None else dataclasses.asdict(found)


def test(bench: Bench, *, trial: dict[str, Any]) -> float:
    """The score of a candidate as it stands on the test part."""
    return bench.task.goal.score(runner(bench.trained(trial_from_dict(trial))), "test")


def finish(
    bench: Bench,
    *,
    trial: dict[str, Any],
    teacher: dict[str, Any] | None,
    seconds: float,
    attempts: dict[str, Any] | None,
) -> None:
    """Train the winner of the race to the end in so many seconds."""
    chosen = trial_from_dict(trial)
    bench.forget_all_but([chosen.number])
    trainer = bench.trainer(chosen)
    if teacher is not None and bench.answers is None:
        teaching = bench.trained(trial_from_dict(teacher))
        trainer.objective = bench.task.distilled(trainer.recipe, teaching)
    if bench.past_its_best(chosen):
        begin_anew(bench, chosen, trainer.objective, seconds, attempts)
    else:
        bench.finish(trainer, chosen, seconds, f"trial-{chosen.number:02d}")


def answer(bench: Bench, *, trial: dict[str, Any], seconds: float) -> int:
    """What a trained trial says of all samples, for the others to learn from."""
    from formwright.fitting.teaching import answer as write_answers

    return write_answers(bench, trial_from_dict(trial), seconds)


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


def export_trained(bench: Bench, *, trial: dict[str, Any], label: str) -> dict[str, Any]:
    """Export the model of a trial with its averaged weights."""
    from formwright.fitting.exports import export

    chosen = trial_from_dict(trial)
    return dataclasses.asdict(export(bench, bench.trained(chosen), label, chosen.number))


def average_best(
    bench: Bench, *, trials: list[dict[str, Any]], winner: int, limits: list[float], label: str
) -> dict[str, Any]:
    """The average of the best few candidates: who they are, what it gains and, where it does, its exported form."""
    from formwright.fitting.ensembles import average
    from formwright.fitting.exports import export

    candidates = [trial_from_dict(trial) for trial in trials]
    found, model = average(bench, candidates, winner, limits)
    numbers = [candidates[place].number for place in found.members]
    variant = dataclasses.asdict(export(bench, model, label, numbers[0])) if found.better else None
    return {
        "members": numbers,
        "mirrored": found.mirrored,
        "gain": found.gain,
        "noise": found.noise,
        "variant": variant,
    }


def refit_chosen(
    bench: Bench,
    *,
    form: str,
    label: str,
    trials: list[dict[str, Any]],
    parts: list[str],
    seconds: float,
    attempt: dict[str, Any] | None,
    teacher: dict[str, Any] | None,
    precision: str,
) -> bool:
    """Let an exported model learn again and export what becomes of it; whether it is of use."""
    from formwright.fitting.exports import write
    from formwright.fitting.refits import Again, refit

    bench.forget_all_but([])
    again = Again(parts, label, attempt, None if teacher is None else trial_from_dict(teacher))
    model = refit(bench, form, [trial_from_dict(trial) for trial in trials], again, seconds)
    if model is not None:
        write(bench, model, label, precision)
    return model is not None


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
    raced = until is None or bench.task.data.keeps_best
    model = bench.trained(plain) if raced else trainer.averaged_model()
    score = bench.task.goal.score(runner(model), "test")
    return {"score": score, "seconds": trainer.seconds, "failure": failure}


WORK: dict[str, Callable[..., Any]] = {
    "setting": setting,
    "measure": measure,
    "latency": latency,
    "train": train,
    "fit": fit,
    "folds": folds,
    "test": test,
    "finish": finish,
    "answer": answer,
    "export": export_trained,
    "average": average_best,
    "refit": refit_chosen,
    "quantize": quantize_exported,
    "compress": compress_exported,
    "peer": peer,
}

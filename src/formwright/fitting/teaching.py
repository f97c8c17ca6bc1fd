"""A checkpoint that misses the budget is trained before the others, and its answers are what they learn from.

A teacher that looks at every batch takes longer than what it teaches. Here it looks at every sample once, and at
further ones that are made of them, as long as there is time; what it said is kept in a file.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from formwright.batch import by_length
from formwright.errors import CandidateError
from formwright.files import write_safetensors
from formwright.fitting.bench import Bench
from formwright.fitting.kind import PARTS, ClassifiedData
from formwright.fitting.records import Trial
from formwright.fitting.session import Session
from formwright.fitting.shrink import note_step
from formwright.metrics.classification import softmax
from formwright.training.evaluation import runner

TAUGHT = "learning from the answers of a checkpoint"
#: Of the time for training, what a teacher gets; of the time of its answers, the share of each of several teachers that
#: are compared.
TEACHER_SHARE, ANSWER_SHARE, TRYOUT_SHARE = 0.35, 0.15, 0.1
#: Further samples for each one to train on, at most; how many are answered together.
MOST_FURTHER, TOGETHER = 20, 256


def teachers(session: Session) -> list[Trial]:
    """The checkpoints that miss the budget and could be trained; none where samples have no class to answer."""
    if not isinstance(session.task.data, ClassifiedData):
        return []
    trials = session.folder.state.trials
    return [t for t in trials if t.teacher and not t.fitted and "weights" in t.proposal and t.status != "failed"]


def teach(session: Session, seconds: float) -> None:
    """Train the best of the checkpoints that miss the budget, and keep its answers for the others.

    Args:
        seconds: of the run, for all that.
    """
    state, started = session.folder.state, time.monotonic()
    end = session.clock.spent + seconds
    candidates = teachers(session)
    if len(candidates) > 1:
        for trial in candidates:
            trial.status = "racing"
            session.train_until(trial, TRYOUT_SHARE * seconds, end=end)
        candidates = [trial for trial in candidates if trial.status == "racing"]
    for trial in sorted(candidates, key=lambda one: -one.score):
        try:
            left = end - session.clock.spent
            answering = ANSWER_SHARE / (ANSWER_SHARE + TEACHER_SHARE) * seconds
            attempts = state.facts.get("attempts")
            session.ready()
            session.do(
                "finish",
                trial=dataclasses.asdict(trial),
                teacher=None,
                seconds=max(left - answering, 0.5 * left),
                attempts=attempts if attempts is not None and attempts["trial"] == trial.number else None,
            )
            trial.status, trial.reason = "stopped", "misses the budget; trained for the others to learn from"
            best = max((t.score for t in state.trials if t.fitted and not t.teacher and t.curve), default=-np.inf)
            text = session.task.metric.text
            if trial.score <= best:
                reason = f"{trial.name} has {text(trial.score)}, no more than a simple competitor"
                note_step(session, TAUGHT, True, False, reason, started)
                break
            count = session.do("answer", trial=dataclasses.asdict(trial), seconds=max(end - session.clock.spent, 1.0))
            state.teacher = trial.number
            beside = f" and for {count:,} made of them" if count else ""
            reason = f"{trial.name} has {text(trial.score)}, and answered for all {session.task.data.samples}{beside}"
            note_step(session, TAUGHT, True, True, reason, started)
            break
        except CandidateError as error:
            trial.status, trial.reason = "failed", str(error)
    for trial in candidates:
        if trial.status == "racing":
            trial.status, trial.reason = "stopped", "misses the budget, and another one teaches better"
    state.finished.append("teach")
    session.save()


def answer(bench: Bench, trial: Trial, seconds: float) -> int:
    """Write down what a trained trial says of every sample and of further ones; how many further ones there are."""
    end = time.monotonic() + seconds
    data, model = bench.task.data, bench.trained(trial)
    assert isinstance(data, ClassifiedData)
    precision = trial.recipe["precision"]
    shares = {}
    few = data.few
    for part in PARTS if few else PARTS[:2]:  # the test part is learned where samples are few alone
        inputs = np.concatenate([batch.inputs.numpy() for batch in data.evaluation_batches(part)])
        shares[part] = _probabilities(model, precision, inputs)
        bench.progress(0.2, f"answers for the {part} part")
    further: list[tuple[NDArray[Any], NDArray[np.float32]]] = []
    while sum(len(inputs) for inputs, _ in further) < MOST_FURTHER * data.samples_of["train"]:
        started = time.monotonic()
        made = data.further_inputs(16 * TOGETHER, seed=1000 * bench.seed + len(further))
        if made is None:
            break
        further.append((made, _probabilities(model, precision, made)))
        taken = time.monotonic() - started
        bench.progress(0.5, f"answers for {sum(len(inputs) for inputs, _ in further):,} further {data.samples}")
        if time.monotonic() + taken > end:
            break
    tensors = {part: torch.from_numpy(values) for part, values in shares.items()}
    if further:
        tensors["inputs"] = torch.from_numpy(np.concatenate([inputs for inputs, _ in further]))
        tensors["further"] = torch.from_numpy(np.concatenate([said for _, said in further]))
    write_safetensors(bench.paths.answers, tensors, {})
    bench.forget_all_but([])
    return sum(len(inputs) for inputs, _ in further)


def _probabilities(model: nn.Module, precision: Any, inputs: NDArray[Any]) -> NDArray[np.float32]:
    run, order, found = runner(model, precision=precision), [], []
    for chosen, chunk in by_length(model, torch.from_numpy(inputs), TOGETHER):
        order.append(chosen.numpy())
        found.append(run(chunk))
    return softmax(np.concatenate(found)[np.argsort(np.concatenate(order))]).astype(np.float32)

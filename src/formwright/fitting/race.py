"""From a shortlist to a winner: candidates are proposed, measured, raced in seconds, and the best one is finished."""

from __future__ import annotations

import dataclasses
import gc
from typing import Any

from formwright.errors import UserError
from formwright.fitting.records import Trial
from formwright.fitting.session import Session
from formwright.fitting.shortlist import (
    Cost,
    affordable_steps,
    choose_precision,
    impossible,
    measure_candidate,
    to_trial,
)
from formwright.models import Model
from formwright.search.halving import plan_rungs, survivors
from formwright.search.spaces import FAMILIES, WIDTHS, PictureShape, Proposal, from_weights, propose

#: Of the time for training, how much the race may take before the winner is finished.
RACE_SHARE = 0.35
#: A first rung of fewer seconds than this says too little.
SHORTEST_RUNG = 1.5


def shortlist(session: Session, training_seconds: float) -> None:
    """Propose a candidate a family, as wide as the budget and the time allow, and the user's own checkpoint.

    Raises:
        UserError: nothing can meet the budget; the message says what comes nearest.
    """
    state = session.folder.state
    shape = picture_shape(session)
    first = next(iter(FAMILIES))
    choose_precision(session, propose(first, shape, width=32, depth=1))
    affordable = affordable_steps(session, training_seconds)
    misses: dict[str, Cost] = {}
    trials: list[Trial] = []
    deadline = session.clock.spent + 0.08 * session.clock.limit
    if session.weights is not None:
        specification, _ = session.weights
        for proposal in from_weights(specification, shape):
            cost = measure_candidate(session, proposal, batch_size=proposal.recipe.batch_size)
            if cost.violations(session):
                misses[proposal.name] = cost
                session.note(f"{proposal.name} cannot meet the budget: {'; '.join(cost.violations(session))}.")
            else:
                trials.append(to_trial(len(trials), proposal, cost, session))
    for index, family in enumerate(FAMILIES):
        session.reporter.progress(index / len(FAMILIES), family)
        if trials and session.clock.spent > deadline:
            session.note(f"There was no time to measure {family} and what comes after it.")
            break
        try:
            found = widest(session, shape, family, affordable, misses)
        except UserError as error:  # a family that cannot take pictures of this size
            session.note(f"{family} is left out: {error}")
            continue
        if found is not None:
            trials.append(to_trial(len(trials), *found, session))
    if not trials:
        raise impossible(session, misses)
    state.trials = trials
    session.save()


def picture_shape(session: Session) -> PictureShape:
    data = session.data
    return PictureShape(data.size, data.channels, data.classes, len(data.split.train))


def widest(
    session: Session, shape: PictureShape, family: str, affordable: float, misses: dict[str, Cost]
) -> tuple[Proposal, Cost] | None:
    """The widest candidate of a family that meets the budget and whose training steps are affordable."""
    low, high = 0, len(WIDTHS) - 1
    best: tuple[Proposal, Cost] | None = None
    slow: tuple[Proposal, Cost] | None = None
    while low <= high:
        middle = (low + high + 1) // 2
        proposal = propose(family, shape, width=WIDTHS[middle], depth=1 if WIDTHS[middle] < 24 else 2)
        cost = measure_candidate(session, proposal, batch_size=proposal.recipe.batch_size)
        violations = cost.violations(session)
        if not violations and cost.step * 128 / proposal.recipe.batch_size <= affordable:
            best, low = (proposal, cost), middle + 1
            continue
        if violations:
            misses[proposal.name] = cost
        else:
            slow = (proposal, cost)
        high = middle - 1
    return best or slow


def race(session: Session, seconds: float) -> None:
    """Halve the shortlist until one candidate is left; the decided rungs are remembered across kills."""
    state = session.folder.state
    entrants = [trial for trial in state.trials if trial.status != "dropped"]
    most = max(2, int(seconds / (2.0 * SHORTEST_RUNG)))
    for trial in entrants[most:]:
        trial.status, trial.reason = "dropped", "there was no time to race more candidates"
    entrants = entrants[:most]
    if "rungs" not in state.facts:
        overhead = min(1.0, 0.05 * seconds / max(len(entrants), 1))
        state.facts["rungs"] = [
            dataclasses.asdict(rung) for rung in plan_rungs(len(entrants), seconds, overhead=overhead)
        ]
        session.save()
    rungs: list[dict[str, Any]] = state.facts["rungs"]
    running = [trial for trial in entrants if trial.status in ("waiting", "racing")]
    start, end = session.clock.spent, session.clock.spent + seconds
    for index, rung in enumerate(rungs):
        if index < state.rungs_done:
            continue
        for trial in running:
            if trial.curve and trial.seconds >= 0.98 * rung["seconds"]:
                continue
            trial.status = "racing"
            session.train_until(trial, rung["seconds"], deadline=session.clock.deadline(end))
            share = (session.clock.spent - start) / max(end - start, 1e-6)
            session.reporter.progress(min(share, 1.0), f"{trial.name}: {trial.score:.1%}")
        running = [trial for trial in running if trial.status == "racing"]
        kept = survivors({trial.number: trial.score for trial in running}, rung["survivors"])
        for trial in running:
            if trial.number not in kept:
                trial.status = "stopped"
                trial.reason = f"rung {index + 1} of {len(rungs)}: the better ones had {_worst(running, kept):.1%}"
                session.trainers.pop(trial.number, None)
                gc.collect()
        running = [trial for trial in running if trial.number in kept]
        state.rungs_done = index + 1
        session.save()
    if not running:
        running = _last_hope(session)
    state.winner = max(running, key=lambda trial: trial.score).number
    session.save()


def _worst(running: list[Trial], kept: list[int]) -> float:
    return min(trial.score for trial in running if trial.number in kept)


def _last_hope(session: Session) -> list[Trial]:
    """When every racing trial failed, the best of those that were stopped goes on."""
    from formwright.errors import NonFiniteLossError

    scored = [trial for trial in session.folder.state.trials if trial.curve and trial.status != "failed"]
    if not scored:
        reason = next((t.reason for t in session.folder.state.trials if t.status == "failed"), "no candidate trained")
        raise NonFiniteLossError(f"Every candidate failed to train; the first one: {reason}")
    return [max(scored, key=lambda trial: trial.score)]


def finish_winner(session: Session, seconds: float) -> Model:
    """Train the winner to the end and return it with its averaged weights."""
    state = session.folder.state
    assert state.winner is not None
    trial = next(trial for trial in state.trials if trial.number == state.winner)
    trainer = session.trainer(trial)
    session.finish(trainer, trial, seconds, f"trial-{trial.number:02d}")
    trial.status = "finished"
    state.finished.append("train")
    session.save()
    model = trainer.averaged_model()
    assert isinstance(model, Model)
    return model

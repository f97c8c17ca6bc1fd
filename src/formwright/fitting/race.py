"""From a shortlist to a winner: candidates are proposed, measured, raced in seconds, and the best one is finished."""

from __future__ import annotations

import dataclasses
import gc
import time
from typing import Any

from formwright.errors import NonFiniteLossError, StorageError, UserError
from formwright.fitting.records import Trial
from formwright.fitting.refits import REFIT_SHARE, refit, refitted
from formwright.fitting.restarts import begin_anew
from formwright.fitting.session import Session
from formwright.fitting.shortlist import (
    Cost,
    affordable_sample,
    choose_precision,
    confirm_latency,
    impossible,
    measure_candidate,
    to_trial,
)
from formwright.fitting.shrink import note_step
from formwright.models import Network
from formwright.search.halving import Rung, plan_rungs, survivors
from formwright.search.proposals import Proposer
from formwright.search.space import Proposal, Space

#: Of the time for training, how much the race may take before the winner is finished.
RACE_SHARE = 0.35
#: Of the whole time, how much measuring candidates may take.
SHORTLIST_SHARE = 0.12
#: Newcomers are proposed as long as everybody still has this many seconds in the first rung.
NEWCOMER_RUNG, MOST_CANDIDATES = 30.0, 32
DISTILLATION = "distillation from a larger teacher"
#: A first rung of fewer seconds or steps than this says too little.
SHORTEST_RUNG, FEWEST_RUNG_STEPS = 1.5, 60


def shortlist(session: Session, training_seconds: float) -> None:
    """Propose a candidate a family, as wide as the budget and the time allow, and the user's own checkpoint.

    Raises:
        UserError: nothing can meet the budget; the message says what comes nearest.
    """
    state = session.folder.state
    space = session.task.space
    first = next(iter(space.families))
    ladder = space.ladder(first)
    choose_precision(session, space.propose(first, **ladder[len(ladder) // 2]))
    affordable = affordable_sample(session, training_seconds)
    misses: dict[str, Cost] = {}
    trials: list[Trial] = []
    left_out: list[str] = []
    deadline = session.clock.spent + SHORTLIST_SHARE * session.clock.limit
    if session.weights is not None:
        specification, _ = session.weights
        for proposal in space.from_weights(specification):
            cost = measure_candidate(session, proposal, batch_size=proposal.recipe.batch_size)
            cost = confirm_latency(session, proposal, cost)
            trial = to_trial(len(trials), proposal, cost, session)
            if cost.violations(session):
                misses[proposal.name] = cost
                trial.teacher = True
                session.note(
                    f"{proposal.name} cannot meet the budget ({'; '.join(cost.violations(session))}); the others may "
                    "learn from it."
                )
            trials.append(trial)
    for index, family in enumerate(space.families):
        session.reporter.progress(index / len(space.families), family)
        session.save()  # the time used, should the run be killed here
        if trials and session.clock.spent > deadline:
            session.note(f"There was no time to measure {family} and what comes after it.")
            break
        try:
            found = widest(session, space, family, affordable, misses)
        except StorageError:
            raise
        except UserError as error:  # a family that cannot take samples of this size
            left_out.append(f"{family} is left out: {error}")
            session.note(left_out[-1])
            continue
        if found is not None:
            trials.append(to_trial(len(trials), *found, session))
    if not misses and not trials:
        raise UserError(f"{space.left_out}; {left_out[0]}")
    if all(trial.teacher for trial in trials):
        raise impossible(session, misses)
    state.trials = trials
    session.save()


def widest(
    session: Session, space: Space, family: str, affordable: float, misses: dict[str, Cost]
) -> tuple[Proposal, Cost] | None:
    """The largest candidate of a family that meets the budget and whose training steps are affordable."""
    ladder = space.ladder(family)
    measured: dict[int, tuple[Proposal, Cost]] = {}

    def candidate(index: int) -> tuple[Proposal, Cost]:
        if index not in measured:
            proposal = space.propose(family, **ladder[index])
            measured[index] = proposal, measure_candidate(session, proposal, batch_size=proposal.recipe.batch_size)
        return measured[index]

    low, high = 0, len(ladder) - 1
    while low < high:
        middle = (low + high + 1) // 2
        proposal, cost = candidate(middle)
        slow = cost.step / proposal.recipe.batch_size > affordable
        if slow or cost.violations(session):
            high = middle - 1
        else:
            low = middle
    for index in range(low, -1, -1):
        proposal, cost = candidate(index)
        cost = confirm_latency(session, proposal, cost)
        if not cost.violations(session):
            return proposal, cost
        misses[proposal.name] = cost
    return None


def race(session: Session, seconds: float) -> None:
    """Halve the shortlist until one candidate is left; the decided rungs are remembered across kills."""
    state, metric = session.folder.state, session.task.metric
    # Newcomers join after the first rung; a continued run has some of them already.
    candidates = [trial for trial in state.trials if trial.status != "dropped" and not trial.teacher]
    entrants = [trial for trial in candidates if not trial.proposal.get("newcomer")]
    if "rungs" not in state.facts:
        most = max(2, int(seconds / (2.0 * SHORTEST_RUNG)))
        for trial in entrants[most:]:
            trial.status, trial.reason = "dropped", "there was no time to race more candidates"
        candidates = entrants = entrants[:most]
        state.facts["rungs"] = [dataclasses.asdict(rung) for rung in _plan(len(entrants), seconds)]
        session.save()
    rungs: list[dict[str, Any]] = state.facts["rungs"]
    running = [trial for trial in candidates if trial.status in ("waiting", "racing")]
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
            session.reporter.progress(min(share, 1.0), f"{trial.name}: {metric.text(trial.score)}")
        if index == 0:
            running += _newcomers(session, rung["entrants"] - len(entrants), rung["seconds"], end)
        running = [trial for trial in running if trial.status == "racing"]
        kept = survivors({trial.number: trial.score for trial in running}, rung["survivors"])
        for trial in running:
            if trial.number not in kept:
                trial.status = "stopped"
                trial.reason = (
                    f"rung {index + 1} of {len(rungs)}: the better ones had {metric.text(_worst(running, kept))}"
                )
                session.trainers.pop(trial.number, None)
                gc.collect()
        running = [trial for trial in running if trial.number in kept]
        state.rungs_done = index + 1
        session.save()
    if not running:
        running = _last_hope(session)
    best = max(running, key=lambda trial: trial.score)
    state.teacher = _teacher(session, best, rungs[-1]["seconds"] if rungs else 0.5 * seconds)
    state.winner = best.number
    session.save()


def _affordable(entrants: list[Trial], seconds: float) -> int:
    """How many candidates the race can hold if all of them shall take some steps in its first rung."""
    for count in range(len(entrants), 2, -1):
        slowest = max(trial.step for trial in entrants[:count])
        if _plan(count, seconds)[0].seconds >= max(SHORTEST_RUNG, FEWEST_RUNG_STEPS * slowest):
            return count
    return min(2, len(entrants))


def _plan(candidates: int, seconds: float) -> list[Rung]:
    """Rungs for the shortlist, and for as many newcomers as leave the first rung long enough."""
    overhead = min(1.0, 0.05 * seconds / max(candidates, 1))
    total = candidates
    while total < MOST_CANDIDATES:
        rungs = plan_rungs(total + 1, seconds, overhead=overhead)
        if not rungs or rungs[0].seconds < NEWCOMER_RUNG:
            break
        total += 1
    return plan_rungs(total, seconds, overhead=overhead)


def _newcomers(session: Session, count: int, seconds: float, end: float) -> list[Trial]:
    """Candidates that are proposed when the first ones have shown how they do, trained for the first rung."""
    state = session.folder.state
    known = [trial for trial in state.trials if trial.curve and not trial.teacher]
    added = [trial for trial in known if trial.proposal.get("newcomer")]
    space = session.task.space
    families = {trial.family for trial in known if trial.family in space.families}
    if count <= len(added) or not families:
        return []
    proposer = Proposer(space, families, seed=session.seed)
    for trial in known:
        proposer.tell(trial.proposal, trial.score)
    fresh: list[Trial] = []
    for _ in range(3 * (count - len(added))):
        if len(fresh) >= count - len(added) or session.clock.spent > end:
            break
        proposal = proposer.ask()
        cost = confirm_latency(
            session, proposal, measure_candidate(session, proposal, batch_size=proposal.recipe.batch_size)
        )
        if cost.violations(session):
            proposer.tell(proposal.choices, None)
            continue
        trial = to_trial(len(state.trials), proposal, cost, session)
        trial.proposal["newcomer"] = True
        trial.status = "racing"
        state.trials.append(trial)
        session.train_until(trial, seconds, deadline=session.clock.deadline(end))
        proposer.tell(proposal.choices, trial.score if trial.curve else None)
        fresh.append(trial)
    return fresh


def _teacher(session: Session, winner: Trial, seconds: float) -> int | None:
    """The best of those that miss the budget, if it is better than the winner after as much training."""
    teachers = [trial for trial in session.folder.state.trials if trial.teacher and trial.status != "failed"]
    for trial in teachers:
        trial.status = "racing"
        session.train_until(trial, seconds, deadline=session.clock.deadline(session.clock.spent + seconds))
    teachers = [trial for trial in teachers if trial.status == "racing"]
    for trial in teachers:
        trial.status, trial.reason = "stopped", "misses the budget; trained for the others to learn from"
    best = max(teachers, key=lambda trial: trial.score, default=None)
    started = time.monotonic()
    if best is None:
        reason = "every candidate that was raced can meet the budget itself"
        note_step(session, DISTILLATION, False, False, reason, started)
        return None
    better = best.score > winner.score
    metric = session.task.metric
    reason = (
        f"{best.name} has {metric.text(best.score)} and the winner of the race {metric.text(winner.score)} validation "
        f"{metric.name}"
    )
    note_step(session, DISTILLATION, better, better, reason, started)
    return best.number if better else None


def _worst(running: list[Trial], kept: list[int]) -> float:
    return min(trial.score for trial in running if trial.number in kept)


def _last_hope(session: Session) -> list[Trial]:
    """When every racing trial failed, the best of those that were stopped goes on."""
    scored = [t for t in session.folder.state.trials if t.curve and t.status != "failed" and not t.teacher]
    if not scored:
        reason = next((t.reason for t in session.folder.state.trials if t.status == "failed"), "no candidate trained")
        raise NonFiniteLossError(f"Every candidate failed to train; the first one: {reason}")
    return [max(scored, key=lambda trial: trial.score)]


def finish_winner(session: Session, seconds: float) -> None:
    """Train the winner to the end; should its loss become infinite, the next best one instead."""
    state = session.folder.state
    end = session.clock.spent + seconds
    while True:
        trial = winner(session)
        try:
            _finish(session, trial, max(end - session.clock.spent, 2.0))
        except NonFiniteLossError as error:
            trial.status, trial.reason = "failed", str(error)
            session.trainers.pop(trial.number, None)
            session.note(f"{trial.name} won the race and then failed, so the next best one was trained: {error}")
            state.winner = _last_hope(session)[0].number
            session.save()
            continue
        trial.status = "finished"
        state.finished.append("train")
        session.save()
        return


def winner(session: Session) -> Trial:
    state = session.folder.state
    return next(trial for trial in state.trials if trial.number == state.winner)


def winner_model(session: Session) -> Network:
    """The winner as it is shipped: refitted where the task does that, otherwise with its averaged weights."""
    trial = winner(session)
    model = refitted(session, trial) if session.task.refits else session.trained(trial)
    assert isinstance(model, Network)
    return model


def _finish(session: Session, trial: Trial, seconds: float) -> None:
    state = session.folder.state
    trainer = session.trainer(trial)
    if state.teacher is not None:
        teacher = session.trained(next(trial for trial in state.trials if trial.number == state.teacher))
        trainer.objective = session.task.distilled(trainer.recipe, teacher)
    end = time.monotonic() + seconds
    if session.task.refits:
        seconds *= 1 - REFIT_SHARE
    if session.past_its_best(trial):
        begin_anew(session, trial, trainer.objective, seconds)
    else:
        session.finish(trainer, trial, seconds, f"trial-{trial.number:02d}")
    if session.task.refits:
        refit(session, trial, max(end - time.monotonic(), 1.0))

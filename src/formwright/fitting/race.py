"""From a shortlist to a winner: candidates are raced in seconds, joined by new ones, and the best one is finished."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from formwright.errors import CandidateError, LostError, UserError
from formwright.fitting.records import FoldScore, Trial
from formwright.fitting.session import Session
from formwright.fitting.shortlist import (
    SHORTEST_RUNG,
    confirm_latency,
    drop,
    measure_candidate,
    to_trial,
    violations,
)
from formwright.fitting.shrink import note_step
from formwright.search.halving import Rung, plan_rungs, survivors
from formwright.search.proposals import Proposer

#: Newcomers are proposed as long as everybody still has this many seconds in the first rung.
NEWCOMER_RUNG, MOST_CANDIDATES = 30.0, 32
DISTILLATION = "distillation from a larger teacher"
#: Of the time for training, how long a solver may look at samples.
FIT_SHARE = 0.06
#: How many times the seconds of a rung a candidate may have that makes few steps in it.
MORE_SECONDS = 3.0
#: Of the same time, how long all of them may learn folds of few samples, and of the winner's how long that may.
FOLDS_SHARE, WINNERS_FOLDS_SHARE = 0.5, 0.4


def race(session: Session, seconds: float) -> None:
    """Halve the shortlist until one candidate is left; the decided rungs are remembered across kills."""
    state, metric = session.folder.state, session.task.metric
    start, end = session.clock.spent, session.clock.spent + seconds
    seconds = max(end - session.clock.spent, 0.5 * seconds)
    # Newcomers join after the first rung; a continued run has some of them already.
    candidates = [t for t in state.trials if t.status != "dropped" and not t.teacher and not t.fitted]
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
    for index, rung in enumerate(rungs):
        if index < state.rungs_done:
            continue
        for trial in running:
            wanted = _seconds_of(session, trial, rung["seconds"])
            if trial.curve and trial.seconds >= 0.98 * wanted:
                continue
            trial.status = "racing"
            session.train_until(trial, wanted, end=end)
            share = (session.clock.spent - start) / max(end - start, 1e-6)
            text = f"{trial.name}: {metric.text(trial.score)}; {session.standing()}"
            session.reporter.progress(min(share, 1.0), text)
        if index == 0:
            running += _newcomers(session, rung["entrants"] - len(entrants), rung["seconds"], end)
        running = [trial for trial in running if trial.status == "racing"]
        kept = _survivors(session, running, rung["survivors"])
        for trial in running:
            if trial.number not in kept:
                trial.status = "stopped"
                worst = _worst(running, kept)
                better = f"{metric.text(trial.score)}, and the last to go on had {metric.text(worst)}"
                favoured = _favoured(session, running)
                tied = f"{favoured.name if favoured else ''} went on instead, as the difference is within chance"
                trial.reason = f"round {index + 1} of {len(rungs)}: {tied if trial.score > worst else better}"
        running = [trial for trial in running if trial.number in kept]
        state.rungs_done = index + 1
        session.save()
    running = running or _last_hope(session)
    best = max(running, key=lambda trial: trial.score)
    if state.teacher is None and not best.fitted:
        state.teacher = _teacher(session, best, rungs[-1]["seconds"] if rungs else 0.5 * seconds)
    state.winner = best.number
    session.save()


def _seconds_of(session: Session, trial: Trial, seconds: float) -> float:
    """Seconds of training until a candidate is judged: those of the rung, or what its fewest steps take."""
    return max(seconds, min(session.task.data.fewest_steps * trial.step, MORE_SECONDS * seconds))


def fit_competitors(session: Session, seconds: float) -> None:
    """Find the weights of the simple competitors, which takes seconds; they meet the winner of the race at its end.

    Where samples are few, each is scored by cross-validation, too.

    Args:
        seconds: of training that are left.
    """
    state, data = session.folder.state, session.task.data
    waiting = [trial for trial in state.trials if trial.fitted and trial.status == "waiting"]
    end = session.clock.spent + FOLDS_SHARE * seconds
    for place, trial in enumerate(waiting):
        session.ready()
        session.reporter.progress(0.0, trial.name)
        try:
            session.do("fit", trial=dataclasses.asdict(trial), seconds=FIT_SHARE * seconds)
            trial.status = "finished"
            if data.few and data.dealt and not trial.teacher:
                score_by_folds(session, trial, (end - session.clock.spent) / (len(waiting) - place))
        except CandidateError as error:
            trial.status, trial.reason = "failed", str(error)
        session.save()


def score_by_folds(session: Session, trial: Trial, seconds: float) -> None:
    """Score a candidate by cross-validation, if that takes no longer than some seconds.

    Raises:
        CandidateError: the candidate cannot go on.
    """
    attempts = session.folder.state.facts.get("attempts")
    found = session.do("folds", trial=dataclasses.asdict(trial), seconds=seconds, attempts=attempts)
    trial.folds = None if found is None else FoldScore(**found)
    session.save()


def _favoured(session: Session, running: list[Trial]) -> Trial | None:
    """The best checkpoint of the user's, which learns slowly and knows much; without one, the plain model."""
    plain = session.task.space.plain
    own = [trial for trial in running if "weights" in trial.proposal]
    own = own or [trial for trial in running if plain is not None and trial.family == plain[1]]
    return max(own, key=lambda trial: trial.score, default=None)


def _survivors(session: Session, running: list[Trial], keep: int) -> list[int]:
    """Who goes on: the best ones, and the favoured one as long as nobody can tell that it is worse than the last."""
    data, favoured = session.task.data, _favoured(session, running)
    scores = {trial.number: trial.score for trial in running}
    margin = session.task.metric.tie(max(scores.values(), default=0.0), min(data.race_samples, data.samples_of["val"]))
    return survivors(scores, keep, favoured=None if favoured is None else favoured.number, margin=margin)


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
    known = [trial for trial in state.trials if trial.curve and not trial.teacher and not trial.fitted]
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
        try:
            cost = confirm_latency(session, proposal, measure_candidate(session, proposal))
        except LostError as error:
            state.trials.append(drop(len(state.trials), proposal, error, session))
            proposer.tell(proposal.choices, None)
            continue
        if violations(cost, session.budget):
            proposer.tell(proposal.choices, None)
            continue
        trial = to_trial(len(state.trials), proposal, cost, session)
        trial.proposal["newcomer"] = True
        trial.status = "racing"
        state.trials.append(trial)
        session.train_until(trial, seconds, end=end)
        proposer.tell(proposal.choices, trial.score if trial.curve else None)
        fresh.append(trial)
    return fresh


def _teacher(session: Session, winner: Trial, seconds: float) -> int | None:
    """The best of those that miss the budget, if it is better than the winner after as much training."""
    missing = [t for t in session.folder.state.trials if t.teacher and not t.fitted and t.status == "waiting"]
    teachers = [trial for trial in missing if trial.status != "failed"]
    for trial in teachers:
        trial.status = "racing"
        session.train_until(trial, seconds, end=session.clock.spent + seconds)
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
        raise UserError(f"Every candidate failed to train; the first one: {reason}")
    return [max(scored, key=lambda trial: (not trial.fitted, trial.score))]


def finish_winner(session: Session, seconds: float) -> None:
    """Train the winner to the end; should it fail, the next best one instead.

    Where simple competitors were scored by cross-validation, part of the time is kept for it to be, too.
    """
    state = session.folder.state
    by_folds = any(trial.folds is not None for trial in state.trials)
    end = session.clock.spent + seconds
    while True:
        session.ready()
        trial = winner(session)
        if trial.fitted:
            break
        teacher = None if state.teacher is None else dataclasses.asdict(session.trial(state.teacher))
        attempts = state.facts.get("attempts")
        if attempts is not None and attempts["trial"] != trial.number:
            attempts = None
        left = max(end - session.clock.spent, 2.0) * (1 - WINNERS_FOLDS_SHARE if by_folds else 1.0)
        try:
            session.do("finish", trial=dataclasses.asdict(trial), teacher=teacher, seconds=left, attempts=attempts)
            if by_folds and trial.folds is None:
                score_by_folds(session, trial, end - session.clock.spent)
        except CandidateError as error:
            replace_winner(session, error)
            continue
        break
    trial.status = "finished"
    state.finished.append("train")
    session.save()


def replace_winner(session: Session, error: CandidateError) -> None:
    """Let the next best one win in place of a winner that failed."""
    state, trial = session.folder.state, winner(session)
    trial.status, trial.reason = "failed", str(error)
    session.note(f"{trial.name} won the race and then failed, so the next best one was trained: {error}")
    state.winner = _last_hope(session)[0].number
    session.save()


def winner(session: Session) -> Trial:
    return session.trial(session.folder.state.winner)

"""The plain model that stands beside every result."""

from __future__ import annotations

import dataclasses

from formwright.errors import CandidateError, LostError
from formwright.fitting.records import ENSEMBLE, Baseline, Trial, Variant
from formwright.fitting.session import Session
from formwright.measurement.budget import format_count, format_seconds


def plain_peer(session: Session, shipped: Variant, *, to_the_end: bool) -> None:
    """Score the plain model of the race on the test part, as far as it was trained or after as long as the winner.

    The race gives every candidate of a rung the same seconds, so the comparison at its last rung is fair as it stands.
    ``to_the_end`` trains it on for as many seconds as the winner had, beyond the time that was allowed for the run.
    """
    state, plain = session.folder.state, session.task.space.plain
    if plain is None:
        return
    name, family = plain
    winner = session.trial(state.winner)
    peer = next((trial for trial in state.trials if trial.family == family and trial.curve), None)
    state.baselines = [baseline for baseline in state.baselines if baseline.name != name]
    if peer is None:
        session.note(f"No {name} was raced: there was no time for it, or it cannot meet the budget.")
        return
    if peer.number == shipped.trial and shipped.form != ENSEMBLE:
        session.note(f"What was chosen is the {name} itself.")
        return
    until = None
    if to_the_end and peer.seconds < winner.seconds:
        session.reporter.stage(f"Training the {name}", winner.seconds - peer.seconds)
        until = winner.seconds
    try:
        found = session.do("peer", trial=dataclasses.asdict(peer), until=until)
    except LostError as error:
        session.note(f"The {name} has no score on the test part: {error}")
        return
    if found["failure"] is not None:
        session.note(f"The {name} failed before its time was over: {found['failure']}")
    seconds = found["seconds"]
    state.baselines.append(Baseline(name, found["score"], seconds, _note(session, winner, peer, seconds)))
    session.save()


def simple_competitors(session: Session, shipped: Variant) -> None:
    """Score the simple competitors on the test part, but for one that is shipped."""
    state = session.folder.state
    for trial in state.trials:
        name = trial.title
        if not trial.fitted or not trial.curve:
            continue
        state.baselines = [baseline for baseline in state.baselines if baseline.name != name]
        if shipped.trial == trial.number and shipped.form != ENSEMBLE:
            continue
        try:
            score = session.do("test", trial=dataclasses.asdict(trial))
        except CandidateError as error:
            session.note(f"{trial.name} has no score on the test part: {error}")
            continue
        found = "its classifier" if "weights" in trial.proposal else f"{format_count(trial.parameters)} weights"
        note = f"{trial.name}, {found} found by a solver on the training part"
        state.baselines.append(Baseline(name, score, trial.seconds, note))
    session.save()


def _note(session: Session, winner: Trial, peer: Trial, seconds: float) -> str:
    """What to compare the peer's score with: the winner after as many seconds."""
    if seconds > 0.9 * winner.seconds:
        return f"{peer.name}, trained for {format_seconds(seconds)} like the shipped model"
    reached = [point for point in winner.curve if point.seconds <= 1.1 * seconds]
    beside = f"; the winner had {session.task.metric.text(reached[-1].score)} in validation by then" if reached else ""
    return f"{peer.name}, stopped by the race after {format_seconds(seconds)} of training{beside}"

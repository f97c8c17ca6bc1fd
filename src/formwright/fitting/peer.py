"""The plain model that stands beside every result."""

from __future__ import annotations

from formwright.errors import NonFiniteLossError
from formwright.fitting.records import Baseline, Trial
from formwright.fitting.session import Session
from formwright.measurement.budget import format_seconds
from formwright.training.evaluation import runner


def plain_peer(session: Session, *, to_the_end: bool) -> None:
    """Score the plain model of the race on the test part, as far as it was trained or after as long as the winner.

    The race gives every candidate of a rung the same seconds, so the comparison at its last rung is fair as it stands.
    ``to_the_end`` trains it on for as many seconds as the winner had, beyond the time that was allowed for the run.
    """
    state, name, family = session.folder.state, session.task.space.peer.name, session.task.space.peer.family
    winner = next(trial for trial in state.trials if trial.number == state.winner)
    peer = next((trial for trial in state.trials if trial.family == family and trial.curve), None)
    state.baselines = [baseline for baseline in state.baselines if baseline.name != name]
    if peer is None:
        session.note(f"No {name} was raced: there was no time for it, or it cannot meet the budget.")
        return
    if peer is winner:
        session.note(f"The winner is the {name} itself.")
        return
    trainer = session.trainer(peer)
    if to_the_end and trainer.seconds < winner.seconds:
        session.reporter.stage(f"Training the {name}", winner.seconds - trainer.seconds)
        checkpoint = f"trial-{peer.number:02d}-finished"
        if session.folder.checkpoint(checkpoint).is_file():  # of a run that was killed here
            trainer.load(session.folder.checkpoint(checkpoint))
        try:
            # Where the best weights are kept, those of before are among them.
            scored = peer if session.task.data.keeps_best else None
            session.finish(trainer, scored, max(winner.seconds - trainer.seconds, 0.0), checkpoint)
        except NonFiniteLossError as error:
            session.note(f"The {name} failed before its time was over: {error}")
    score = session.task.goal.score(runner(session.trained(peer)), "test")
    state.baselines.append(Baseline(name, score, trainer.seconds, _note(session, winner, peer, trainer.seconds)))
    session.save()


def _note(session: Session, winner: Trial, peer: Trial, seconds: float) -> str:
    """What to compare the peer's score with: the winner after as many seconds."""
    if seconds > 0.9 * winner.seconds:
        return f"{peer.name}, trained for {format_seconds(seconds)} like the shipped model"
    reached = [point for point in winner.curve if point.seconds <= 1.1 * seconds]
    beside = f"; the winner had {session.task.metric.text(reached[-1].score)} in validation by then" if reached else ""
    return f"{peer.name}, stopped by the race after {format_seconds(seconds)} of training{beside}"

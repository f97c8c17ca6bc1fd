"""The plain residual network that stands beside every result."""

from __future__ import annotations

from formwright.data.batches import evaluation_batches
from formwright.errors import NonFiniteLossError
from formwright.fitting.records import Baseline, Trial
from formwright.fitting.session import Session
from formwright.measurement.budget import format_seconds
from formwright.training.evaluation import accuracy_of

NAME = "plain ResNet"
FAMILY = "resnet"


def plain_resnet(session: Session, *, to_the_end: bool) -> None:
    """Score the ResNet of the race on the test part, as far as it was trained or after as long as the winner.

    The race gives every candidate of a rung the same seconds, so the comparison at its last rung is fair as it stands.
    ``to_the_end`` trains it on for as many seconds as the winner had, beyond the time that was allowed for the run.
    """
    state = session.folder.state
    winner = next(trial for trial in state.trials if trial.number == state.winner)
    peer = next((trial for trial in state.trials if trial.family == FAMILY and trial.curve), None)
    state.baselines = [baseline for baseline in state.baselines if baseline.name != NAME]
    if peer is None:
        session.note("No plain ResNet was raced: there was no time for it, or it cannot meet the budget.")
        return
    if peer is winner:
        session.note("The winner is the plain ResNet itself.")
        return
    trainer = session.trainer(peer)
    if to_the_end and trainer.seconds < winner.seconds:
        session.reporter.stage("Training the plain ResNet", winner.seconds - trainer.seconds)
        name = f"trial-{peer.number:02d}-finished"
        if session.folder.checkpoint(name).is_file():  # of a run that was killed here
            trainer.load(session.folder.checkpoint(name))
        try:
            session.finish(trainer, None, max(winner.seconds - trainer.seconds, 0.0), name)
        except NonFiniteLossError as error:
            session.note(f"The plain ResNet failed before its time was over: {error}")
    accuracy = accuracy_of(trainer.averaged_model(), evaluation_batches(session.data, "test"))
    seconds = trainer.seconds
    state.baselines.append(Baseline(NAME, accuracy, seconds, _note(winner, peer, seconds)))
    session.save()


def _note(winner: Trial, peer: Trial, seconds: float) -> str:
    """What to compare the ResNet's score with: the winner after as many seconds."""
    if seconds > 0.9 * winner.seconds:
        return f"{peer.name}, trained for {format_seconds(seconds)} like the shipped model"
    reached = [point for point in winner.curve if point.seconds <= 1.1 * seconds]
    beside = f"; the winner had {reached[-1].validation_accuracy:.1%} in validation by then" if reached else ""
    return f"{peer.name}, stopped by the race after {format_seconds(seconds)} of training{beside}"

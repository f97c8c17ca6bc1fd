"""From the form that was chosen to the files that are shipped: it learns once more, with what chose it.

First the training and the validation part: the score on the test part is that model's. Where samples are few, and
where the data demands it (:attr:`formwright.fitting.kind.Data.learns_all`), then the test part too, and that is what
is shipped.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from formwright.deployment.runtime import OnnxModel
from formwright.errors import CandidateError, StorageError, UserError
from formwright.fitting.kind import FEW_SAMPLES, PARTS
from formwright.fitting.records import ENSEMBLE, Variant
from formwright.fitting.session import Session
from formwright.fitting.shrink import int8_step

LEARNED, WHOLE = "refitted", "final"
#: Learning for fewer seconds changes nothing.
SHORTEST = 0.5
#: A solver takes so many times as long for all parts as for the training part.
MORE_SAMPLES = 1.4
#: Of the time for learning the rest, how much a goal may take to find out what must be known before.
CALIBRATION_SHARE = 0.5
#: A solver of fewer seconds goes to work even where no time is left.
QUICK_SOLVER = 5.0


@dataclass(frozen=True)
class Shipment:
    """What goes into the folder.

    Attributes:
        chosen: the form that was chosen, as it was measured.
        scored: the model that is examined on the test part, by the name of its form.
        shipped: the model that is shipped; the same, or one that has learned the test part too.
    """

    chosen: Variant
    scored: str
    shipped: str

    def file(self, form: str, precision: str | None = None) -> str:
        """The exported file of a form, relative to the run's folder."""
        return f"variants/{form}-{precision or self.chosen.precision}.onnx"


def learns_all(session: Session) -> bool:
    """Whether what is shipped learns the test part too."""
    return session.task.data.learns_all or session.task.data.few


def solver_seconds(session: Session) -> float:
    """Seconds that the slowest simple competitor would take to be fitted again, with more samples."""
    few = learns_all(session)
    fitted = [trial.seconds for trial in session.folder.state.trials if trial.fitted and trial.status == "finished"]
    return MORE_SAMPLES * (2 if few else 1) * max(fitted, default=0.0)


def learn_the_rest(session: Session, chosen: Variant, end: float) -> Shipment:
    """Let the chosen form learn the validation part as well and, where samples are few, the test part.

    Args:
        end: second of the run at which it must be over.
    """
    root, file = session.folder.root, Shipment(chosen, chosen.form, chosen.form).file(chosen.form)
    run = OnnxModel(root / file, threads=session.threads).on_tensors
    session.task.goal.calibrate(
        run,
        seconds=CALIBRATION_SHARE * max(end - session.clock.spent, 1.0),
        most_bytes=math.inf if session.budget.size is None else session.budget.size - chosen.size,
    )
    if not session.task.goal.asks_model:
        return Shipment(chosen, chosen.form, chosen.form)
    few = learns_all(session)
    middle = session.clock.spent + (end - session.clock.spent) / (2 if few else 1)
    scored = chosen.form
    if _again(session, chosen, chosen.form, LEARNED, PARTS[:2], middle):
        scored = LEARNED
        session.note(
            "What was chosen learned once more, from the training and the validation part together; the test score is "
            "that model's. Scores of candidates and of exported forms were taken before."
        )
    shipped = scored
    if few and scored == LEARNED and _again(session, chosen, scored, WHOLE, PARTS, end):
        shipped = WHOLE
        latest = session.task.data.learns_all
        why = "The latest rows say most" if latest else f"There are fewer than {FEW_SAMPLES:,} samples"
        session.note(
            f"{why}, so model.onnx has learned all, the test part too: nothing is left to score it on. The test score "
            "is that of scored.onnx, which has not seen the test part."
        )
    return Shipment(chosen, scored, shipped)


def _again(session: Session, chosen: Variant, form: str, label: str, parts: Sequence[str], end: float) -> bool:
    """Let a form learn again and export it under a label, unless a run that was killed did so; whether it is of use."""
    state = session.folder.state
    if label not in state.facts:
        session.ready()
        seconds = end - session.clock.spent - _export_seconds(session, chosen)
        trial = session.trial(chosen.trial)
        if seconds < SHORTEST and not (trial.fitted and trial.seconds < QUICK_SOLVER):
            session.note("There was no time for what was chosen to learn once more.")
            state.facts[label] = False
            session.save()
            return False
        try:
            state.facts[label] = session.do(
                "refit",
                form=form,
                label=label,
                trials=[dataclasses.asdict(session.trial(number)) for number in members(session, chosen)],
                parts=list(parts),
                seconds=max(seconds, 0.5),
                attempt=state.facts.get("attempts"),
                teacher=None if state.teacher is None else dataclasses.asdict(session.trial(state.teacher)),
                precision=chosen.precision,
            )
        except StorageError:
            raise
        except (CandidateError, UserError, RuntimeError) as error:
            session.note(f"What was chosen could not learn once more: {error}")
            state.facts[label] = False
        session.save()
    return bool(state.facts[label])


def _export_seconds(session: Session, chosen: Variant) -> float:
    """How long the form that was chosen took to be exported and measured, in INT8 too where it is that."""
    state = session.folder.state
    steps = {step.name: step.seconds for step in state.shrink}
    rounded = steps.get(int8_step(chosen.form), 0.0) if chosen.precision == "int8" else 0.0
    return float(state.facts.get("export_seconds", 0.0)) + rounded


def members(session: Session, variant: Variant) -> list[int]:
    """The numbers of the trials that a form is made of."""
    return list(session.folder.state.facts[ENSEMBLE]) if variant.form == ENSEMBLE else [variant.trial]

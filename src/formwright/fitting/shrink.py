"""Exported forms of the winner, each measured: as trained, pruned, in INT8; the best within the budget is shipped."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from formwright.compression.registry import Compressor, tried_in_fit
from formwright.errors import CandidateError, StorageError, UserError
from formwright.fitting.metric import Metric
from formwright.fitting.records import ENSEMBLE, MIRRORED, FoldScore, ShrinkStep, Trial, Variant
from formwright.fitting.session import Session
from formwright.fitting.shortlist import COMPRESSION_GAIN
from formwright.measurement.budget import format_bytes, format_seconds
from formwright.training.recipe import Recipe

#: A compressed model that cannot be trained for so many seconds is not worth the exports.
SHORTEST_RECOVERY = 3.0
#: The form of the winner as it was trained, and the step that averages candidates.
TRAINED, AVERAGE = "trained", "average of the best few"
#: INT8 makes a file smaller by at most so much.
INT8_GAIN = 4.0
#: How many of the best candidates may be averaged.
CONSIDERED = 6
#: A transformation pays if it makes latency or file smaller by this share at least.
GAIN = 0.05


def add_variant(session: Session, made: dict[str, Any]) -> Variant:
    """Add a form that was exported to those of the run."""
    state = session.folder.state
    variant = Variant(**made)
    variant.violations = session.budget.violations(_Measured(variant))
    state.variants = [other for other in state.variants if other.name != variant.name] + [variant]
    session.reporter.event(
        "form",
        f"Exported {variant.name}: validation {session.task.metric.text(variant.score)}, "
        f"{format_seconds(variant.latency)}, {format_bytes(variant.size)}",
        name=variant.name,
        score=variant.score,
        latency=variant.latency,
        size=variant.size,
        violations=variant.violations,
    )
    session.save()
    return variant


def export_winner(session: Session, trial: Trial) -> Variant:
    """Export the winner as it was trained, and measure the file.

    Raises:
        CandidateError: its process was lost.
    """
    return add_variant(session, session.do("export", trial=dataclasses.asdict(trial), label=TRAINED))


def export_competitors(session: Session, end: float) -> None:
    """Export the simple competitors that could be chosen by their scores, the best first, and their INT8 forms.

    Args:
        end: second of the run from which on INT8 is tried only where the budget is missed.
    """
    state, metric = session.folder.state, session.task.metric
    fitted = [t for t in state.trials if t.fitted and not t.teacher and t.status == "finished"]
    by_folds = any(trial.folds is not None for trial in state.trials)

    def figure(trial: Trial) -> float:
        return trial.score if trial.folds is None else trial.folds.score

    for trial in sorted(fitted, key=lambda trial: (by_folds and trial.folds is None, -figure(trial))):
        best = max((worth(one, state.trials) for one in state.variants if not one.violations), default=-math.inf)
        if trial.number == state.winner or figure(trial) < best - metric.margin(best):
            continue
        try:
            variant = state.variant(trial.label) or add_variant(
                session, session.do("export", trial=dataclasses.asdict(trial), label=trial.label)
            )
        except CandidateError as error:
            session.note(f"{trial.name} could not be exported: {error}")
            continue
        known = int8_step(trial.label) in {step.name for step in state.shrink}
        if not known and (variant.violations or session.clock.spent < end):
            try_int8(session, variant, trial.label)


def try_average(session: Session) -> None:
    """Export the average of the best few candidates, if it is better than the best one by more than chance."""
    state, started = session.folder.state, time.monotonic()
    if not session.task.goal.averages or AVERAGE in {step.name for step in state.shrink}:
        return
    able = [t for t in state.trials if t.curve and not t.teacher and t.status in ("finished", "stopped")]
    able = sorted(able, key=lambda trial: (trial.number != state.winner, -trial.score))[:CONSIDERED]
    if len(able) < 2 and not (able and session.task.data.mirrors):
        note_step(session, AVERAGE, False, False, "there is only one candidate", started)
        return
    budget = session.budget
    limits = [
        math.inf if limit is None else factor * limit
        for limit, factor in ((budget.latency, COMPRESSION_GAIN), (budget.size, INT8_GAIN), (budget.macs, 1.0))
    ]
    try:
        found = session.do(
            "average",
            trials=[dataclasses.asdict(trial) for trial in able],
            winner=state.winner,
            limits=limits,
            label=ENSEMBLE,
        )
    except StorageError:
        raise
    except (RuntimeError, UserError) as error:
        note_step(session, AVERAGE, True, False, str(error), started)
        return
    names = ", ".join(f"#{number}" for number in found["members"])
    gained = f"{100 * found['gain']:+.2f} points" if session.task.metric.share else f"{found['gain']:+.4g}"
    noise = f"{100 * found['noise']:.2f}" if session.task.metric.share else f"{found['noise']:.4g}"
    images = ", each asked about the mirror image too" if found["mirrored"] else ""
    reason = f"of {names}{images}: {gained} over the best alone, of which chance explains {noise}"
    if found["variant"] is None:
        several = len(found["members"]) > 1 or images
        reason = reason if several else "no other candidate makes the best one better"
        note_step(session, AVERAGE, True, False, reason, started)
        return
    state.facts[ENSEMBLE], state.facts[MIRRORED] = found["members"], found["mirrored"]
    add_variant(session, found["variant"])
    note_step(session, AVERAGE, True, True, reason, started)


class _Measured:
    """A variant as a budget compares it."""

    def __init__(self, variant: Variant) -> None:
        self.seconds: float | None = variant.latency
        self.file_size: int | None = variant.size
        self.macs: int | None = variant.macs


def pays(before: Variant, after: Variant, metric: Metric) -> tuple[bool, str]:
    """Whether a transformation is kept: it gains time or space, and the score holds (or the budget demanded it)."""
    faster = 1 - after.latency / before.latency
    smaller = 1 - after.size / before.size
    lost = before.score - after.score
    change = (
        f"{format_seconds(before.latency)} to {format_seconds(after.latency)}, {format_bytes(before.size)} to "
        f"{format_bytes(after.size)}, validation {metric.name} {metric.exact(before.score)} to "
        f"{metric.exact(after.score)}"
    )
    if before.violations and not after.violations:
        return True, f"{change}: only so is the budget met"
    if after.violations and not before.violations:
        return False, f"{change}: misses the budget"
    if lost > metric.margin(before.score):
        return False, f"{change}: the score suffers too much"
    if max(faster, smaller) < GAIN:
        return False, f"{change}: gains too little"
    if before.latency < after.latency * (1 - GAIN):
        return False, f"{change}: slower"
    return True, change


def note_step(session: Session, name: str, tried: bool, kept: bool, reason: str, started: float) -> None:
    state = session.folder.state
    step = ShrinkStep(name, tried, kept, reason, time.monotonic() - started)
    state.shrink = [other for other in state.shrink if other.name != name] + [step]
    session.reporter.event("step", f"{name}: {'kept' if kept else 'not kept'}, {reason}", **dataclasses.asdict(step))
    session.save()


def try_int8(session: Session, variant: Variant, label: str) -> None:
    """Make and measure the INT8 form of a variant, if it can be made; what it gained is written down."""
    started = time.monotonic()
    name = int8_step(label)
    if session.task.data.leaves_range and not variant.violations:
        reason = "the budget is met without it, and values beyond the range of the training part would be cut"
        note_step(session, name, False, False, reason, started)
        return
    try:
        quantized = add_variant(session, session.do("quantize", label=label, trial=variant.trial))
    except StorageError:
        raise
    except (UserError, RuntimeError, ValueError) as error:
        note_step(session, name, True, False, f"it could not be made: {error}", started)
        return
    kept, reason = pays(variant, quantized, session.task.metric)
    note_step(session, name, True, kept, reason, started)


def int8_step(label: str) -> str:
    """What the report calls the quantisation of a variant."""
    return f"INT8 ({label})"


def shrink(session: Session, end: float) -> None:
    """INT8 of the trained model, then what each compressor makes of it and the INT8 of that, while there is time.

    Args:
        end: second of the run at which shrinking must be over.
    """
    state = session.folder.state
    trained = state.variant(TRAINED)
    assert trained is not None, "the trained model is exported before it is shrunk"
    done = {step.name for step in state.shrink}
    if int8_step(TRAINED) not in done:
        session.reporter.progress(0.1, "INT8")
        try_int8(session, trained, TRAINED)
    session.reporter.progress(0.15, "simple competitors")
    export_competitors(session, end)
    session.reporter.progress(0.2, AVERAGE)
    try_average(session)
    averaged = state.variant(ENSEMBLE)
    if averaged is not None and int8_step(ENSEMBLE) not in done:
        try_int8(session, averaged, ENSEMBLE)
    if session.trial(trained.trial).fitted:
        return
    tried = tried_in_fit()
    for index, kind in enumerate(tried):
        if kind.title not in done:
            session.reporter.progress((0.3 + index) / len(tried), kind.title)
            try_step(session, kind, trained, end)
        made = state.variant(kind.label)
        if made is not None and int8_step(kind.label) not in done:
            session.reporter.progress((0.8 + index) / len(tried), f"INT8 of the {kind.label} model")
            try_int8(session, made, kind.label)


def try_step(session: Session, kind: type[Compressor], trained: Variant, end: float) -> None:
    """Compress the model, let the rest recover by learning from the whole model, export and compare.

    Args:
        end: second of the run at which shrinking must be over; exports and measurements are planned for.
    """
    session.ready()
    started = time.monotonic()
    exports = 2.0 * float(session.folder.state.facts.get("export_seconds", 10.0))
    seconds = end - session.clock.spent - exports
    if seconds < SHORTEST_RECOVERY:
        reason = f"there was no time left for the {kind.label} model to recover"
        note_step(session, kind.title, False, False, reason, started)
        return
    try:
        made = session.do(
            "compress",
            label=kind.label,
            source=TRAINED,
            trial=trained.trial,
            share=_share_to_keep(session, trained),
            recipe=dataclasses.asdict(_recovery(session, trained)),
            seconds=seconds,
            most=_most_steps(session, trained),
        )
        variant = add_variant(session, made)
    except StorageError:
        raise
    except (RuntimeError, UserError) as error:
        note_step(session, kind.title, True, False, str(error), started)
        return
    kept, reason = pays(trained, variant, session.task.metric)
    note_step(session, kind.title, True, kept, reason, started)


def _most_steps(session: Session, trained: Variant) -> int | None:
    """How many steps of recovery there may be: where data is soon memorised, as many as led to the kept score."""
    trial = session.trial(trained.trial)
    attempts = session.folder.state.facts.get("attempts")
    if trial.kept is None or attempts is None:
        return None
    return max(50, int(attempts["unit"]))


def _recovery(session: Session, trained: Variant) -> Recipe:
    """The recipe of the trial at a third of its learning rate."""
    trial = session.trial(trained.trial)
    recipe = Recipe(**trial.recipe)
    return replace(
        recipe,
        learning_rate=recipe.learning_rate / 3,
        vector_learning_rate=recipe.vector_learning_rate / 3,
        warmup=10,
    )


def _share_to_keep(session: Session, trained: Variant) -> float:
    """Of the multiply-accumulates: what the budget demands, and two thirds where it demands nothing."""
    budget = session.budget
    demanded = [
        0.9 * limit / found
        for limit, found in (
            (budget.latency, trained.latency),
            (budget.size, trained.size),
            (budget.macs, trained.macs),
        )
        if limit is not None and found > limit
    ]
    return max(0.2, min([2 / 3, *demanded]))


def worth(variant: Variant, trials: Sequence[Trial]) -> float:
    """The score that a form is compared by.

    That is the score of its file on the validation part, but where candidates were scored by cross-validation: there
    it is this score, less what the file lost of the candidate's validation score; a form whose candidate has none, as
    there was no time for it, counts with what its validation score is worth at least (:attr:`Variant.least`).
    """
    trial = next((one for one in trials if one.number == variant.trial), None)
    if variant.least is None or all(one.folds is None for one in trials):
        return variant.score
    if trial is None or trial.folds is None or variant.form == ENSEMBLE:
        return variant.least
    return trial.folds.score - max(trial.score - variant.score, 0.0)


def _loss(folds: FoldScore | None) -> float:
    return math.inf if folds is None or folds.loss is None else folds.loss


def choose(variants: list[Variant], metric: Metric, trials: Sequence[Trial] = ()) -> Variant:
    """The variant to ship: of those that meet the budget the one with the best score, and of equals the fastest.

    Where samples are few and folds judge, scores within a standard error are equal, and the one with the least log loss
    on folds is taken.

    If none meets it, the one that misses it least often, best score first: the report says so.

    Args:
        trials: the candidates, some of which may be scored by cross-validation (:func:`worth`).
    """
    scores = {id(variant): worth(variant, trials) for variant in variants}
    meeting = [variant for variant in variants if not variant.violations]
    pool = meeting or [v for v in variants if len(v.violations) == min(len(o.violations) for o in variants)]
    best = max(scores[id(variant)] for variant in pool)
    folds = {one.number: one.folds for one in trials if one.folds is not None and one.folds.loss is not None}
    samples = max((one.samples for one in folds.values()), default=0)
    margin = metric.tie(best, samples) if samples else metric.margin(best)
    equal = [variant for variant in pool if scores[id(variant)] >= best - margin]
    surest = min((_loss(folds.get(variant.trial)) for variant in equal), default=math.inf)
    chosen = min(
        (variant for variant in equal if _loss(folds.get(variant.trial)) == surest),
        key=lambda variant: (variant.latency, variant.size),
    )
    for variant in variants:
        variant.chosen = variant is chosen
        if variant is chosen:
            closeness = "what is chance of" if samples else metric.closeness
            how = "the surest by cross-validation" if samples else "the fastest"
            others = f"{how} of those within {closeness} the best" if len(equal) > 1 else "the best score"
            variant.reason = f"shipped: {others}" + ("" if meeting else "; nothing meets the whole budget")
        elif variant.violations:
            variant.reason = "misses the budget"
        elif variant in equal:
            variant.reason = "as good, and less sure or slower" if samples else "as good, and slower"
        elif variant.score > chosen.score:
            variant.reason = "a worse score by cross-validation, or one on too few samples to count as better"
        else:
            variant.reason = "a worse score"
    return replace(chosen)

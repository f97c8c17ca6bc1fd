"""Exported forms of the winner, each measured: as trained, pruned, in INT8; the best within the budget is shipped."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from formwright.compression.registry import Compressor, Job, tried_in_fit
from formwright.deployment.export import ExportError, export_onnx
from formwright.deployment.quantize import quantize_onnx
from formwright.deployment.runtime import OnnxModel
from formwright.errors import StorageError, UserError
from formwright.fitting.metric import Metric
from formwright.fitting.records import ShrinkStep, Variant
from formwright.fitting.session import Session
from formwright.measurement.budget import format_bytes, format_seconds
from formwright.measurement.latency import measure_latency
from formwright.measurement.macs import count_macs
from formwright.models import Network, from_pretrained
from formwright.training.recipe import Recipe

#: A compressed model that cannot be trained for so many seconds is not worth the exports.
SHORTEST_RECOVERY = 3.0
#: A transformation pays if it makes latency or file smaller by this share at least.
GAIN = 0.05


def export_variant(session: Session, model: Network, label: str) -> Variant:
    """Export to float32 ONNX, measure the file and add it to the run's variants."""
    started = time.monotonic()
    name = label.replace(" ", "-")
    path = session.folder.variant(f"{name}-float32.onnx")
    path.parent.mkdir(parents=True, exist_ok=True)
    export_onnx(model, path, session.task.data.example(), free=session.task.data.free)
    model.save_pretrained(session.folder.variant(name))
    variant = _measure(session, model, label, "float32", path)
    session.folder.state.facts["export_seconds"] = time.monotonic() - started
    return variant


def quantize_variant(session: Session, model: Network, float_variant: Variant, label: str) -> Variant:
    """Quantise an exported model to INT8 with training samples for calibration, and measure it."""
    source = session.folder.root / float_variant.file
    path = session.folder.variant(f"{label.replace(' ', '-')}-int8.onnx")
    quantize_onnx(source, path, session.task.data.calibration())
    return _measure(session, model, label, "int8", path)


def _measure(session: Session, model: Network, label: str, precision: str, path: Path) -> Variant:
    run = OnnxModel(path, threads=session.threads)
    score = session.task.goal.score(run.on_tensors, "val")
    one = session.task.data.example().numpy()
    latency = measure_latency(lambda: run(one), min_time=0.5, warmup=10)
    state = session.folder.state
    variant = Variant(
        name=f"{label}, {precision}",
        trial=-1 if state.winner is None else state.winner,
        precision="int8" if precision == "int8" else "float32",
        file=path.relative_to(session.folder.root).as_posix(),
        latency=latency.median,
        latency_low=latency.low,
        latency_high=latency.high,
        size=path.stat().st_size,
        macs=count_macs(model, session.task.data.example()),
        parameters=model.parameter_count(),
        score=score,
    )
    variant.violations = session.budget.violations(_Measured(variant))
    state.variants = [other for other in state.variants if other.name != variant.name] + [variant]
    session.save()
    return variant


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
    session.save()


def try_int8(session: Session, model: Network, variant: Variant, label: str) -> Variant | None:
    """The INT8 form of a variant, if it can be made; what it gained is written down."""
    started = time.monotonic()
    name = int8_step(label)
    if session.task.data.leaves_range and not variant.violations:
        reason = "the budget is met without it, and values beyond the range of the training part would be cut"
        note_step(session, name, False, False, reason, started)
        return None
    try:
        quantized = quantize_variant(session, model, variant, label)
    except StorageError:
        raise
    except (ExportError, RuntimeError, ValueError) as error:
        note_step(session, name, True, False, f"it could not be made: {error}", started)
        return None
    kept, reason = pays(variant, quantized, session.task.metric)
    note_step(session, name, True, kept, reason, started)
    return quantized


def int8_step(label: str) -> str:
    """What the report calls the quantisation of a variant."""
    return f"INT8 ({label})"


def shrink(session: Session, model: Network, end: float) -> None:
    """INT8 of the trained model, then what each compressor makes of it and the INT8 of that, while there is time.

    Args:
        end: second of the run at which shrinking must be over.
    """
    state = session.folder.state
    trained = next(variant for variant in state.variants if variant.name == "trained, float32")
    done = {step.name for step in state.shrink}
    if int8_step("trained") not in done:
        session.reporter.progress(0.1, "INT8")
        try_int8(session, model, trained, "trained")
    tried = tried_in_fit()
    for index, kind in enumerate(tried):
        if kind.title not in done:
            session.reporter.progress((0.3 + index) / len(tried), kind.title)
            try_step(session, kind, model, trained, end)
        made = next((variant for variant in state.variants if variant.name == f"{kind.label}, float32"), None)
        if made is not None and int8_step(kind.label) not in done:
            session.reporter.progress((0.8 + index) / len(tried), f"INT8 of the {kind.label} model")
            try_int8(session, from_pretrained(session.folder.variant(kind.label)), made, kind.label)


def try_step(session: Session, kind: type[Compressor], model: Network, trained: Variant, end: float) -> None:
    """Compress the model, let the rest recover by learning from the whole model, export and compare.

    Args:
        end: second of the run at which shrinking must be over; exports and measurements are planned for.
    """
    started = time.monotonic()
    exports = 2.0 * float(session.folder.state.facts.get("export_seconds", 10.0))
    seconds = end - session.clock.spent - exports
    if seconds < SHORTEST_RECOVERY:
        reason = f"there was no time left for the {kind.label} model to recover"
        note_step(session, kind.title, False, False, reason, started)
        return
    recipe = _recovery(session, trained)
    size = recipe.batch_size
    batches = list(session.task.data.evaluation_batches("train", batch_size=size, most=4 * size))
    try:
        job = Job(batches=batches, objective=session.task.goal.objective(), teacher=model, seed=session.seed)
        smaller = kind.leaving(_share_to_keep(session, trained)).run([model], job).model
        trainer = session.new_trainer(smaller, recipe, 900, session.task.goal.distilled(recipe, model))
        checkpoint = session.folder.checkpoint(kind.label)
        if checkpoint.is_file():  # of a run that was killed here; the same step cuts the same
            trainer.load(checkpoint)
        session.finish(trainer, None, seconds, kind.label, most=_most_steps(session, trained))
        recovered = trainer.averaged_model()
        assert isinstance(recovered, Network)
        variant = export_variant(session, recovered, kind.label)
    except StorageError:
        raise
    except (RuntimeError, UserError) as error:
        note_step(session, kind.title, True, False, str(error), started)
        return
    kept, reason = pays(trained, variant, session.task.metric)
    note_step(session, kind.title, True, kept, reason, started)


def _most_steps(session: Session, trained: Variant) -> int | None:
    """How many steps of recovery there may be: where data is soon known by heart, as many as led to the kept score."""
    trial = next(trial for trial in session.folder.state.trials if trial.number == trained.trial)
    attempts = session.folder.state.facts.get("attempts")
    if trial.kept is None or attempts is None:
        return None
    return max(50, int(attempts["unit"]))


def _recovery(session: Session, trained: Variant) -> Recipe:
    """The recipe of the trial at a third of its learning rate."""
    trial = next(trial for trial in session.folder.state.trials if trial.number == trained.trial)
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


def choose(variants: list[Variant], metric: Metric) -> Variant:
    """The variant to ship: of those that meet the budget the one with the best score, and of equals the fastest.

    If none meets it, the one that misses it least often, best score first: the report says so.
    """
    meeting = [variant for variant in variants if not variant.violations]
    pool = meeting or [v for v in variants if len(v.violations) == min(len(o.violations) for o in variants)]
    best = max(variant.score for variant in pool)
    equal = [variant for variant in pool if variant.score >= best - metric.margin(best)]
    chosen = min(equal, key=lambda variant: (variant.latency, variant.size))
    for variant in variants:
        variant.chosen = variant is chosen
        if variant is chosen:
            others = f"the fastest of those within {metric.closeness} the best" if len(equal) > 1 else "the best score"
            variant.reason = f"shipped: {others}" + ("" if meeting else "; nothing meets the whole budget")
        elif variant.violations:
            variant.reason = "misses the budget"
        elif variant in equal:
            variant.reason = "as good, and slower"
        else:
            variant.reason = "a worse score"
    return replace(chosen)

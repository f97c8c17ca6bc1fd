"""The result: the chosen file, its scores on the test part, proof that it equals the model, and the report."""

from __future__ import annotations

import dataclasses
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from formwright.deployment.metadata import copy_described
from formwright.deployment.runtime import OnnxModel
from formwright.files import write_json
from formwright.fitting.final import Shipment, members
from formwright.fitting.goal import Findings, Goal, Run
from formwright.fitting.kind import PARTS
from formwright.fitting.records import ENSEMBLE, MIRRORED, Agreement, FitResult, Variant
from formwright.fitting.session import Session
from formwright.fitting.state import REPORT_FILE, RESULT_FILE
from formwright.models import from_pretrained
from formwright.training.evaluation import runner

#: The file that is shipped, and the one that was scored where the former has learned the test part too.
MODEL, SCORED = "model.onnx", "scored.onnx"


def trivial_baselines(session: Session, seconds: float) -> None:
    """The task's trivial competitors, scored on the test part once, at the end like everything else."""
    state = session.folder.state
    made = session.task.goal.baselines(seconds=seconds, seed=session.seed)
    names = {baseline.name for baseline in made}
    state.baselines = [baseline for baseline in state.baselines if baseline.name not in names] + made
    session.save()


class Witness:
    """The exported file as a function, compared with the PyTorch model on the way."""

    def __init__(self, goal: Goal[Any], eager: Run, exported: Run) -> None:
        self._goal, self._eager, self._exported = goal, eager, exported
        self._same = self._count = 0
        self._largest = 0.0

    def __call__(self, inputs: Tensor) -> NDArray[np.float32]:
        ours, theirs = self._eager(inputs), self._exported(inputs)
        same = self._goal.same(ours, theirs)
        self._same += int(same.sum())
        self._count += same.size
        self._largest = max(self._largest, float(np.abs(ours - theirs).max()))
        return theirs

    def agreement(self) -> Agreement:
        return Agreement(same_answer=self._same / max(self._count, 1), largest_difference=self._largest)


def examined(session: Session, shipment: Shipment) -> tuple[Findings, Agreement]:
    """What the model that is scored does on the test part, and how far its float32 file is from PyTorch there."""
    root, goal = session.folder.root, session.task.goal
    model = from_pretrained(session.folder.paths.variant(shipment.scored))
    exported = OnnxModel(root / shipment.file(shipment.scored, "float32"), threads=session.threads).on_tensors
    witness = Witness(goal, runner(model), exported)
    if shipment.chosen.precision == "float32":
        findings = goal.examine(witness, model)
        return findings, witness.agreement()
    float_score = goal.score(witness, "test")
    rounded = OnnxModel(root / shipment.file(shipment.scored), threads=session.threads).on_tensors
    findings = goal.examine(rounded, model)
    agreement = witness.agreement()
    agreement.score_difference = goal.score(rounded, "test") - float_score
    return findings, agreement


def ship(session: Session, shipment: Shipment) -> FitResult:
    """Write the chosen model, examine it on the test part and compare it with PyTorch."""
    root, state, data, goal = session.folder.root, session.folder.state, session.task.data, session.task.goal
    chosen = shipment.chosen
    model = from_pretrained(session.folder.paths.variant(shipment.shipped))
    model.save_pretrained(root)
    findings, agreement = examined(session, shipment)
    if shipment.shipped != shipment.scored:  # the file that is shipped gives the answers of its model, too
        copy_described(root / shipment.file(shipment.scored), root / SCORED, goal.preparation)
        exported = OnnxModel(root / shipment.file(shipment.shipped, "float32"), threads=session.threads).on_tensors
        witness = Witness(goal, runner(model), exported)
        goal.score(witness, "test")
        own = witness.agreement()
        agreement.same_answer = min(agreement.same_answer, own.same_answer)
        agreement.largest_difference = max(agreement.largest_difference, own.largest_difference)
    goal.preparation.save(root)  # which may hold what was found out about the model: how sure it is
    size = copy_described(
        root / shipment.file(shipment.shipped), root / MODEL, goal.preparation, most=session.budget.size
    )
    return FitResult(
        formwright=_version(),
        task=session.task.name,
        metric=goal.metric.to_json(),
        seed=session.seed,
        budget={
            "latency": session.budget.latency,
            "size": session.budget.size,
            "macs": session.budget.macs,
            "time": session.budget.time,
        },
        budget_met=not chosen.violations,
        violations=list(chosen.violations),
        data={
            "source": session.source or data.content.source,
            "options": dict(state.options.get("options", {})),
            **data.describe(),
            "train": data.samples_of["train"],
            "validation": data.samples_of["val"],
            "test": data.samples_of["test"],
            "notes": list(data.notes),
        },
        machine=describe_machine(session.threads),
        model=goal.called(_model_name(session, chosen)),
        trials=state.trials,
        variants=[_as_shipped(one, shipment, size) if one.chosen else one for one in state.variants],
        shrink=state.shrink,
        baselines=state.baselines,
        test=findings.test,
        details=findings.details,
        agreement=agreement,
        scored=MODEL if shipment.shipped == shipment.scored else SCORED,
        learned=list(PARTS[: (shipment.scored != chosen.form) + (shipment.shipped != shipment.scored) + 1]),
        notes=state.notes,
    )


def _as_shipped(chosen: Variant, shipment: Shipment, size: int) -> Variant:
    """The chosen form with the file that is shipped: of the same model, which has learned more since."""
    return dataclasses.replace(chosen, file=shipment.file(shipment.shipped), size=size)


def write_result(session: Session, result: FitResult) -> None:
    """Write ``metrics.json`` and ``report.html``; the time is counted up to here."""
    from formwright.fitting.report import write_report

    root = session.folder.root
    result.time = {**session.clock.stages, "total": session.clock.spent}
    write_report(result, root / REPORT_FILE, attachments=session.task.goal.attachments(result.details))
    write_json(root / RESULT_FILE, result.to_dict())


def describe_machine(threads: int) -> dict[str, Any]:
    import onnxruntime

    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
    }


def processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown processor"


def _model_name(session: Session, chosen: Variant) -> str:
    others = len(members(session, chosen)) - 1
    beside = f" and {others} more" if others else ""
    if chosen.form == ENSEMBLE and session.folder.state.facts.get(MIRRORED):
        beside += ", asked about the mirror image too"
    return f"{session.trial(chosen.trial).name}{beside} ({chosen.name})"


def _version() -> str:
    from formwright import __version__

    return __version__

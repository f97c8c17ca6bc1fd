"""Candidates of the catalogue that can meet the budget, found by building and measuring them here."""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from formwright.errors import UserError
from formwright.fitting.records import Trial
from formwright.fitting.session import Session
from formwright.measurement.budget import format_bytes, format_count, format_seconds
from formwright.measurement.latency import measure_latency
from formwright.measurement.machine import torch_threads
from formwright.measurement.macs import count_macs
from formwright.measurement.size import model_bytes
from formwright.models import Network, create_model
from formwright.search.space import Proposal
from formwright.training.evaluation import faster_precision, step_seconds

#: INT8 and folding make a model at most so much faster than its float32 export; measured on convolutional networks.
COMPRESSION_GAIN = 2.0
#: Of the time for training, what the winner gets for itself.
WINNERS_SHARE = 0.7


@dataclass(frozen=True)
class Cost:
    """What a candidate costs here."""

    parameters: int
    macs: int
    eager_latency: float
    onnx_latency: float | None
    size: int
    smallest_size: int
    step: float

    def violations(self, session: Session) -> list[str]:
        """How it misses the budget even after compression."""
        budget = session.budget
        found = []
        fastest = 0.0 if self.onnx_latency is None else self.onnx_latency / COMPRESSION_GAIN
        if budget.latency is not None and self.onnx_latency is not None and fastest > budget.latency:
            found.append(f"latency {format_seconds(self.onnx_latency)}")
        if budget.size is not None and self.smallest_size > budget.size:
            found.append(f"size {format_bytes(self.smallest_size)} even in INT8")
        if budget.macs is not None and self.macs > budget.macs:
            found.append(f"{format_count(self.macs)} MACs")
        return found


def measure_candidate(session: Session, proposal: Proposal, *, batch_size: int) -> Cost:
    """Build a candidate and measure it: MACs, size, latency of one sample, seconds of a training step."""
    model = create_model(proposal.specification).eval()
    example = session.task.data.example()
    with torch_threads(1), torch.inference_mode():
        eager = measure_latency(lambda: model(example), min_time=0.02, min_repeats=5, warmup=1).median
    batch = session.task.data.batch(min(batch_size, 128))
    step = step_seconds(model, session.task.goal.objective(), batch, session.precision, repeats=2)
    return Cost(
        parameters=model.parameter_count(),
        macs=count_macs(model, example),
        eager_latency=eager,
        onnx_latency=None,
        size=model_bytes(model),
        smallest_size=model_bytes(model, "int8"),
        step=step * batch_size / len(batch.inputs),
    )


def confirm_latency(session: Session, proposal: Proposal, cost: Cost) -> Cost:
    """The cost with the latency of the exported model, where PyTorch's leaves it open whether the budget is met."""
    limit = session.budget.latency
    if limit is None or cost.eager_latency <= limit:
        return cost
    return dataclasses.replace(cost, onnx_latency=onnx_seconds(create_model(proposal.specification).eval(), session))


def onnx_seconds(model: Network, session: Session) -> float:
    """Median seconds for one sample of the float32 export in ONNX Runtime."""
    from formwright.deployment.export import export_onnx
    from formwright.deployment.runtime import OnnxModel

    example = session.task.data.example()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(model, path, example, free=session.task.data.free)
        run = OnnxModel(path, threads=session.threads)
        array = example.numpy()
        return measure_latency(lambda: run(array), min_time=0.05, warmup=3).median


def to_trial(number: int, proposal: Proposal, cost: Cost, session: Session) -> Trial:
    recipe = dataclasses.replace(proposal.recipe, precision=session.precision)
    return Trial(
        number=number,
        name=proposal.name,
        family=proposal.family,
        proposal=proposal.choices,
        specification=proposal.specification.to_dict(),
        recipe=dataclasses.asdict(recipe),
        parameters=cost.parameters,
        macs=cost.macs,
        eager_latency=cost.eager_latency,
        onnx_latency=cost.onnx_latency,
        size=cost.size,
        step=cost.step,
    )


def affordable_sample(session: Session, training_seconds: float) -> float:
    """Seconds that training on a sample may take, for training to be long enough in the time there is."""
    return WINNERS_SHARE * training_seconds / session.task.data.worthwhile_samples


def choose_precision(session: Session, proposal: Proposal) -> None:
    """Train in bfloat16 where a timed step of a candidate is faster with it on this machine."""
    model = create_model(proposal.specification)
    batch = session.task.data.batch(min(proposal.recipe.batch_size, 128))
    session.precision = faster_precision(model, session.task.goal.objective(), batch)
    session.folder.state.facts["precision"] = session.precision
    by_threads = {}
    for count in sorted({1, session.threads}):
        torch.set_num_threads(count)
        by_threads[count] = step_seconds(model, session.task.goal.objective(), batch, session.precision)
    torch.set_num_threads(min(by_threads, key=lambda count: by_threads[count]))
    if session.precision == "bf16-mixed":
        session.note("Training computes in bfloat16: a timed step was faster with it here.")


def impossible(session: Session, costs: dict[str, Cost]) -> UserError:
    """The error for a budget that nothing can meet: says the nearest reachable one and who reaches it."""
    budget = session.budget

    def excess(cost: Cost) -> float:
        latency = (cost.onnx_latency or cost.eager_latency) / budget.latency if budget.latency else 0.0
        size = cost.smallest_size / budget.size if budget.size else 0.0
        macs = cost.macs / budget.macs if budget.macs else 0.0
        return max(latency, size, macs)

    name = min(costs, key=lambda key: excess(costs[key]))
    nearest = costs[name]
    reached = []
    if budget.latency is not None:
        seconds = nearest.onnx_latency or nearest.eager_latency
        reached.append(f"{format_seconds(seconds)} (measured)")
    if budget.size is not None:
        reached.append(f"{format_bytes(nearest.smallest_size)} in INT8")
    if budget.macs is not None:
        reached.append(f"{format_count(nearest.macs)} MACs")
    return UserError(
        f"No candidate can meet the budget ({budget}) on this machine; the nearest is {name} with "
        f"{', '.join(reached)}: raise the budget at least to that."
    )

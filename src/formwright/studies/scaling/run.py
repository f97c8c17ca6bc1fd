"""Foundation models of a grid of sizes and amounts of data, trained alike and judged on several sets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from formwright.errors import UnknownNameError, UserError
from formwright.files import read_json, write_json
from formwright.measurement.scaling_law import PowerLaw, fit_power_law
from formwright.models.series.foundation import SIZES, FoundationModel, decoder
from formwright.nn.packed_series import cut_into_patches, next_patches
from formwright.nn.student_mixture import StudentMixture
from formwright.objectives.series import PatchLikelihood
from formwright.reporting import SILENT, Reporter, Share
from formwright.studies.scaling.corpus import Corpus, CorpusBatches
from formwright.training import Progress, Recipe, Trainer

KINDS = ("encoder", "decoder")
#: Shares of a run after which it is judged: points of the curve of compute. The last one is its end.
CHECKPOINTS = (0.25, 0.5, 1.0)
#: What is asked of each set: the last patch of a window, given those before it.
METRICS = ("mae", "nll")
LENGTH = 512
BATCH = 32


@dataclass(frozen=True)
class Point:
    """One model at one moment of its training, and how it did on every set.

    Attributes:
        kind: ``encoder`` or ``decoder``.
        size: name of the size.
        parameters: without embedding and head.
        points: points of the training series.
        steps: how many steps it has made.
        compute: multiply-accumulates and additions of all steps, ``6 * parameters * tokens``.
        seed: decides initial weights and order.
        scores: by set: ``mae``, the mean absolute error over the standard deviation of the window before, and ``nll``,
            minus the logarithm of the density in the same unit, in nats.
        final: whether the training ended here.
    """

    kind: str
    size: str
    parameters: int
    points: int
    steps: int
    compute: float
    seed: int
    scores: Mapping[str, Mapping[str, float]]
    final: bool

    @property
    def run(self) -> tuple[str, str, int, int]:
        return self.kind, self.size, self.points, self.seed


@dataclass(frozen=True)
class ScalingResult:
    """All points of a study, and the laws that go through them.

    Attributes:
        corpus: its name.
        sets: names of what was judged by.
        points: every model at every checkpoint.
    """

    corpus: str
    sets: tuple[str, ...]
    points: tuple[Point, ...]

    @property
    def largest_data(self) -> int:
        """How many points the runs had that laws of size and compute are fitted to."""
        return max(point.points for point in self.points)

    def values(self, kind: str, axis: str, name: str, metric: str = "mae") -> tuple[NDArray[Any], NDArray[Any]]:
        """The axis (``parameters``, ``points`` or ``compute``) and the loss on a set of the points that show its law.

        Size: the ends of the runs with most data. Data: the ends of the runs of the largest model. Compute: of each
        seed's models at every checkpoint, those that no cheaper one beats.
        """
        chosen = [point for point in self.points if point.kind == kind]
        if axis == "points":
            largest = max(point.parameters for point in chosen)
            chosen = [point for point in chosen if point.final and point.parameters == largest]
        else:
            chosen = [p for p in chosen if p.points == self.largest_data and (p.final or axis == "compute")]
        if axis == "compute":
            chosen = _front(chosen, name, metric)
        x = np.array([getattr(point, axis) for point in chosen], np.float64)
        y = np.array([point.scores[name][metric] for point in chosen], np.float64)
        return x, y

    def law(self, kind: str, axis: str, name: str, metric: str = "mae") -> PowerLaw:
        """The power law of a kind of model along an axis on a set.

        Raises:
            UserError: there are no two different points on the axis, or the metric is not positive.
        """
        return fit_power_law(*self.values(kind, axis, name, metric))

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data, fit for JSON."""
        return {**dataclasses.asdict(self), "laws": list(self.laws())}

    def laws(self) -> list[dict[str, Any]]:
        """The laws that can be fitted, with what they are about."""
        found = []
        for kind in sorted({point.kind for point in self.points}, reverse=True):
            for axis in ("parameters", "points", "compute"):
                for name in self.sets:
                    if len(np.unique(self.values(kind, axis, name)[0])) > 1:
                        law = self.law(kind, axis, name)
                        found.append({"kind": kind, "axis": axis, "set": name, **law.to_dict()})
        return found


def _front(points: Sequence[Point], name: str, metric: str) -> list[Point]:
    """Of each seed, the points with a smaller loss than all that took less compute."""
    front: list[Point] = []
    for seed in sorted({point.seed for point in points}):
        best = np.inf
        for point in sorted((p for p in points if p.seed == seed), key=lambda point: point.compute):
            if point.scores[name][metric] < best:
                best = point.scores[name][metric]
                front.append(point)
    return front


def measure_scaling(
    corpus: Corpus,
    *,
    sizes: Sequence[str] = ("1k", "10k", "100k"),
    kinds: Sequence[str] = KINDS,
    data: Sequence[int] = (),
    steps: int = 400,
    seeds: Sequence[int] = (0,),
    out: str | Path | None = None,
    length: int = LENGTH,
    batch: int = BATCH,
    learning_rate: float = 1e-2,
    reporter: Reporter = SILENT,
) -> ScalingResult:
    """Train a model of every kind, size, amount of data and seed, all for as many steps, and judge them.

    Args:
        corpus: what to train on and to be judged by.
        sizes: names of :data:`~formwright.models.series.foundation.SIZES`.
        kinds: ``encoder`` and ``decoder``.
        data: numbers of points to train on besides all of them; the largest model alone is trained on fewer.
        steps: of every run.
        seeds: of every run.
        out: a folder for ``points.json``, which is written after every run; runs that it holds are not made again.
        length: points of a window, a multiple of a patch.
        batch: windows a step.
        learning_rate: at its peak; AdamW with warm-up and cosine.
        reporter: hears how far it is.

    Raises:
        UserError: an option is out of range, or ``out`` holds the points of another study.
        UnknownNameError: a size or a kind is not known.
    """
    for size in sizes:
        if size not in SIZES:
            raise UnknownNameError("size", size, SIZES)
    for kind in kinds:
        if kind not in KINDS:
            raise UnknownNameError("kind of model", kind, KINDS)
    patch = SIZES[sizes[0]].patch if sizes else 32
    if not sizes or not kinds or not seeds or steps < len(CHECKPOINTS) or length % patch or length < 2 * patch:
        raise UserError(
            f"A study needs sizes, kinds and seeds, at least {len(CHECKPOINTS)} steps and windows of at least two "
            f"patches of {patch} points; got {steps} steps and windows of {length}."
        )
    study = {"corpus": corpus.name, "steps": steps, "length": length, "batch": batch, "learning_rate": learning_rate}
    path = None if out is None else Path(out) / "points.json"
    points = _earlier_points(path, study)
    largest = max(sizes, key=lambda size: SIZES[size].dim * SIZES[size].depth)
    amounts = {size: [corpus.points] for size in sizes}
    amounts[largest] = sorted({min(amount, corpus.points) for amount in (*data, corpus.points)})
    runs = [
        (kind, size, amount, seed) for seed in seeds for kind in kinds for size in sizes for amount in amounts[size]
    ]
    done = {point.run for point in points if point.final}
    for index, run in enumerate(runs):
        share = Share(reporter, index, len(runs))
        if run not in done:
            points += _train(corpus, *run, steps=steps, length=length, batch=batch, rate=learning_rate, reporter=share)
            if path is not None:
                write_json(path, {"study": study, "points": [dataclasses.asdict(point) for point in points]})
    wanted = set(runs)
    return ScalingResult(corpus.name, tuple(corpus.evaluations), tuple(p for p in points if p.run in wanted))


def _earlier_points(path: Path | None, study: Mapping[str, Any]) -> list[Point]:
    if path is None or not path.is_file():
        return []
    content = read_json(path)
    if content.get("study") != dict(study):
        raise UserError(f"{path} holds the points of another study; give another folder, or the same options.")
    return [Point(**point) for point in content["points"]]


def _train(
    corpus: Corpus,
    kind: str,
    size: str,
    amount: int,
    seed: int,
    *,
    steps: int,
    length: int,
    batch: int,
    rate: float,
    reporter: Reporter,
) -> list[Point]:
    """One run, judged at every checkpoint."""
    config = SIZES[size] if kind == "encoder" else decoder(SIZES[size])
    torch.manual_seed(seed)
    model = FoundationModel(config)
    recipe = Recipe(
        optimizer="adamw", learning_rate=rate, weight_decay=0.1, batch_size=batch, warmup=steps // 10, ema_decay=0.99
    )
    batches = CorpusBatches(corpus.limited_to(amount), length=length, batch_size=batch, seed=seed)
    trainer = Trainer(model, PatchLikelihood(patch=config.patch, causal=config.causal), batches, recipe, seed=seed)
    trainer.finish_at(steps)

    def tell(progress: Progress) -> None:
        reporter.progress(progress.step / steps, f"{kind} {size}, {amount:,} points, seed {seed}")

    points = []
    tokens = batch * (length // config.patch)
    for share in CHECKPOINTS:
        trainer.train(steps=max(1, round(share * steps)) - trainer.step, on_step=tell)
        averaged = trainer.averaged_model()
        assert isinstance(averaged, FoundationModel)
        scores = {name: judge(averaged, windows) for name, windows in corpus.evaluations.items()}
        core = model.core_parameters()
        compute = 6.0 * core * tokens * trainer.step
        points.append(Point(kind, size, core, amount, trainer.step, compute, seed, scores, share == CHECKPOINTS[-1]))
    return points


@torch.inference_mode()
def judge(model: FoundationModel, windows: NDArray[np.floating]) -> dict[str, float]:
    """How well the last patch of every window ``(n, length)`` is told from those before it.

    Errors are divided by the standard deviation of what comes before the last patch, so that series of all units count
    alike; a model's own statistics play no part in the unit.
    """
    patch = model.specification.patch
    totals, count = dict.fromkeys(METRICS, 0.0), 0
    for rows in torch.split(torch.from_numpy(np.asarray(windows, np.float32)), 256):
        past, truth = rows[:, :-patch], rows[:, -patch:]
        known = past.isfinite()
        mean = torch.where(known, past, 0.0).sum(1, keepdim=True) / known.sum(1, keepdim=True).clamp(min=1)
        squares = torch.where(known, (past - mean) ** 2, 0.0).sum(1, keepdim=True)
        unit = (squares / known.sum(1, keepdim=True).clamp(min=1) + 1e-5).sqrt()
        patches = cut_into_patches(rows, patch, forecast=1)
        mixture = model.distribution(next_patches(patches)[0] if model.specification.causal else patches)
        last = StudentMixture(*(field[:, -1:] for field in mixture))
        told = truth.isfinite()
        filled = torch.where(told, truth, 0.0)
        error = ((last.mean.flatten(1) - filled).abs() / unit)[told]
        density = last.log_probability(filled[:, None]).flatten(1) + unit.log()
        totals["mae"] += float(error.sum())
        totals["nll"] -= float(density[told].sum())
        count += int(told.sum())
    return {name: total / count for name, total in totals.items()}

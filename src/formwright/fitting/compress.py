"""``compress``: a saved model and a recipe to a smaller model, measured and exported beside its report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from formwright.batch import call
from formwright.compression.recipe import read_recipe
from formwright.compression.registry import NEEDS, Compressed, Job, Step, compress
from formwright.deployment.export import export_onnx
from formwright.deployment.preparation import FILE, load_preparation
from formwright.deployment.runtime import OnnxModel
from formwright.errors import UserError
from formwright.files import atomic_folder, read_json, write_json
from formwright.fitting.kind import Reading
from formwright.fitting.task import Task, find_task, task_types
from formwright.hub import located
from formwright.measurement.latency import measure_latency
from formwright.measurement.macs import count_macs
from formwright.models import Network, from_pretrained
from formwright.models.pretrained import read_pretrained
from formwright.reporting import SILENT, Reporter
from formwright.training import Recipe, Trainer
from formwright.training.evaluation import runner

REPORT = "compression.json"
MODEL = "model.onnx"
#: Samples that scales and importance are found on.
LOOKED_AT = 512


def compress_folder(
    folder: str | Path,
    steps: str | Path,
    *,
    out: str | Path,
    data: str | Path | None = None,
    task: str | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    threads: int | None = None,
    reporter: Reporter = SILENT,
    **task_options: Any,
) -> dict[str, Any]:
    """Compress the model saved in ``folder`` by the recipe ``steps`` and write the result to ``out``.

    ``out`` then holds ``model.safetensors`` and ``config.json``, ``model.onnx``, what ``predict`` needs if ``folder``
    has it, and ``compression.json`` with size, latency and score before and after, and what each step reported.

    Args:
        folder: a model that was saved, or the folder of a run; ``hf:ORG/NAME`` or ``timm:NAME`` downloads one.
        steps: a recipe (:func:`~formwright.compression.recipe.read_recipe`).
        out: the folder for the result, new or empty.
        data: what the steps look at, as ``fit`` reads it; that of the run, if ``folder`` is one.
        task: what the model does; inferred from the data if unset.
        seed: of splits and draws; that of the run, if ``folder`` is one.
        skip_bad: leave out samples that cannot be read.
        threads: processor threads, all if unset.
        reporter: hears of the progress.
        task_options: what the task takes beyond that.

    Returns:
        What ``compression.json`` holds.

    Raises:
        UserError: the model, the recipe, the data or the folder cannot be used.
    """
    taken = read_recipe(steps)
    target = Path(out).expanduser()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"The folder {target} is not empty; give a new one with --out.")
    source = located(folder, reporter)
    model = from_pretrained(source)
    if threads is not None:
        torch.set_num_threads(threads)
    learned = _data(source, model, taken, data, task, seed, skip_bad, reporter, task_options)
    job = Job(seed=seed, reporter=reporter) if learned is None else _job(learned, seed, reporter)
    reporter.stage("Compressing")
    result = compress(model, taken, job=job)
    reporter.stage("Measuring and writing")
    return _write(source, target, model, result, learned, job)


def _data(
    source: Path,
    model: Network,
    steps: list[Step],
    data: str | Path | None,
    task: str | None,
    seed: int,
    skip_bad: bool,
    reporter: Reporter,
    options: dict[str, Any],
) -> Task | None:
    """The data that was named, or that of the run; none where no step needs it."""
    run = read_json(source / "run.json")["options"] if (source / "run.json").is_file() else None
    if data is None and run is None:
        needs = [(step.name, need) for step in steps for need in step.build().needs if need != "latency table"]
        if needs:
            name, need = needs[0]
            raise UserError(f"The step {name!r} needs {NEEDS[need]}: name the data with --data.")
        return None
    if data is None:
        assert run is not None
        data, task, seed = run["data"], run["task"], run["seed"]
        options = {**run["options"], **options}
        skip_bad = skip_bad or run["skip_bad"]
    path = None if data is None else Path(data).expanduser()
    given = {name: value for name, value in options.items() if value is not None}
    kind, _ = find_task(path, task or _task_of(model), given)
    reporter.stage("Reading the data")
    of_run = run is not None and run["data"] == (None if path is None else str(path))
    started = (run["weights"] or []) if run is not None and of_run else []
    # What a run started from decides on how its data is read.
    weights = [read_pretrained(one) for one in ([started] if isinstance(started, str) else started)]
    most_bytes = run["max_size"] if run is not None and of_run else None
    learned = kind.read(path, Reading(seed, skip_bad, weights, options=given, most_bytes=most_bytes))
    if (source / "splits.json").is_file() and of_run:
        learned.data.content.check_splits(source / "splits.json")
    _check_fit(model, learned, source)
    return learned


def _check_fit(model: Network, task: Task, source: Path) -> None:
    """Refuse data that the model was not made for."""
    example = task.data.batch(2)
    try:
        with torch.inference_mode():
            task.goal.check_outputs(call(model, example.inputs))
            task.goal.objective()(model, example, 0.0)
    except (UserError, RuntimeError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"The data does not fit the model in {source}; give what it was trained on: {reason}") from None


def _task_of(model: Network) -> str | None:
    """The task that the model's specification names, where ``fit`` has one of this name."""
    return model.specification.task if model.specification.task in task_types() else None


def _job(task: Task, seed: int, reporter: Reporter) -> Job:
    def train(model: Network, teacher: nn.Module | None, seconds: float, seed: int) -> Network:
        recipe = Recipe(learning_rate=0.01, vector_learning_rate=1e-3, warmup=10)
        objective = task.goal.objective(recipe) if teacher is None else task.goal.distilled(recipe, teacher)
        batches = task.data.training_batches(recipe.batch_size, seed=seed)
        trainer = Trainer(model, objective, batches, recipe, seed=seed)
        end = time.monotonic() + seconds
        trainer.train(steps=2)
        trainer.finish_at(trainer.step + max(1, int((end - time.monotonic()) / (trainer.seconds / trainer.step))))
        trainer.train(
            steps=(trainer.schedule.total or 0) - trainer.step,
            until=end,
            on_step=lambda p: reporter.progress(p.step / max(p.total or 1, 1), f"loss {p.loss:.3f}"),
        )
        averaged = trainer.averaged_model()
        assert isinstance(averaged, Network)
        return averaged

    return Job(
        batches=list(task.data.evaluation_batches("train", batch_size=128, most=LOOKED_AT)),
        objective=task.goal.objective(),
        metric=lambda model: task.goal.score(runner(model), "val"),
        train=train,
        seed=seed,
        reporter=reporter,
    )


def _write(
    source: Path, target: Path, before: Network, result: Compressed, task: Task | None, job: Job
) -> dict[str, Any]:
    """Write every model, or nothing; with several, each in a folder of its own."""
    several = len(result.models) > 1
    made = []
    with atomic_folder(target) as whole:
        for index, model in enumerate(result.models):
            place = whole / f"model-{index + 1}" if several else whole
            model.eval().save_pretrained(place)
            _export(model, place / MODEL, task)
            if (source / FILE).is_file():
                load_preparation(source).save(place)
            made.append(_figures(model, place / MODEL, task, job))
        original = whole / ".before.onnx"
        _export(before.eval(), original, task)
        report = {
            "before": _figures(before, original, task, job),
            "after": made if several else made[0],
            "steps": result.report["steps"],
            "metric": None if task is None else task.metric.to_json(),
        }
        original.unlink()
        write_json(whole / REPORT, report)
    return report


def _export(model: Network, path: Path, task: Task | None) -> None:
    example = model.example(2) if task is None else task.data.example(2)
    export_onnx(model, path, example, free=() if task is None else task.data.free)


def _figures(model: Network, path: Path, task: Task | None, job: Job) -> dict[str, Any]:
    """Size and speed of the exported file, and the validation score of what it answers."""
    run = OnnxModel(path, threads=torch.get_num_threads())
    inputs = model.example(1) if task is None else task.data.example()
    latency = measure_latency(lambda: run.on_tensors(inputs), min_time=0.3, warmup=5)
    figures: dict[str, Any] = {
        "parameters": model.parameter_count(),
        "macs": count_macs(model, inputs),
        "bytes": path.stat().st_size,
        "latency": latency.median,
    }
    if task is not None:
        figures["validation"] = task.goal.score(run.on_tensors, "val")
    return figures

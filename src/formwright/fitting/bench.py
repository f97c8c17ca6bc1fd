"""Where candidates are built, trained and scored: in the process of the run, or in one of its own.

A bench knows the task and the folder of the run, and keeps no journal: it tells whoever keeps it what is to be
written down.
"""

from __future__ import annotations

import dataclasses
import gc
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import safe_open
from torch import nn

from formwright.data.epochs import EpochBatches
from formwright.files import write_safetensors
from formwright.fitting.kind import Answers, ClassifiedData, Reading
from formwright.fitting.records import CurvePoint, Trial
from formwright.fitting.state import SPLITS_FILE, RunPaths
from formwright.fitting.task import Task, task_type
from formwright.models import Network, create_model, load_checkpoint
from formwright.models.network import load_state, read_safetensors
from formwright.models.pretrained import read_pretrained
from formwright.models.tables import start_tables
from formwright.nn.edits import apply_edits
from formwright.nn.specification import NetworkSpec
from formwright.objectives import Objective
from formwright.search.executors import PROGRESS, Listener
from formwright.training.evaluation import runner
from formwright.training.loop import Progress, Trainer
from formwright.training.recipe import Recipe

#: What learns of an adapted layer.
ADAPTER_TENSORS = ("lora_a", "lora_b")
#: Of the seconds of a rung, the share in which the rate falls to nothing before a trial is scored, and the fewest steps
#: that this makes sense for.
COOLED_SHARE, FEWEST_COOLED = 0.2, 4
#: Between the seeds of two attempts at the same training.
ATTEMPT_SEED = 500_000_000
#: Seconds between checkpoints of a long training.
CHECKPOINT_EVERY = 10.0
#: Seconds between two looks at whether one thread or all are faster.
TUNE_EVERY = 30.0
#: Seconds between two evaluations of a training whose best weights are kept; epochs it goes on without a better one.
EVALUATE_EVERY, PATIENCE_EPOCHS = 1.0, 2.0


def nobody(kind: str, values: Mapping[str, Any]) -> None:
    """Hears what a bench tells while it does nobody's work."""


class Bench:
    """The task, the folder, and the candidates in training.

    Args:
        task: what is learned.
        root: the folder of the run; weights and exported files lie there.
        seed: of the run.
        threads: processor threads to use at most.
        device: where candidates learn.

    Attributes:
        tell: hears of ``progress`` (done, text), a ``note`` (text), a ``curve`` (trial, curve, kept), ``facts`` to
            remember by name, and a ``checkpoint`` that was written.
    """

    def __init__(
        self,
        task: Task,
        root: Path,
        *,
        seed: int,
        threads: int,
        device: str = "auto",
    ) -> None:
        self.task, self.paths, self.seed, self.threads = task, RunPaths(root), seed, threads
        self.device = device
        self.tell: Listener = nobody
        self._answers: Answers | None = None
        self.trainers: dict[int, Trainer] = {}
        #: seconds between two checkpoints of a training, and between two evaluations where the best weights are kept
        self.checkpoint_every, self.evaluate_every = CHECKPOINT_EVERY, EVALUATE_EVERY

    @classmethod
    def open(cls, setup: Mapping[str, Any], tell: Listener) -> Self:
        """Read the data of a run again.

        Args:
            setup: the ``options`` that the folder of the run keeps, the ``folder`` and the number of ``threads``.
            tell: hears of the progress.

        Raises:
            UserError: the data cannot be read any more.
        """
        options = setup["options"]
        kind = task_type(options["task"])
        weights = [read_pretrained(source) for source in options["weights"] or ()]

        def progress(done: int, total: int) -> None:
            tell(PROGRESS, {"done": done / max(total, 1), "text": f"{done} of {total} {kind.data.samples}"})

        how = Reading(
            options["seed"],
            options["skip_bad"],
            weights,
            progress,
            options["options"],
            options["max_size"],
            Path(setup["folder"]),
            options.get("families") or (),
        )
        torch.set_num_threads(setup["threads"])
        return cls(
            kind.read(options["data"], how),
            Path(setup["folder"]),
            seed=options["seed"],
            threads=setup["threads"],
            device=setup.get("device", "auto"),
        )

    def check_splits(self) -> None:
        """Raise a ``UserError`` unless the samples and their parts are those of the run."""
        self.task.data.content.check_splits(self.paths.root / SPLITS_FILE)

    def progress(self, done: float, text: str) -> None:
        self.tell(PROGRESS, {"done": done, "text": text})

    def note(self, text: str) -> None:
        self.tell("note", {"text": text})

    def forget_all_but(self, running: Iterable[int]) -> None:
        """Free the memory of trials that are not trained any more; what they reached lies in their checkpoints."""
        kept = set(running)
        gone = [number for number in self.trainers if number not in kept]
        for number in gone:
            del self.trainers[number]
        if gone:
            gc.collect()

    def build(self, trial: Trial, *, attempt: int = 0) -> Network:
        """The model of a trial as it starts: seeded by the run, the trial's number and the attempt."""
        seed = 1000 * self.seed + trial.number + ATTEMPT_SEED * attempt
        torch.manual_seed(seed)
        specification = NetworkSpec.from_dict(trial.specification)
        if "weights" in trial.proposal:
            return self._started(trial, specification)
        model = create_model(specification)
        entry = self.task.space.families.get(trial.family)
        if entry is not None and entry.start is not None:
            entry.start(model, partial(self.task.data.some, ("train",)), seed)
        if self.task.data.weights and not trial.fitted:
            start_tables(model, self.task.data.weights)
        return model

    def _started(self, trial: Trial, specification: NetworkSpec) -> Network:
        """The model of a trial with the weights of a checkpoint; adapters are put beside them, and alone learn."""
        weights = self.task.data.weights[trial.proposal["weights"]]
        before = len(weights.specification.edits)
        model = create_model(dataclasses.replace(specification, edits=specification.edits[:before]))
        head = self.task.name == "language-modelling"
        load_checkpoint(model, weights.state, head=head, resize_positions=True)
        if not head:
            self._take_head(model, trial.proposal.get("head"))
        if trial.proposal.get("adapters"):
            apply_edits(model, specification.edits[before:])
            model.record_edits(specification.edits[before:])
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(name.rpartition(".")[2] in ADAPTER_TENSORS)
        return model

    def _take_head(self, model: Network, number: int | None) -> None:
        """Let a classifier start as the one that a solver found on the same features, if there is one."""
        path = None if number is None else self.paths.checkpoint(f"trial-{number:02d}-kept-0")
        if path is not None and path.is_file():
            with safe_open(path, framework="pt") as file:
                for name in ("head.linear.weight", "head.linear.bias"):
                    model.get_parameter(name).data.copy_(file.get_tensor(name))

    def trainer(self, trial: Trial, objective: Objective | None = None) -> Trainer:
        """The trainer of a trial: the one in memory, or continued from its checkpoint, or new."""
        if trial.number not in self.trainers:
            recipe = Recipe(**trial.recipe)
            self.trainers[trial.number] = trainer = self.new_trainer(self.build(trial), recipe, trial.number, objective)
            checkpoint = self.paths.checkpoint(f"trial-{trial.number:02d}")
            if checkpoint.is_file():
                trainer.load(checkpoint)
                if trial.ended is not None and (trainer.schedule.total or 0) <= trial.ended:
                    trainer.go_on()
                if trial.curve and trial.curve[-1].step >= trainer.step:
                    trainer.take_loss()  # it is told
        return self.trainers[trial.number]

    @property
    def answers(self) -> Answers | None:
        """What a teacher said of all samples, where one was trained before the others."""
        if self._answers is None and self.paths.answers.is_file():
            arrays = {name: tensor.numpy() for name, tensor in read_safetensors(self.paths.answers).items()}
            inputs, further = arrays.pop("inputs", None), arrays.pop("further", None)
            self._answers = Answers(arrays, inputs, further)
        return self._answers

    def training_batches(self, batch_size: int, *, seed: int, parts: Sequence[str] = ("train",)) -> EpochBatches:
        """Batches of some parts; what a teacher said of their samples is learned where there is one."""
        data = self.task.data
        if isinstance(data, ClassifiedData) and self.answers is not None:
            return data.training_batches(batch_size, seed=seed, parts=parts, answers=self.answers)
        return data.training_batches(batch_size, seed=seed, parts=parts)

    def new_trainer(
        self, model: nn.Module, recipe: Recipe, number: int, objective: Objective | None = None, *, attempt: int = 0
    ) -> Trainer:
        batches = self.training_batches(recipe.batch_size, seed=self.seed + attempt)
        objective = objective or self.task.goal.objective(recipe)
        return Trainer(model, objective, batches, recipe, seed=1000 * self.seed + number, device=self.device)

    def validate(self, model: nn.Module, recipe: Recipe, *, most: int | None = None) -> float:
        """The score on validation samples, in the precision that the model is trained in."""
        return self.task.goal.score(runner(model, precision=recipe.precision), "val", most=most)

    def tune_threads(self, trainer: Trainer, *, steps: int = 3) -> None:
        """Take a few real steps with one thread and a few with all, and go on with what was faster just now.

        Small models, and machines that are busy with other work, lose time by waiting for the second thread.
        """
        if self.threads == 1:
            return
        taken: dict[int, float] = {}
        for count in (1, self.threads):
            torch.set_num_threads(count)
            before = trainer.seconds
            trainer.train(steps=steps)
            taken[count] = trainer.seconds - before
        torch.set_num_threads(self.threads if taken[self.threads] < taken[1] else 1)

    def train_until(self, trial: Trial, seconds: float, *, deadline: float) -> None:
        """Train a trial until it has had ``seconds`` of training, score it and write both down.

        Unless the task keeps the best of many evaluations, what is scored (and kept) is a copy that went on for the
        last part of these seconds with a rate that falls to nothing: how good a network is at a high rate says little
        of how good it becomes. The trial itself goes on as it was.

        Args:
            deadline: value of ``time.monotonic()`` at which it is over in any case.

        Raises:
            CandidateError: it cannot be trained on.
        """
        trainer = self.trainer(trial)
        if not (self.task.data.keeps_best or trial.fitted):
            trial.kept = None  # what was kept at the end of an earlier training
        path = self.paths.checkpoint(f"trial-{trial.number:02d}")
        cooling = 0.0 if self.task.data.keeps_best else COOLED_SHARE * seconds
        seconds, deadline = seconds - cooling, deadline - min(cooling, COOLED_SHARE * (deadline - time.monotonic()))
        begun = trainer.step
        if trainer.seconds < 0.5 * seconds:
            self.tune_threads(trainer)
        while (left := min(seconds - trainer.seconds, deadline - time.monotonic())) > 0:
            if self.past_its_best(trial):
                break
            before = trainer.step
            chunk = self.evaluate_every if self.task.data.keeps_best else self.checkpoint_every
            trainer.train(until=time.monotonic() + min(left, chunk))
            if trainer.step == before:  # not even one more step fits
                break
            if left > self.checkpoint_every:
                self.checkpoint(trainer, path)
            if left > chunk and self.task.data.keeps_best:
                self.record(trial, trainer, most=self.task.data.race_samples)
        self.checkpoint(trainer, path)
        if trainer.step > begun or not trial.curve or trial.curve[-1].step < trainer.step:  # not scored yet
            self.record_cooled(trial, trainer, path, cooling)

    def record_cooled(self, trial: Trial, trainer: Trainer, path: Path, seconds: float) -> None:
        """Score a copy of what is in training after a last stretch at a rate that falls to nothing.

        Source: Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations, arXiv 2405.18392.
        """
        steps = int(seconds * trainer.step / trainer.seconds) if trainer.seconds else 0
        if steps < FEWEST_COOLED:
            if steps:
                trainer.train(steps=steps)
                self.checkpoint(trainer, path)
            self.record(trial, trainer, most=self.task.data.race_samples)
            return
        copy = self.new_trainer(self.build(trial), trainer.recipe, trial.number)
        copy.load(path)
        copy.finish_at(copy.step + steps)
        copy.train(steps=steps)
        loss = copy.take_loss()
        trainer.take_loss()  # it is told
        model = copy.averaged_model()
        score = self.validate(model, trainer.recipe, most=self.task.data.race_samples)
        trial.curve = [point for point in trial.curve if point.step < copy.step]
        self.add_point(trial, model, CurvePoint(copy.step, copy.seconds, loss, score, 0.0), cooled=True)

    def checkpoint(self, trainer: Trainer, path: Path) -> None:
        """Write down where a training is and how much time the run has used; rarely, if it takes long."""
        started = time.monotonic()
        trainer.save(path)
        self.tell("checkpoint", {})
        self.checkpoint_every = max(CHECKPOINT_EVERY, 20 * (time.monotonic() - started))

    def record(self, trial: Trial, trainer: Trainer, *, most: int | None = None) -> nn.Module:
        """Score the averaged weights of a trial and add the point to its curve; the model that has them."""
        started = time.monotonic()
        model = trainer.averaged_model()
        score = self.validate(model, trainer.recipe, most=most)
        rate = trainer.recipe.learning_rate * trainer.schedule.factor(trainer.step)
        # A run that was killed between its checkpoint and this point scores the same weights again.
        trial.curve = [point for point in trial.curve if point.step < trainer.step]
        self.add_point(trial, model, CurvePoint(trainer.step, trainer.seconds, trainer.take_loss(), score, rate))
        self.evaluate_every = max(EVALUATE_EVERY, 16 * (time.monotonic() - started))
        return model

    def add_point(self, trial: Trial, model: nn.Module, point: CurvePoint, *, cooled: bool = False) -> None:
        """Write down an evaluation, and its weights: those of a cooled copy, and the best where the task keeps them."""
        keeps_best = self.task.data.keeps_best or trial.fitted
        if trial.kept is not None and (trial.kept >= len(trial.curve) or not keeps_best):
            trial.kept = None  # the point was taken back, or the training went on
        better = cooled or (keeps_best and (trial.kept is None or point.score > trial.score))
        trial.curve.append(point)
        if better:
            trial.kept = len(trial.curve) - 1
            write_safetensors(self._kept_file(trial), model.state_dict(), {})
        curve = [dataclasses.asdict(point) for point in trial.curve]
        self.tell("curve", {"trial": trial.number, "curve": curve, "kept": trial.kept})
        if better:  # those of before are needed until it is written down that there are better ones
            for path in self._kept_file(trial).parent.glob(f"trial-{trial.number:02d}-kept-*"):
                if path != self._kept_file(trial):
                    path.unlink()

    def keep_better(self, trial: Trial, point: CurvePoint, model: nn.Module) -> None:
        """Keep the weights of an earlier evaluation, if they were better than the last ones by more than chance."""
        data, metric = self.task.data, self.task.metric
        samples = min(data.race_samples, data.samples_of["val"])
        if trial.curve[-1].score >= point.score - metric.tie(point.score, samples):
            return
        trial.kept = next(place for place, other in enumerate(trial.curve) if other.step == point.step)
        write_safetensors(self._kept_file(trial), model.state_dict(), {})
        curve = [dataclasses.asdict(point) for point in trial.curve]
        self.tell("curve", {"trial": trial.number, "curve": curve, "kept": trial.kept})

    def _kept_file(self, trial: Trial) -> Path:
        assert trial.kept is not None
        return self.paths.checkpoint(f"trial-{trial.number:02d}-kept-{trial.curve[trial.kept].step}")

    def past_its_best(self, trial: Trial) -> bool:
        """Whether the kept score is so old that more training will only learn the data by heart."""
        if trial.kept is None or not self.task.data.keeps_best:
            return False
        best, latest = trial.curve[trial.kept].step, trial.curve[-1].step
        further = 0 if self.answers is None or self.answers.further is None else len(self.answers.further)
        epoch = (self.task.data.samples_of["train"] + further) / Recipe(**trial.recipe).batch_size
        return latest - best > max(1.5 * best, PATIENCE_EPOCHS * epoch)

    def trained(self, trial: Trial) -> nn.Module:
        """The model of a trial with its averaged weights: the kept ones, or those of its latest step."""
        if trial.kept is None:
            return self.trainer(trial).averaged_model()
        model = self.build(trial)
        load_state(model, read_safetensors(self._kept_file(trial)))
        return model.eval()

    def finish(
        self,
        trainer: Trainer,
        trial: Trial | None,
        seconds: float,
        checkpoint: str,
        *,
        evaluations: int = 8,
        most: int | None = None,
    ) -> None:
        """Train to the end within ``seconds``: the learning rate falls to nothing, stretched as the clock demands.

        With ``most``, it takes so many steps at most; one that is continued keeps the length that it had.
        """
        last = math.inf if most is None else trainer.schedule.total or trainer.step + most
        end = time.monotonic() + seconds
        if trainer.schedule.total is None:
            self.tune_threads(trainer)
        per_step = trainer.seconds / trainer.step if trainer.step else 0.0
        if trainer.schedule.total is None:
            if not per_step:
                trainer.train(steps=2)
                per_step = trainer.seconds / trainer.step
            trainer.finish_at(int(min(trainer.step + max(2, int((end - time.monotonic()) / per_step)), last)))
        path = self.paths.checkpoint(checkpoint)
        started_at = trainer.step
        every = max(seconds / evaluations, 2.0)
        evaluated = saved = tuned = time.monotonic()
        best: tuple[CurvePoint, nn.Module] | None = None

        def show(progress: Progress) -> None:
            total = max((trainer.schedule.total or 1) - started_at, 1)
            self.progress((progress.step - started_at) / total, f"loss {progress.loss:.3f}")

        while trainer.schedule.total is not None and trainer.step < trainer.schedule.total:
            now = time.monotonic()
            before, used = trainer.step, trainer.seconds
            chunk = min(now + min(CHECKPOINT_EVERY, 0.25 * every), end)
            remaining = trainer.schedule.total - trainer.step
            trainer.train(steps=remaining, until=chunk, on_step=show)
            if trainer.step == before:  # not even one more step fits
                break
            recent = (trainer.seconds - used) / (trainer.step - before)
            if time.monotonic() - tuned > TUNE_EVERY and remaining > 100:
                self.tune_threads(trainer)
                tuned = time.monotonic()
            due = trial is not None and time.monotonic() - evaluated > every
            if due or time.monotonic() - saved > self.checkpoint_every:  # no score without the weights that it is of
                self.checkpoint(trainer, path)
                saved = time.monotonic()
            if trial is not None and due:
                model = self.record(trial, trainer, most=self.task.data.race_samples)
                if best is None or trial.curve[-1].score > best[0].score:
                    best = trial.curve[-1], model
                evaluated = time.monotonic()
            # Evaluation and checkpoints take time as well: plan with what is left on the wall, not in the loop.
            fits = int(min(trainer.step + int((end - time.monotonic()) / recent), last))
            if abs(fits - trainer.schedule.total) > 0.02 * max(trainer.schedule.total - started_at, 1):
                trainer.stretch(max(fits, trainer.step + 1))
        self.checkpoint(trainer, path)
        if trial is not None:
            most = self.task.data.race_samples if self.task.data.keeps_best else None
            self.record(trial, trainer, most=most)
            if best is not None and not self.task.data.keeps_best:
                self.keep_better(trial, *best)

"""The training loop: it knows the wall clock, stops anywhere, and continues to the same weights."""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors import safe_open
from torch import Tensor, nn

from formwright.errors import NonFiniteLossError, UserError
from formwright.files import write_safetensors
from formwright.interrupts import raise_if_pressed
from formwright.objectives import Objective, Outcome, Phase
from formwright.training.averaging import WeightAverage
from formwright.training.memory import keep_freed_memory
from formwright.training.recipe import Recipe, Schedule, build_optimizers

M = TypeVar("M", bound=nn.Module)


class TrainingBatches(Protocol):
    """Endless batches that can be continued where they stopped."""

    def __iter__(self) -> Iterator[Any]: ...

    def __next__(self) -> Any: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Progress:
    """Where a run is: what an objective or a progress bar may want to know.

    Attributes:
        step: steps taken.
        total: steps that the run will have, where that is known.
        seconds: of training.
        loss: of the latest step, the sum over its phases.
        learning_rate: of the latest step.
        outcomes: what each phase of the latest step lost and counted, by the phase's name.
    """

    step: int
    total: int | None
    seconds: float
    loss: float
    learning_rate: float
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)


class Trainer:
    """One model, one objective, one stream of batches, one recipe.

    >>> trainer = Trainer(model, Classification(), training_batches(data, batch_size=128), Recipe())  # doctest: +SKIP
    >>> trainer.finish_at(step=2000)                                                                 # doctest: +SKIP
    >>> trainer.train(steps=2000)                                                                    # doctest: +SKIP
    >>> best = trainer.averaged_model()                                                              # doctest: +SKIP

    It learns on ``device``: ``cpu``, ``cuda``, ``mps`` or, if unset, the best that there is.

    A step takes one batch through all phases of the objective, in order; in each, only its own modules get gradients
    and are stepped. :meth:`fit` trains by epochs and stops when validation says so.

    Everything that the next step depends on is in :meth:`save`: weights and persistent buffers of model and objective,
    their average, optimiser, schedule, random states and the position in the data. A run that is killed and continued
    ends with bit-equal weights.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        batches: TrainingBatches,
        recipe: Recipe,
        *,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        from lightning_fabric import Fabric

        # It announces its precision on standard error, which belongs to whoever calls.
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        keep_freed_memory()
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces the precision each time
        torch.manual_seed(seed)
        self.recipe = recipe
        self.batches = batches
        self.objective = objective
        self.schedule = Schedule(recipe.warmup)
        self.step = 0
        self.seconds = 0.0
        #: mean loss over the steps of the latest call of :meth:`train` that took any
        self.loss: float | None = None
        self._untold = (0.0, 0)  # sum of the losses since :meth:`take_loss`, and of how many steps
        #: epochs that :meth:`fit` has finished, and their scores
        self.scores: list[tuple[int, float]] = []
        self._best: dict[str, Tensor] | None = None
        self.fabric = Fabric(accelerator=device, devices=1, precision=recipe.precision)
        # It would round the inputs themselves: autocast alone decides, as it does where the model is scored.
        self.fabric.strategy.precision.convert_input = _as_given  # type: ignore[assignment,method-assign]
        self.model = _channels_last(model)
        self._optimizers = build_optimizers(recipe, {"": model, "objective.": objective})
        self._run, *self._stepped = self.fabric.setup(self.model, *self._optimizers)
        self._trained = [
            p for optimizer in self._optimizers for group in optimizer.param_groups for p in group["params"]
        ]
        self.average = WeightAverage(self.model, recipe.ema_decay)
        self._random_state = torch.get_rng_state()

    def finish_at(self, step: int, *, decay_from: int | None = None) -> None:
        """Set the length of the run, and from where the learning rate falls to nothing (from here, if unset)."""
        start = self.step if decay_from is None else decay_from
        self.schedule = Schedule(self.recipe.warmup, total=step, decay_start=start)

    def go_on(self) -> None:
        """Train for a length that is not known: the learning rate is whole again, whatever end there was."""
        self.schedule = Schedule(self.recipe.warmup)

    def stretch(self, total: int) -> None:
        """Change the length of the run, without a jump of the learning rate: steps took longer or shorter."""
        self.schedule = self.schedule.stretched(self.step, total)

    def train(
        self,
        *,
        steps: int | None = None,
        until: float = math.inf,
        on_step: Callable[[Progress], None] | None = None,
    ) -> float:
        """Take ``steps`` more steps, or as many as fit before the clock (``time.monotonic``) says ``until``.

        Returns:
            The mean loss over the steps taken, not a number if there was time for none; :attr:`loss` keeps the latest.

        Raises:
            NonFiniteLossError: the loss became infinite or not a number; no step was made with it.
        """
        self.model.train()
        self.objective.to(self.fabric.device).train()  # a teacher goes where the student is
        phases = [(phase, self._others(phase)) for phase in self.objective.phases(self.model)]
        torch.set_rng_state(self._random_state)  # every trainer has a stream of its own: races interleave them
        total_loss, taken = 0.0, 0
        slowest = 0.0
        last = None if steps is None else self.step + steps
        while last is None or self.step < last:
            raise_if_pressed()
            started = time.monotonic()
            if started + slowest > until:
                break
            outcomes = self._step(next(self.batches), phases)
            loss = sum(float(outcome.loss) for outcome in outcomes.values())
            elapsed = time.monotonic() - started
            # The first step allocates and compiles; it does not say how long the others take.
            slowest = elapsed if taken < 2 else max(0.95 * slowest, elapsed)
            self.seconds += elapsed
            total_loss += loss
            taken += 1
            self._untold = (self._untold[0] + loss, self._untold[1] + 1)
            if on_step is not None:
                self._random_state = torch.get_rng_state()  # so that it may save a checkpoint
                rate = self._optimizers[0].param_groups[0]["lr"]
                on_step(Progress(self.step, self.schedule.total, self.seconds, loss, rate, outcomes))
        self._random_state = torch.get_rng_state()
        if not taken:
            return math.nan
        self.loss = total_loss / taken
        return self.loss

    def take_loss(self) -> float | None:
        """The mean loss over the steps since this was last asked, over calls, saving and loading; none without any."""
        (total, steps), self._untold = self._untold, (0.0, 0)
        return total / steps if steps else None

    def _others(self, phase: Phase) -> list[nn.Parameter]:
        """The trained parameters that a phase leaves alone."""
        own = {id(parameter) for module in phase.modules for parameter in module.parameters()}
        others = [parameter for parameter in self._trained if id(parameter) not in own]
        if len(others) == len(self._trained):
            raise UserError(
                f"The phase {phase.name!r} of {type(self.objective).__name__} trains no parameter of the model or of "
                "the objective; name the modules that it trains."
            )
        return others

    def _step(self, batch: Any, phases: Sequence[tuple[Phase, list[nn.Parameter]]]) -> dict[str, Outcome]:
        factor = self.schedule.factor(self.step)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor
        batch = self.fabric.to_device(batch)
        outcomes = {}
        for phase, others in phases:
            with _frozen(others):
                outcomes[phase.name] = self._turn(batch, phase, factor)
        self.objective.after_step()
        self.average.update(self.model)
        self.step += 1
        return outcomes

    def _turn(self, batch: Any, phase: Phase, factor: float) -> Outcome:
        """One phase of a step: optimisers leave alone what has no gradient."""
        progress = self.step / self.schedule.total if self.schedule.total else 0.0
        outcome = phase.run(self._run, batch, progress)
        loss = float(outcome.loss.detach())
        if not math.isfinite(loss):
            named = f" of {phase.name!r}" if phase.name else ""
            raise NonFiniteLossError(
                f"The loss{named} became {loss} at step {self.step} (batch {self.step} of the seeded order) with "
                f"learning rate {factor * self.recipe.learning_rate:.2g}; lower the rate, or look for broken samples "
                "there."
            )
        self.fabric.backward(outcome.loss)
        if self.recipe.clip is not None:
            nn.utils.clip_grad_norm_(self._trained, self.recipe.clip, foreach=True)
        for optimizer in self._stepped:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return Outcome(outcome.loss.detach(), outcome.sums, outcome.counts)

    def fit(
        self,
        *,
        epochs: int,
        evaluate: Callable[[nn.Module], float],
        patience: int | None = None,
        on_step: Callable[[Progress], None] | None = None,
    ) -> nn.Module:
        """Train up to the end of epoch ``epochs``, score each epoch, and keep the weights of the best one.

        A run that was saved at any step, by ``on_step`` for one, and loaded again goes on to the same result.

        Args:
            epochs: passes through the data, at most, those before this call included.
            evaluate: scores the model with averaged weights, in eval mode, after each epoch; the larger the better.
            patience: epochs without a better score after which to stop; by default none are too many.
            on_step: called after each step.

        Returns:
            A copy of the model with the averaged weights of the best epoch, in eval mode.

        Raises:
            UserError: the batches do not say how many make an epoch, or there is no epoch to train.
            NonFiniteLossError: as in :meth:`train`.
        """
        if not isinstance(self.batches, Sized):
            raise UserError(
                f"{type(self.batches).__name__} has no length, so it has no epochs; train by steps instead."
            )
        if epochs < 1 or (patience is not None and patience < 1):
            raise UserError(f"At least one epoch and a patience of one are needed, got {epochs} and {patience}.")
        length = len(self.batches)
        while True:
            done, begun = divmod(self.step, length)
            if done and not begun and (not self.scores or self.scores[-1][0] < done):
                self._score(done, evaluate(self.averaged_model()))
            best = max(self.scores, key=_rank, default=(done, 0.0))[0]
            if done >= epochs or (patience is not None and done - best >= patience):
                break
            self.train(steps=length - begun, on_step=on_step)
        return self._with(self.average.state if self._best is None else self._best)

    def _score(self, epoch: int, score: float) -> None:
        if all(_rank((epoch, score)) > _rank(before) for before in self.scores):
            self._best = {name: tensor.clone() for name, tensor in self.average.state.items()}
        self.scores.append((epoch, float(score)))

    def averaged_model(self) -> nn.Module:
        """A copy of the model with the averaged weights, in eval mode, on the processor, as files want it."""
        return self._with(self.average.state)

    def _with(self, state: Mapping[str, Tensor]) -> nn.Module:
        model = copy.deepcopy(self.model)
        model.load_state_dict(state)
        return model.to("cpu", memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]

    # Checkpoints: one file, so that there is never half of one.

    def save(self, path: str | Path) -> None:
        """Write everything that the next step depends on (safetensors; the rest as JSON in its header)."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"objective.{name}": value for name, value in self.objective.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.state.items()}
        tensors |= {f"best.{name}": value for name, value in (self._best or {}).items()}
        tensors["random"] = self._random_state
        for number, optimizer in enumerate(self._optimizers):
            for index, values in optimizer.state_dict()["state"].items():
                for name, value in values.items():
                    tensors[f"optimizer.{number}.{index}.{name}"] = value
        header = {
            "step": self.step,
            "seconds": self.seconds,
            "loss": self.loss,
            "untold": self._untold,
            "scores": self.scores,
            "schedule": asdict(self.schedule),
            "recipe": asdict(self.recipe),
            "updates": self.average.updates,
            "batches": self.batches.state_dict(),
        }
        write_safetensors(path, tensors, {"training": json.dumps(header)})

    def load(self, path: str | Path) -> None:
        """Continue a run that :meth:`save` wrote.

        Raises:
            UserError: the file is missing or damaged, or belongs to another model, recipe or data set.
        """
        path = Path(path)
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads(file.metadata()["training"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except Exception as error:
            raise UserError(f"{path} is not a whole training checkpoint: {error}.") from None
        if not _same_recipe(header["recipe"], self.recipe):
            raise UserError(f"{path} was trained with another recipe; continue with the same options, or start anew.")
        try:
            self.model.load_state_dict(_part(tensors, "model."))
            self.objective.load_state_dict(_part(tensors, "objective."))
            self.average.load(_part(tensors, "average."), header["updates"])
        except (RuntimeError, KeyError):
            raise UserError(f"{path} is the checkpoint of another model or another objective.") from None
        for number, optimizer in enumerate(self._optimizers):
            _restore(optimizer, _part(tensors, f"optimizer.{number}."))
        self.batches.load_state_dict(header["batches"])
        self.schedule = Schedule(**header["schedule"])
        self.step = header["step"]
        self.seconds = header["seconds"]
        self.loss = header["loss"]
        total, steps = header.get("untold", (0.0, 0))
        self._untold = (total, steps)
        self.scores = [(epoch, score) for epoch, score in header.get("scores", [])]
        self._best = _part(tensors, "best.") or None
        self._random_state = tensors["random"]


def _same_recipe(saved: dict[str, Any], recipe: Recipe) -> bool:
    """Whether a checkpoint's recipe is this one; an older checkpoint does not name what came later."""
    try:
        return Recipe(**saved) == recipe
    except TypeError:  # it names what this version does not know
        return False


def _rank(scored: tuple[int, float]) -> float:
    """A score for comparing: not a number is worse than any."""
    return -math.inf if math.isnan(scored[1]) else scored[1]


@contextmanager
def _frozen(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Without gradients for ``parameters`` and for what leads to them alone."""
    changed = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in changed:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in changed:
            parameter.requires_grad_(True)


def _restore(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, field = name.partition(".")
        parameter = parameters[int(index)]
        if value.shape == parameter.shape:  # in the parameter's own memory format, which fused steps count on
            value = torch.empty_like(parameter, requires_grad=False).copy_(value)
        state.setdefault(int(index), {})[field] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _as_given(inputs: Any) -> Any:
    return inputs


def _channels_last(model: M) -> M:
    """Keep 2-D kernels in channels-last memory, as the tokens are."""
    if any(isinstance(module, nn.Conv2d) for module in model.modules()):
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model

"""Drawing: from noise to samples, by a diffusion or a flow that a network learned.

A sampler knows the schedule and the steps, and asks for nothing but a function ``(x, time) -> answer``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from formwright.errors import UserError
from formwright.models import Network
from formwright.nn.functional.diffusion import (
    NoiseSchedule,
    log_variance_between,
    noise_between,
    posterior_mean,
    posterior_variance,
    without_noise,
)
from formwright.nn.inputs import ClassInput, TimeInput

#: What the network says of ``x`` at a time.
Predict = Callable[[Tensor, float], Tensor]
#: Standard normal values in the shape of a tensor.
Noise = Callable[[Tensor], Tensor]


class Sampler(Protocol):
    """Leads ``x``, which is noise, to a sample; ``end`` is the last time of the networks that it asks."""

    @property
    def end(self) -> float: ...

    def __call__(self, predict: Predict, x: Tensor, noise: Noise) -> Tensor:
        """The sample that ``x`` leads to, where ``predict`` is what the network says."""


@dataclass(frozen=True)
class _DiffusionSampler:
    """What samplers of a diffusion share: the steps of the schedule that they take, and the bound of their guesses.

    Attributes:
        schedule: that of the training.
        steps: how many of its steps are taken, evenly spread from the last to the first.
        clip: guesses of the clean sample are held between ``-clip`` and ``clip``; as they are if unset.
    """

    schedule: NoiseSchedule = NoiseSchedule()  # noqa: RUF009
    steps: int = 50
    clip: float | None = None

    def __post_init__(self) -> None:
        _check_steps(self.steps)
        if self.steps > self.schedule.steps:
            raise UserError(
                f"A sampler takes at most the {self.schedule.steps} steps of its schedule, and {self.steps} were "
                "asked for."
            )

    @property
    def end(self) -> float:
        return self.schedule.steps

    def times(self) -> list[int]:
        """The steps that are taken, the noisiest first."""
        spread = torch.linspace(0, self.schedule.steps - 1, self.steps, dtype=torch.float64)
        return [int(step) for step in spread.round().flip(0)]

    def _walk(self) -> Iterator[tuple[int, float, float]]:
        """Each step taken, the share of signal there, and that where it leads."""
        signal = self.schedule.signal().tolist()
        times = self.times()
        for step, following in zip(times, [*times[1:], None], strict=True):
            yield step, signal[step], 1.0 if following is None else signal[following]

    def _clean(self, x: Tensor, noise: Tensor, signal: float) -> Tensor:
        clean = without_noise(x, noise, signal)
        return clean if self.clip is None else clean.clamp(-self.clip, self.clip)


@dataclass(frozen=True)
class Ancestral(_DiffusionSampler):
    """``x_s = posterior mean of x_t and the clean guess + sqrt(variance) * noise``: each step of a diffusion backwards.

    The variance is the posterior's, or the one that the network learned if it answers twice as many channels.

    Raises:
        UserError: there is no step, or more than the schedule has.

    Sources: Denoising Diffusion Probabilistic Models, arXiv 2006.11239; fewer steps and learned variances, arXiv
    2102.09672.
    """

    def __call__(self, predict: Predict, x: Tensor, noise: Noise) -> Tensor:
        channels = x.shape[1]
        for step, signal, earlier in self._walk():
            answer = predict(x, step)
            clean = self._clean(x, answer[:, :channels], signal)
            mean = posterior_mean(clean, x, signal, earlier)
            if earlier == 1.0:
                return mean
            variance = posterior_variance(signal, earlier)
            if answer.shape[1] == channels:
                x = mean + variance**0.5 * noise(x)
            else:
                learned = log_variance_between(answer[:, channels:], variance, 1 - signal / earlier)
                x = mean + torch.exp(0.5 * learned) * noise(x)
        return x


@dataclass(frozen=True)
class DDIM(_DiffusionSampler):
    """``x_s = sqrt(b) x + sqrt(1 - b - v) e + sqrt(v) * noise``, ``v`` being ``eta²`` times the posterior's variance.

    ``x`` and ``e`` are the clean guess and the noise, ``b`` the signal where the step leads. Without ``eta`` nothing is
    random but where it starts.

    Attributes:
        eta: 0 to follow the flow, 1 for as much noise as :class:`Ancestral` adds.

    Raises:
        UserError: there is no step, or more than the schedule has, or ``eta`` is out of range.

    Source: Denoising Diffusion Implicit Models, arXiv 2010.02502.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.eta <= 1:
            raise UserError(f"eta lies between 0 and 1, got {self.eta}.")

    def __call__(self, predict: Predict, x: Tensor, noise: Noise) -> Tensor:
        for step, signal, earlier in self._walk():
            found = predict(x, step)[:, : x.shape[1]]
            clean = self._clean(x, found, signal)
            if self.clip is not None:
                found = noise_between(clean, x, signal)
            variance = self.eta**2 * float(posterior_variance(signal, earlier))
            moved = earlier**0.5 * clean + (1 - earlier - variance) ** 0.5 * found
            x = moved + variance**0.5 * noise(x) if variance else moved
        return x


@dataclass(frozen=True)
class Euler:
    """``x_s = x_t + (s - t) v(x_t, t)``: along the velocity of a flow, from time 1 to 0 in equal steps.

    Attributes:
        steps: how many.

    Raises:
        UserError: there is no step, or the network answers other channels than its input has.

    Source: Flow Matching for Generative Modeling, arXiv 2210.02747.
    """

    steps: int = 50

    def __post_init__(self) -> None:
        _check_steps(self.steps)

    @property
    def end(self) -> float:
        return 1.0

    def _walk(self) -> Iterator[tuple[float, float]]:
        for step in range(self.steps, 0, -1):
            yield step / self.steps, (step - 1) / self.steps

    def _velocity(self, predict: Predict, x: Tensor, time: float) -> Tensor:
        velocity = predict(x, time)
        if velocity.shape != x.shape:
            raise UserError(
                f"A flow has a velocity for each value, and for {tuple(x.shape)} the network answers "
                f"{tuple(velocity.shape)}; build it without learned variances."
            )
        return velocity

    def __call__(self, predict: Predict, x: Tensor, noise: Noise) -> Tensor:
        for time, earlier in self._walk():
            x = x + (earlier - time) * self._velocity(predict, x, time)
        return x


@dataclass(frozen=True)
class Heun(Euler):
    """``x_s = x_t + (s - t) (v(x_t, t) + v(x_t + (s - t) v(x_t, t), s)) / 2``: Heun's second-order steps.

    The last step is Euler's, so that the network is asked ``2 steps - 1`` times.

    Source: Elucidating the Design Space of Diffusion-Based Generative Models, arXiv 2206.00364, algorithm 1.
    """

    def __call__(self, predict: Predict, x: Tensor, noise: Noise) -> Tensor:
        for time, earlier in self._walk():
            velocity = self._velocity(predict, x, time)
            if earlier:
                velocity = (velocity + self._velocity(predict, x + (earlier - time) * velocity, earlier)) / 2
            x = x + (earlier - time) * velocity
        return x


def _check_steps(steps: int) -> None:
    if not isinstance(steps, int) or steps < 1:
        raise UserError(f"A sampler takes a whole number of steps, at least one, and {steps} were asked for.")


@torch.inference_mode()
def draw(
    model: Network,
    sampler: Sampler,
    labels: Int[Tensor, " batch"] | None = None,
    *,
    count: int = 1,
    guidance: float = 1.0,
    seed: int = 0,
) -> Float[Tensor, "batch channels *size"]:
    """Samples of a denoiser, one per label.

    With ``guidance`` ``w`` the answer is ``no class + w (class - no class)`` of the answers with the class and without,
    which are computed in one batch; learned variances are those with the class. At 1 it is the plain answer.

    Args:
        model: a network with the inputs ``input``, ``time`` and, where it knows classes, ``label``.
        sampler: how noise becomes a sample.
        labels: the class of each sample; those of a model with classes are of none if unset.
        count: how many samples, where there are no labels.
        guidance: how much more the class shall count than in the data.
        seed: decides the noise.

    Raises:
        UserError: the model is no denoiser or was trained for another time, no sample is asked for, or guidance is
            asked for without labels, or of a model that has no label for no class.

    Source of the guidance: Classifier-Free Diffusion Guidance, arXiv 2207.12598.
    """
    declared = model.inputs
    time = declared.get("time")
    if not isinstance(time, TimeInput):
        raise UserError(f"{model.specification.name} is no denoiser: it is told no time, so nothing can be drawn.")
    if time.end != sampler.end:
        raise UserError(
            f"The time of {model.specification.name} ends at {time.end:g} and that of the sampler at {sampler.end:g}: "
            "draw with the schedule that it was trained with."
        )
    count = count if labels is None else len(labels)
    if count < 1:
        raise UserError(f"At least one sample has to be drawn, and {count} were asked for.")
    weight = next(model.parameters())
    generator = torch.Generator().manual_seed(seed)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator).to(like)

    example = declared["input"].example(1)
    start = noise(weight.new_empty(count, *example.shape[1:]))
    predict = _guided(model, None if labels is None else labels.to(weight.device), guidance)
    training = model.training
    model.eval()
    try:
        return sampler(predict, start, noise)
    finally:
        model.train(training)


def _guided(model: Network, labels: Tensor | None, guidance: float) -> Predict:
    """The model's answer, with the class counting as much as ``guidance`` says."""

    def answer(x: Tensor, time: float, label: Tensor | None) -> Tensor:
        told = {} if label is None else {"label": label}
        times = torch.full((len(x),), time, device=x.device, dtype=torch.promote_types(x.dtype, torch.float32))
        return model(input=x, time=times, **told)

    if guidance == 1:
        return lambda x, time: answer(x, time, labels)
    source = model.inputs.get("label")
    if not isinstance(source, ClassInput) or not source.null or labels is None:
        raise UserError(
            "Guidance compares the answer for a class with that for no class: give labels, and a model that was built "
            "with a label for no class (null_class) and trained with dropped labels, or choose guidance=1."
        )
    both = torch.cat([labels, torch.full_like(labels, source.classes)])

    def guided(x: Tensor, time: float) -> Tensor:
        told, untold = answer(torch.cat([x, x]), time, both).chunk(2)
        channels = x.shape[1]
        told_noise, untold_noise = told[:, :channels], untold[:, :channels]
        return torch.cat([untold_noise + guidance * (told_noise - untold_noise), told[:, channels:]], dim=1)

    return guided

"""Learning to denoise: the noise of a diffusion, or the velocity of a flow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from formwright.batch import Batch, call, first
from formwright.errors import UserError
from formwright.nn.functional.diffusion import (
    NoiseSchedule,
    log_variance_between,
    noisy,
    normal_divergence,
    posterior_mean,
    posterior_variance,
    rounded_log_likelihood,
    without_noise,
)
from formwright.nn.inputs import ClassInput
from formwright.objectives.objective import Objective, Outcome


class _Denoising(Objective):
    """What diffusion and flow share: batches of clean samples and their classes, some of which are not told.

    Args:
        end: the last time, as the network has to be built for it.
        label_dropout: share of samples whose class is replaced by "no class", so that guidance can compare with that.
    """

    def __init__(self, end: float, label_dropout: float) -> None:
        super().__init__()
        if not 0 <= label_dropout <= 1:
            raise UserError(f"The share of labels that are dropped lies between 0 and 1, got {label_dropout}.")
        self.end = end
        self.label_dropout = label_dropout

    def _answer(self, model: nn.Module, x: Tensor, time: Tensor, targets: Any) -> Tensor:
        """What the model says of noisy samples."""
        declared: Mapping[str, Any] = getattr(model, "inputs", {})
        if "time" not in declared or declared["time"].end != self.end:
            found = f"it counts to {declared['time'].end:g}" if "time" in declared else "it is told no time"
            raise UserError(f"This objective needs a denoiser whose time ends at {self.end:g}, and {found}.")
        label = {"label": self._labels(declared["label"], targets)} if "label" in declared else {}
        return call(model, {"input": x, "time": time, **label})

    def _labels(self, source: ClassInput, targets: Tensor) -> Tensor:
        if self.label_dropout and not source.null:
            raise UserError(
                "Labels are dropped, and the model has no label for no class; build it with one (null_class), or "
                "choose label_dropout=0."
            )
        dropped = torch.rand(targets.shape, device=targets.device) < self.label_dropout
        return torch.where(dropped, source.classes, targets)

    def _outcome(self, losses: Mapping[str, Tensor], count: int) -> Outcome:
        """The sum of the losses, each the mean over a batch of ``count`` samples."""
        loss = torch.stack(list(losses.values())).sum()
        sums = {"loss": loss.detach() * count}
        if len(losses) > 1:
            sums |= {name: value.detach() * count for name, value in losses.items()}
        return Outcome(loss, sums=sums, counts=dict.fromkeys(sums, count))


class Diffusion(_Denoising):
    """``mean (e - model(sqrt(a_t) x + sqrt(1 - a_t) e, t, label))²``: which noise ``e`` was added, at a random step.

    The inputs of a batch are clean samples ``x``, its targets their classes. A model that answers twice as many
    channels says with the further ones where between its bounds the logarithm of each value's variance lies, and
    learns it by the variational bound, without gradient to the noise. Counted as ``loss``, and then also as ``noise``
    (the squared error) and ``bound`` (bits per value).

    Args:
        schedule: how much of a sample is noise at each step.
        label_dropout: share of samples whose class is replaced by "no class".

    Raises:
        UserError: ``label_dropout`` is out of range or the model has no label for no class, or the model was built for
            another time.

    Sources: Denoising Diffusion Probabilistic Models, arXiv 2006.11239; learned variances, arXiv 2102.09672 (weighted
    by one, as in DiT's code); dropped labels: Classifier-Free Diffusion Guidance, arXiv 2207.12598.
    """

    signal: Tensor

    def __init__(self, schedule: NoiseSchedule = NoiseSchedule(), *, label_dropout: float = 0.1) -> None:  # noqa: B008
        super().__init__(schedule.steps, label_dropout)
        self.register_buffer("signal", schedule.signal(), persistent=False)

    def forward(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
        x = first(batch.inputs)
        step = torch.randint(len(self.signal), (len(x),), device=x.device)
        return self.at(model, x, batch.targets, step, torch.randn_like(x))

    def at(self, model: nn.Module, x: Tensor, targets: Any, step: Tensor, noise: Tensor) -> Outcome:
        """The outcome at given steps ``(batch,)`` with given noise."""
        signal = self._of(self.signal, step, x)
        noised = noisy(x, noise, signal)
        answer = self._answer(model, noised, step.to(torch.float32), targets)
        found = answer[:, : x.shape[1]]
        losses = {"noise": (found - noise).square().mean()}
        if answer.shape[1] == 2 * x.shape[1]:
            losses["bound"] = self._bound(x, noised, found.detach(), answer[:, x.shape[1] :], step)
        return self._outcome(losses, len(x))

    def _bound(self, x: Tensor, noised: Tensor, noise: Tensor, share: Tensor, step: Tensor) -> Tensor:
        """The term of the variational bound that each sample's step has, in bits per value."""
        before = torch.cat([self.signal.new_ones(1), self.signal[:-1]])
        least = posterior_variance(self.signal, before)
        assert isinstance(least, Tensor)
        least = torch.cat([least[1:2], least[1:]])  # at step 0 it is zero, and its logarithm not finite
        signal, earlier = self._of(self.signal, step, x), self._of(before, step, x)
        bound = self._of(least, step, x)
        log_variance = log_variance_between(share, bound, 1 - signal / earlier)
        mean = posterior_mean(without_noise(noised, noise, signal), noised, signal, earlier)
        true_mean = posterior_mean(x, noised, signal, earlier)
        divergence = normal_divergence(true_mean, bound.log().to(x.dtype), mean, log_variance)
        first_step = -rounded_log_likelihood(x, mean, log_variance)
        at_first = (step == 0).view(-1, *[1] * (x.ndim - 1))
        return torch.where(at_first, first_step, divergence).mean() / math.log(2)

    @staticmethod
    def _of(table: Tensor, step: Tensor, x: Tensor) -> Float[Tensor, "batch *ones"]:
        return table[step].view(-1, *[1] * (x.ndim - 1))


class FlowMatching(_Denoising):
    """``mean (e - x - model((1 - t) x + t e, t, label))²``: the velocity of straight lines from samples to noise.

    Times ``t`` are drawn evenly from 0, where nothing is noise, to 1. The inputs of a batch are clean samples ``x``,
    its targets their classes. Counted as ``loss``.

    Args:
        label_dropout: share of samples whose class is replaced by "no class".

    Raises:
        UserError: ``label_dropout`` is out of range or the model has no label for no class, or the model was built for
            another time or answers other channels.

    Sources: Flow Matching for Generative Modeling, arXiv 2210.02747, and rectified flow, arXiv 2209.03003, whose time
    runs from noise to samples; here it runs as a diffusion's.
    """

    def __init__(self, *, label_dropout: float = 0.1) -> None:
        super().__init__(1.0, label_dropout)

    def forward(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
        x = first(batch.inputs)
        time = torch.rand(len(x), device=x.device, dtype=torch.promote_types(x.dtype, torch.float32))
        return self.at(model, x, batch.targets, time, torch.randn_like(x))

    def at(self, model: nn.Module, x: Tensor, targets: Any, time: Tensor, noise: Tensor) -> Outcome:
        """The outcome at given times ``(batch,)`` with given noise."""
        share = time.to(x.dtype).view(-1, *[1] * (x.ndim - 1))
        answer = self._answer(model, torch.lerp(x, noise, share), time, targets)
        if answer.shape != x.shape:
            raise UserError(
                f"A flow has a velocity for each value, and for {tuple(x.shape)} the model answers "
                f"{tuple(answer.shape)}; build it without learned variances."
            )
        return self._outcome({"loss": (answer - (noise - x)).square().mean()}, len(x))

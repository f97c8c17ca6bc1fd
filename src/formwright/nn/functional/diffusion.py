"""The mathematics of diffusion: schedules of noise, and what stands between a clean sample and noise.

A sample at step ``t`` of ``T`` is ``x_t = sqrt(a_t) x + sqrt(1 - a_t) e`` with normal noise ``e``, where
``a_t = (1 - beta_0) ... (1 - beta_t)``; steps count from 0, at which almost nothing is noise.

Source: Denoising Diffusion Probabilistic Models, arXiv 2006.11239.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from formwright.errors import UnknownNameError, UserError

#: A number, or one per sample in a shape that broadcasts.
Share = float | Tensor


def linear_betas(steps: int) -> Float[Tensor, " steps"]:
    """From ``0.1 / T`` to ``20 / T`` in equal steps: 1e-4 to 0.02 for a thousand.

    Source: Denoising Diffusion Probabilistic Models, arXiv 2006.11239.
    """
    return torch.linspace(0.1 / steps, min(20 / steps, 0.999), steps, dtype=torch.float64)


def cosine_betas(steps: int) -> Float[Tensor, " steps"]:
    """``1 - f((t + 1) / T) / f(t / T)``, at most 0.999, with ``f(u) = cos²(pi / 2 (u + 0.008) / 1.008)``.

    Source: Improved Denoising Diffusion Probabilistic Models, arXiv 2102.09672.
    """
    at = torch.arange(steps + 1, dtype=torch.float64) / steps
    left = torch.cos((at + 0.008) / 1.008 * math.pi / 2).square()
    return (1 - left[1:] / left[:-1]).clamp(max=0.999)


BETAS: dict[str, Callable[[int], Tensor]] = {"linear": linear_betas, "cosine": cosine_betas}


@dataclass(frozen=True)
class NoiseSchedule:
    """How much of a sample is noise at each of ``steps`` steps.

    Attributes:
        name: which variances the steps have, of :data:`BETAS`.
        steps: the number of steps ``T``.

    Raises:
        UserError: there is no such schedule, or no step.
    """

    name: str = "linear"
    steps: int = 1000

    def __post_init__(self) -> None:
        if self.name not in BETAS:
            raise UnknownNameError("schedule of noise", self.name, BETAS)
        if self.steps < 1:
            raise UserError(f"A diffusion has at least one step, and {self.steps} were given.")

    def signal(self) -> Float[Tensor, " steps"]:
        """``a_t``: the share of a sample's variance that is not noise, at each step."""
        return torch.cumprod(1 - BETAS[self.name](self.steps), dim=0)


def noisy(x: Tensor, noise: Tensor, signal: Share) -> Tensor:
    """``sqrt(a) x + sqrt(1 - a) e``."""
    return _times(_root(signal), x) + _times(_root(1 - signal), noise)


def without_noise(x: Tensor, noise: Tensor, signal: Share) -> Tensor:
    """``(x_t - sqrt(1 - a) e) / sqrt(a)``: the clean sample if ``noise`` is what was added to it."""
    return _times(1 / _root(signal), x) - _times(_root(1 / signal - 1), noise)


def noise_between(clean: Tensor, x: Tensor, signal: Share) -> Tensor:
    """``(x_t - sqrt(a) x) / sqrt(1 - a)``: the noise if ``clean`` is the clean sample."""
    return _times(1 / _root(1 - signal), x) - _times(_root(signal / (1 - signal)), clean)


def posterior_mean(clean: Tensor, x: Tensor, signal: Share, earlier: Share) -> Tensor:
    """The mean of a sample at an earlier step, given the clean one and that at a later step.

    ``sqrt(b) (1 - a / b) / (1 - a) x + sqrt(a / b) (1 - b) / (1 - a) x_t``, ``a`` the signal now and ``b`` earlier.
    """
    kept = signal / earlier
    by_clean = _root(earlier) * (1 - kept) / (1 - signal)
    return _times(by_clean, clean) + _times(_root(kept) * (1 - earlier) / (1 - signal), x)


def posterior_variance(signal: Share, earlier: Share) -> Share:
    """Its variance, ``(1 - b) / (1 - a) (1 - a / b)``."""
    return (1 - earlier) / (1 - signal) * (1 - signal / earlier)


def log_variance_between(share: Tensor, least: Share, most: Share) -> Tensor:
    """``u log(most) + (1 - u) log(least)`` with ``u = (share + 1) / 2``: a learned variance between its bounds.

    Source: Improved Denoising Diffusion Probabilistic Models, arXiv 2102.09672.
    """
    upper = (share + 1) / 2
    return _times(_log(most), upper) + _times(_log(least), 1 - upper)


def _root(value: Share) -> Share:
    return value.sqrt() if isinstance(value, Tensor) else math.sqrt(value)


def _log(value: Share) -> Share:
    return value.log() if isinstance(value, Tensor) else math.log(value)


def _times(share: Share, x: Tensor) -> Tensor:
    """A product in the type of ``x``: shares are computed in float64 because ``1 - a`` of the first steps is small."""
    return (share.to(x.dtype) if isinstance(share, Tensor) else share) * x


def normal_divergence(mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor) -> Tensor:
    """``KL(N(mean, e^log_variance) || N(other_mean, e^other_log_variance))`` of each value, in nats."""
    difference = log_variance - other_log_variance
    shift = (mean - other_mean).square() * torch.exp(-other_log_variance)
    return 0.5 * (difference.exp() + shift - 1 - difference)


def rounded_log_likelihood(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """The logarithm of the probability that a normal value rounds to ``x``, one of 256 levels from -1 to 1, in nats.

    The outermost levels are open. The cumulative distribution is that of the authors' code, approximated by
    ``(1 + tanh(sqrt(2 / pi) (z + 0.044715 z³))) / 2``.

    Source: Denoising Diffusion Probabilistic Models, arXiv 2006.11239.
    """

    def below(z: Tensor) -> Tensor:
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))

    scale = torch.exp(-0.5 * log_variance)
    upper, lower = below((x - mean + 1 / 255) * scale), below((x - mean - 1 / 255) * scale)
    inside = torch.where(x < -0.999, upper, torch.where(x > 0.999, 1 - lower, upper - lower))
    return inside.clamp(min=1e-12).log()

"""Mixtures of Student's t distributions: what a probabilistic forecast of a point is."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


class StudentMixture(NamedTuple):
    """``y = scale z + location`` with ``p(z) = Σ_k softmax(logits)_k t(z; freedom_k, centre_k, width_k)``.

    Logits and what they weigh are ``(*places, components)``; location and scale are broadcast to ``(*places,)``.
    """

    logits: Float[Tensor, "*places components"]
    freedom: Float[Tensor, "*places components"]
    centre: Float[Tensor, "*places components"]
    width: Float[Tensor, "*places components"]
    location: Tensor
    scale: Tensor

    @staticmethod
    def of(raw: Float[Tensor, "*places four components"], location: Tensor, scale: Tensor) -> StudentMixture:
        """From unbounded numbers: more than two degrees of freedom, and positive widths."""
        logits, freedom, centre, width = raw.unbind(-2)
        width = F.softplus(width).clamp(min=torch.finfo(raw.dtype).eps)
        return StudentMixture(logits, 2 + F.softplus(freedom), centre, width, location, scale)

    def normalised_log_probability(self, y: Float[Tensor, "*places"]) -> Float[Tensor, "*places"]:
        """The logarithm of the density of ``z`` at ``(y - location) / scale``: it does not depend on the unit."""
        z = (y - self.location) / self.scale
        half = (self.freedom + 1) / 2
        deviation = (z[..., None] - self.centre) / self.width
        constant = torch.lgamma(half) - torch.lgamma(self.freedom / 2) - 0.5 * torch.log(self.freedom * math.pi)
        of_each = constant - torch.log(self.width) - half * torch.log1p(deviation**2 / self.freedom)
        return torch.logsumexp(self.logits.log_softmax(-1) + of_each, dim=-1)

    def log_probability(self, y: Float[Tensor, "*places"]) -> Float[Tensor, "*places"]:
        """The logarithm of the density of ``y``."""
        return self.normalised_log_probability(y) - torch.log(self.scale)

    @property
    def mean(self) -> Float[Tensor, "*places"]:
        return (self.logits.softmax(-1) * self.centre).sum(-1) * self.scale + self.location

    def sample(self, count: int, generator: torch.Generator | None = None) -> Float[Tensor, "count *places"]:
        """``count`` values of every place, without gradient."""
        with torch.no_grad():
            shares = self.logits.softmax(-1).flatten(0, -2)
            chosen = torch.multinomial(shares, count, replacement=True, generator=generator).T
            chosen = chosen.reshape(count, *self.logits.shape[:-1], 1)

            def of_chosen(values: Tensor) -> Tensor:
                return values.expand(count, *values.shape).gather(-1, chosen)[..., 0]

            freedom = of_chosen(self.freedom)
            normal = torch.randn(freedom.shape, generator=generator, dtype=freedom.dtype, device=freedom.device)
            chi_squared = 2 * torch._standard_gamma(freedom / 2, generator=generator)
            z = of_chosen(self.centre) + of_chosen(self.width) * normal * (freedom / chi_squared).sqrt()
            return z * self.scale + self.location

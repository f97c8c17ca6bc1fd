"""Regression in context: a prompt shows pairs of a function that changes from prompt to prompt.

A prompt is ``x_1, y_1, x_2, y_2, ...`` as vectors: ``x`` as it is, ``y`` in the first channel with zeros behind it. A
model that sees what comes before predicts ``y_i`` at the place of ``x_i``.

Source: What Can Transformers Learn In-Context?, arXiv 2208.01066; with a representation: AlgoFormer, arXiv 2402.13572.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from formwright.errors import UserError

Representation = Callable[[Float[Tensor, "*batch dim"]], Float[Tensor, "*batch dim"]]


@dataclass(frozen=True)
class Prompts:
    """Points ``x`` ``(batch, points, dim)`` and their values ``y`` ``(batch, points)``."""

    x: Float[Tensor, "batch points dim"]
    y: Float[Tensor, "batch points"]

    @property
    def vectors(self) -> Float[Tensor, "batch places dim"]:
        """``x_1, y_1, x_2, y_2, ...``, two places a point."""
        values = F.pad(self.y[..., None], (0, self.x.shape[-1] - 1))
        return torch.stack([self.x, values], dim=2).flatten(1, 2)


def at_points(scores: Float[Tensor, "batch places 1"]) -> Float[Tensor, "batch points"]:
    """The predictions of a model at the places of the points.

    Raises:
        UserError: the places are not pairs.
    """
    if scores.shape[1] % 2:
        raise UserError(f"A prompt has a place for each point and each value; {scores.shape[1]} places are no pairs.")
    return scores[:, ::2, 0]


def random_representation(dim: int, *, layers: int = 3, seed: int = 0) -> Representation:
    """A fixed random network of leaky-ReLU layers ``dim`` wide, whose outputs have a variance near one.

    Its matrices are normal with variance ``1 / dim``, scaled by what a leaky ReLU of slope 0.1 takes away.
    """
    generator = torch.Generator().manual_seed(seed)
    gain = math.sqrt(2 / (1 + 0.1**2))
    matrices = [gain * torch.randn(dim, dim, generator=generator) / math.sqrt(dim) for _ in range(layers)]

    def represent(x: Tensor) -> Tensor:
        for matrix in matrices:
            x = F.leaky_relu(x @ matrix.to(x), 0.1)
        return x

    return represent


def linear_prompts(
    batch: int,
    points: int,
    dim: int,
    *,
    generator: torch.Generator,
    representation: Representation | None = None,
    noise: float = 0.0,
) -> Prompts:
    """``y = w · phi(x) / sqrt(dim) + noise``, with ``w`` drawn for each prompt and ``phi`` the same for all.

    Args:
        batch: number of prompts.
        points: points of a prompt.
        dim: channels of a point.
        generator: decides points, weights and noise.
        representation: ``phi``; the identity if unset.
        noise: standard deviation of what is added to the values.

    Raises:
        UserError: there would be no point.
    """
    if min(batch, points, dim) < 1:
        raise UserError(f"Prompts need at least 1 row, point and channel; got {batch}, {points} and {dim}.")
    x = torch.randn(batch, points, dim, generator=generator)
    w = torch.randn(batch, dim, 1, generator=generator)
    features = x if representation is None else representation(x)
    y = (features @ w).squeeze(-1) / math.sqrt(dim)
    return Prompts(x, y + noise * torch.randn(y.shape, generator=generator) if noise else y)


def least_squares(prompts: Prompts, representation: Representation | None = None) -> Float[Tensor, "batch points"]:
    """What least squares on the points before predicts at each, with least norm while they are too few.

    With the representation it is the best that anyone can do on :func:`linear_prompts` without noise.
    """
    features = (prompts.x if representation is None else representation(prompts.x)).double()
    predictions = torch.zeros_like(prompts.y)
    for point in range(1, prompts.y.shape[1]):
        w = torch.linalg.pinv(features[:, :point]) @ prompts.y[:, :point, None].double()
        predictions[:, point] = (features[:, point, None] @ w)[:, 0, 0].to(predictions.dtype)
    return predictions

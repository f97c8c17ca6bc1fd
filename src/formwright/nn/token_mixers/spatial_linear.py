"""Dense layers over places: learned, or random and frozen."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.functional.dense import known
from formwright.nn.parts import PARTS, Part, Promises


def check_places(part: str, grid: tuple[int, ...], expected: int) -> None:
    if math.prod(grid) != expected:
        given = " x ".join(map(str, grid))
        raise UserError(
            f"{part} was built for {expected} tokens and got {math.prod(grid)} ({given}); "
            "build the model for this input size (image_size=...)."
        )


@PARTS.register("spatial_linear")
class SpatialLinear(Part):
    """``y = W x`` over the places of the grid, the same ``W`` (places x places, no bias) for every channel.

    Args:
        dim: channels.
        grid: the grid that the matrix is made for.

    Shapes: ``(batch, *grid, dim)`` to the same.

    Raises:
        UserError: the number of tokens is not the one that the matrix was made for.

    Source: the ablations of MetaFormer Is Actually What You Need for Vision, arXiv 2111.11418.
    """

    promises: ClassVar[Promises] = Promises(any_grid=False)

    def __init__(self, dim: int, *, grid: tuple[int, ...]) -> None:
        super().__init__()
        self.places = math.prod(grid)
        self.fc = nn.Linear(self.places, self.places, bias=False)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        check_places("A spatial linear layer", tuple(x.shape[1:-1]), self.places)
        places = x.flatten(1, -2)
        if not known(self.fc) or self.fc.bias is not None:
            return self.fc(places.mT).mT.reshape(x.shape)
        return torch.matmul(self.fc.weight, places).view(x.shape)


@PARTS.register("random_mixing")
class RandomMixing(Part):
    """``y = softmax(R) x`` over the places of the grid, with ``R`` uniform random, frozen, shared by all channels.

    The matrix ``softmax(R)`` itself is what is kept (and saved), as in the authors' checkpoints.

    Args:
        dim: channels.
        grid: the grid that the matrix is made for.

    Shapes: ``(batch, *grid, dim)`` to the same.

    Raises:
        UserError: the number of tokens is not the one that the matrix was made for.

    Source: MetaFormer Baselines for Vision, arXiv 2210.13452.
    """

    promises: ClassVar[Promises] = Promises(
        any_grid=False, exemptions={"gradients": "the matrix is frozen by definition"}
    )

    def __init__(self, dim: int, *, grid: tuple[int, ...]) -> None:
        super().__init__()
        self.places = math.prod(grid)
        matrix = torch.softmax(torch.rand(self.places, self.places), dim=-1)
        self.random_matrix = nn.Parameter(matrix, requires_grad=False)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        check_places("Random mixing", tuple(x.shape[1:-1]), self.places)
        return torch.matmul(self.random_matrix, x.flatten(1, -2)).view(x.shape)

"""MiniRocket: how often fixed convolutions of a series exceed thresholds, over many dilations."""

from __future__ import annotations

import itertools
import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.parts import PARTS, Promises
from formwright.nn.plain_features import PlainFeatures
from formwright.nn.series import check_series

#: Values of a kernel, how many of them are 2 (the others are -1), and the kernels that there are of the kind.
LENGTH, HIGH = 9, 3
KERNELS = math.comb(LENGTH, HIGH)
#: Different dilations at most, and the variates that one kernel adds up at most.
MOST_DILATIONS, MOST_VARIATES = 32, 9
#: Series that are compared with thresholds together.
ROWS = 8
_GOLDEN = (1 + math.sqrt(5)) / 2


@PARTS.register("minirocket")
class MiniRocket(PlainFeatures):
    """``share of t where (k_i * x)_t > b_ij``: ``(batch, time, in_dim)`` to ``(batch, 1, dim)``.

    There are 84 kernels ``k_i`` of nine values, of which three are 2 and six are -1. Each is applied with up to 32
    dilations, which grow exponentially until a kernel is as long as the series, and compared with several thresholds
    ``b_ij``: quantiles of what it gives on training series (:meth:`find_thresholds`). For every other kernel, places
    where it reaches over the ends are left out, if any are left; for the others, zeros lie beyond the ends. Of several
    variates, each kernel and dilation adds up some that are drawn at random. A series has 2,048 steps at most.

    Args:
        in_dim: variates of the series.
        dim: what :meth:`features` says, or another multiple of 84.
        grid: the length of the series.

    Raises:
        UserError: ``dim`` is no multiple of 84.

    Source: MiniRocket: A Very Fast (Almost) Deterministic Transform for Time Series Classification, arXiv 2012.08791.
    """

    promises: ClassVar[Promises] = Promises(
        dimensions=(1,),
        any_grid=False,
        exemptions={
            "tokens": "takes the input, not tokens",
            "residual": "each feature has a place of its own",
            "gradients": "counts, and has no gradients",
        },
    )
    longest: ClassVar[int] = 2048

    kernels: Tensor
    variates: Tensor

    def __init__(self, in_dim: int, dim: int, *, grid: tuple[int, ...]) -> None:
        self.per_kernel = max(dim // KERNELS, 1)
        super().__init__(in_dim, dim, grid=grid)
        (steps,) = self.sides(self.grid)
        self.dilations = dilations(steps, self.per_kernel)
        kernels = torch.full((KERNELS, LENGTH), -1.0)
        for row, places in enumerate(itertools.combinations(range(LENGTH), HIGH)):
            kernels[row, list(places)] = 2.0
        self.register_buffer("kernels", kernels, persistent=False)
        self.register_buffer("variates", torch.ones(len(self.dilations), KERNELS, in_dim))
        self.thresholds = nn.Parameter(torch.zeros(dim), requires_grad=False)

    @classmethod
    def features(cls, in_dim: int, grid: tuple[int, ...], per_kernel: int = 119) -> int:
        return KERNELS * per_kernel

    def check_dim(self, in_dim: int, dim: int) -> None:
        if dim != KERNELS * self.per_kernel:
            raise UserError(f"There are {KERNELS} kernels with as many features each; {dim} is no multiple of that.")

    def check_input(self, series: Tensor) -> None:
        check_series(series, length=self.grid[0])

    @torch.no_grad()
    def init_weights(self) -> None:
        """Variates by chance, and thresholds of zero, which those of training series replace."""
        self.thresholds.zero_()
        in_dim = self.variates.shape[-1]
        counts = 2 ** (torch.rand(self.variates.shape[:2]) * math.log2(min(in_dim, MOST_VARIATES) + 1))
        order = torch.rand(self.variates.shape).argsort(-1).argsort(-1)
        self.variates.copy_(order < counts.long().clamp(1, in_dim)[..., None])

    def convolved(self, x: Float[Tensor, "batch variates time"], number: int) -> Float[Tensor, "batch kernels time"]:
        """What all kernels give with one of the dilations, zeros beyond the ends."""
        weight = self.kernels[:, None] * self.variates[number][:, :, None]
        dilation = self.dilations[number][0]
        # Convolutions may return time as the slowest axis in memory, and comparing that takes ten times as long.
        return F.conv1d(x, weight, dilation=dilation, padding=LENGTH // 2 * dilation).contiguous()

    @torch.no_grad()
    def find_thresholds(self, series: Float[Tensor, "batch time variates"], generator: torch.Generator) -> None:
        """Quantiles of what each kernel gives on a series that is drawn for it and a dilation.

        The quantiles are spread by the golden ratio: ``(i phi) mod 1`` for the i-th threshold of a kernel.
        """
        x = self.averaged(series.mT)
        levels = (torch.arange(1, self.per_kernel + 1, dtype=torch.float64) * _GOLDEN % 1).to(x.dtype)
        found, first = [], 0
        for number, (_, count) in enumerate(self.dilations):
            chosen = torch.randint(len(x), (KERNELS,), generator=generator)
            given = self.convolved(x[chosen], number).diagonal().mT  # each kernel on its own series
            found.append(torch.quantile(given, levels[first : first + count], dim=1).mT.flatten())
            first += count
        self.thresholds.copy_(torch.cat(found))

    def forward(
        self, x: Float[Tensor, "batch time variates"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch 1 dim"], Context]:
        x = self.averaged(x.mT)
        shares, first = [], 0
        for number, (dilation, count) in enumerate(self.dilations):
            given, reach = self.convolved(x, number), LENGTH // 2 * dilation
            limits = self.thresholds[first : first + KERNELS * count].view(KERNELS, count, 1)
            padded, whole = slice(number % 2, None, 2), slice(1 - number % 2, None, 2)
            inside = slice(reach, given.shape[-1] - reach) if given.shape[-1] > 2 * reach else slice(None)
            halves = [(given[:, padded, None], limits[padded]), (given[:, whole, None, inside], limits[whole])]
            shares += [share_above(values, limit).flatten(1) for values, limit in halves]
            first += KERNELS * count
        return torch.cat(shares, 1)[:, None], context


def share_above(values: Tensor, limits: Tensor) -> Tensor:
    """The share of steps with more than limits: ``(batch, kernels, 1, time)`` and ``(kernels, counts, 1)``."""
    if torch.compiler.is_compiling() or not torch.is_inference_mode_enabled():
        return (values > limits).to(values.dtype).mean(-1)
    # A few rows at a time, and without a tensor of booleans in between: it takes a fifth of the time.
    found = []
    for rows in torch.split(values, ROWS):
        above = rows.new_empty(*rows.shape[:2], limits.shape[1], rows.shape[-1])
        found.append(torch.gt(rows, limits, out=above).mean(-1))
    return torch.cat(found)


def dilations(steps: int, per_kernel: int) -> list[tuple[int, int]]:
    """Each dilation of kernels for a series of so many steps, and how many features of a kernel are with it.

    They are ``floor(2^e)`` with exponents evenly spaced from 0 to ``log2((steps - 1) / 8)``.
    """
    different = min(per_kernel, MOST_DILATIONS)
    most = max(math.log2(max(steps - 1, 1) / (LENGTH - 1)), 0.0)
    spread = [int(2 ** (most * place / max(different - 1, 1))) for place in range(different)]
    counts = {value: spread.count(value) * per_kernel // different for value in spread}
    left = per_kernel - sum(counts.values())
    return [(value, count + (place < left)) for place, (value, count) in enumerate(counts.items())]

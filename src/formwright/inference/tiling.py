"""Overlapping windows: what is too large to be answered at once, answered piece by piece and blended."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.batch import Outputs, call
from formwright.errors import UserError

#: How much each place of a window of a size counts, ``(*size)``.
Weights: TypeAlias = Callable[[Sequence[int]], Tensor]

#: Standard deviation of the Gaussian as a share of the side, and the least that a place counts.
_DEVIATION, _LEAST = 0.125, 1e-3


def constant_weights(size: Sequence[int]) -> Float[Tensor, "*size"]:
    """Every place of a window counts alike."""
    return torch.ones(tuple(size))


def gaussian_weights(size: Sequence[int]) -> Float[Tensor, "*size"]:
    """``w(p) = max(prod_a exp(-(p_a - (n_a - 1) / 2)^2 / 2 (n_a / 8)^2), 0.001)``: the middle of a window counts most.

    Source: nnU-Net, arXiv 1809.10486; the deviation and the least value are those of MONAI.
    """
    weights = torch.ones(())
    for side in size:
        offset = torch.arange(side) - (side - 1) / 2
        weights = weights[..., None] * torch.exp(-(offset**2) / (2 * (_DEVIATION * side) ** 2))
    return weights.clamp(min=_LEAST)


@torch.no_grad()
def tiled(
    model: nn.Module,
    input: Float[Tensor, "batch channels *size"],
    window: Sequence[int],
    *,
    overlap: float = 0.25,
    weights: Weights = constant_weights,
    batch_size: int = 4,
    on_windows: Callable[[int, int], None] | None = None,
) -> Outputs:
    """What ``model`` answers for overlapping windows of ``input``: the weighed mean of all answers for each place.

    ``y(p) = sum_w weights(p - w) model(input[w])(p - w) / sum_w weights(p - w)`` over the windows ``w`` that hold
    ``p``. They begin every ``floor((1 - overlap) side)`` places, the last ones moved back inside. An input that is
    smaller than the window is filled up with zeros on both sides, and the answer cut again. Answers may be a whole
    number of times as fine as the input, along each axis.

    Args:
        model: a network of one input, in the mode that it is to answer in; its answer is a tensor ``(batch, channels,
            *finer)``, or several by name, each with a scale of its own.
        input: values on a grid of any number of axes.
        window: the side of a window along each axis.
        overlap: the share of a window's side that the next one repeats, from 0 to below 1.
        weights: how much each place of a window counts, :func:`constant_weights` or :func:`gaussian_weights`.
        batch_size: windows that are answered at once.
        on_windows: called after each batch with the number of windows that are done and of all.

    Returns:
        As the model: ``(batch, channels, *scale * size)``, or a mapping of such.

    Raises:
        UserError: window, overlap or batch size cannot be, or an answer is no whole number of times as fine as its
            window.
    """
    size, window = tuple(input.shape[2:]), tuple(window)
    _check(size, window, overlap, batch_size)
    missing = [max(side - given, 0) for side, given in zip(window, size, strict=True)]
    before = [amount // 2 for amount in missing]
    if any(missing):
        room = zip(reversed(before), reversed(missing), strict=True)
        input = F.pad(input, [amount for front, whole in room for amount in (front, whole - front)])
    corners = list(_corners(tuple(input.shape[2:]), window, overlap))
    places = [(sample, corner) for sample in range(input.shape[0]) for corner in corners]
    blend = _Blend(input, window, weights(window))
    for start in range(0, max(len(places), 1), batch_size):
        chosen = places[start : start + batch_size]
        pieces = [_inside(input[sample], corner, window) for sample, corner in chosen]
        blend.add(chosen, call(model, torch.stack(pieces) if pieces else _inside(input, corners[0], window)))
        if on_windows is not None:
            on_windows(min(start + batch_size, len(places)), len(places))
    return blend.result(before, size)


def _check(size: Sequence[int], window: Sequence[int], overlap: float, batch_size: int) -> None:
    if len(window) != len(size) or min(window, default=0) < 1 or min(size) < 1:
        raise UserError(
            f"A window has a side of at least 1 for each axis of the input; got a window of {tuple(window)} for an "
            f"input of {' x '.join(map(str, size)) or 'no axes'}."
        )
    if not 0 <= overlap < 1 or batch_size < 1:
        raise UserError(
            f"Windows overlap by a share from 0 to below 1, and at least 1 is answered at once; got overlap={overlap} "
            f"and batch_size={batch_size}."
        )


def _corners(size: Sequence[int], window: Sequence[int], overlap: float) -> Iterator[tuple[int, ...]]:
    """Where windows begin, the last axis fastest."""
    starts = []
    for side, width in zip(size, window, strict=True):
        step = max(int(width * (1 - overlap)), 1)
        count = math.ceil((side - width) / step) + 1
        starts.append([min(number * step, side - width) for number in range(count)])
    return itertools.product(*starts)


def _inside(x: Tensor, corner: Sequence[int], window: Sequence[int]) -> Tensor:
    """A view of the places of a window, along the last axes of ``x``."""
    for axis, (start, side) in enumerate(zip(corner, window, strict=True), start=x.ndim - len(window)):
        x = x.narrow(axis, start, side)
    return x


class _Blend:
    """Sums of weighed answers, by name, and of the weights at each scale."""

    def __init__(self, input: Tensor, window: tuple[int, ...], weights: Tensor) -> None:
        self.batch, self.size, self.window = input.shape[0], tuple(input.shape[2:]), window
        self.weights = weights.to(input.device)
        self.single = True
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, Tensor] = {}

    def add(self, places: Sequence[tuple[int, tuple[int, ...]]], answers: Outputs) -> None:
        """The answers ``(len(places), channels, *scaled window)`` for the windows at ``places``."""
        self.single = not isinstance(answers, Mapping)
        for name, answer in answers.items() if isinstance(answers, Mapping) else [("output", answers)]:
            scale = self._scale(name, answer)
            weights = _repeated(self.weights, scale).to(answer.dtype)
            if name not in self.sums:
                grid = [side * times for side, times in zip(self.size, scale, strict=True)]
                self.sums[name] = answer.new_zeros(self.batch, answer.shape[1], *grid)
                self.counts[name] = answer.new_zeros(self.batch, 1, *grid)
            for (sample, corner), piece in zip(places, answer, strict=False):
                first = [start * times for start, times in zip(corner, scale, strict=True)]
                _inside(self.sums[name][sample], first, weights.shape).add_(piece * weights)
                _inside(self.counts[name][sample], first, weights.shape).add_(weights)

    def _scale(self, name: str, answer: Tensor) -> tuple[int, ...]:
        """How many times as fine as its window an answer is, along each axis."""
        sides = tuple(answer.shape[2:])
        whole = len(sides) == len(self.window) and all(
            side and side % width == 0 for side, width in zip(sides, self.window, strict=True)
        )
        if not whole:
            raise UserError(
                f"The answer {name!r} to windows of {' x '.join(map(str, self.window))} has the shape "
                f"{tuple(answer.shape)}; answers that can be put together are as large as the window, or a whole "
                "number of times as large along each axis."
            )
        return tuple(side // width for side, width in zip(sides, self.window, strict=True))

    def result(self, before: Sequence[int], size: Sequence[int]) -> Outputs:
        """The means, without what the input was filled up with ``before`` it and behind ``size``."""
        means = {}
        for name, total in self.sums.items():
            scale = [side // width for side, width in zip(total.shape[2:], self.size, strict=True)]
            starts = [front * times for front, times in zip(before, scale, strict=True)]
            sides = [side * times for side, times in zip(size, scale, strict=True)]
            means[name] = _inside(total / self.counts[name], starts, sides)
        return means["output"] if self.single else means


def _repeated(weights: Tensor, scale: Sequence[int]) -> Tensor:
    for axis, times in enumerate(scale):
        weights = weights.repeat_interleave(times, dim=axis)
    return weights

"""Layers whose weights, and what they are given, are integers of few bits, simulated in floating point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from formwright.errors import UnknownNameError, UserError
from formwright.nn.functional.quantisation import LEAST_SCALE, fake_quantise, integer_range, scale_and_zero
from formwright.nn.layers.base import LAYERS, Layer, check_tensor
from formwright.nn.layers.plain import PLAIN

#: For how many numbers there is a scale: all, those of a channel, or a run of input channels of an output channel.
GRANULARITIES = ("tensor", "channel", "group")
FEWEST_BITS, MOST_BITS = 2, 8

Deployed = Literal["int8", "int4", "simulated"]


def check_bits(bits: object) -> None:
    """Refuse what no integer is made of here.

    Raises:
        UserError: ``bits`` is no whole number from 2 to 8.
    """
    if isinstance(bits, bool) or not isinstance(bits, int) or not FEWEST_BITS <= bits <= MOST_BITS:
        raise UserError(
            f"Numbers are quantised to a whole number of bits from {FEWEST_BITS} to {MOST_BITS}, got {bits!r}."
        )


class Quantiser(nn.Module):
    """Rounds numbers to what integers of few bits hold: ``scale (clamp(round(x / scale) + zero, least, most) - zero)``.

    Gradients pass the rounding straight through (:func:`~formwright.nn.functional.quantisation.fake_quantise`).

    Args:
        bits: of an integer, 2 to 8.
        shape: of the scales, ``()`` or ``(channels,)`` or ``(channels, groups)``.
        symmetric: whether the integers are signed and 0 stands for zero; otherwise they are not, and what stands for
            zero follows from the numbers' range.
        learned: whether the scales are parameters. Their gradient is then divided by the root of the numbers that
            share a scale times the largest integer.
        groups: which group of a channel each place of the second axis belongs to, where there are groups.

    Source of learned scales: Learned Step Size Quantization, arXiv 1902.08153.

    Raises:
        UserError: ``bits`` is no whole number from 2 to 8.
    """

    scale: Tensor
    zero: Tensor | None
    groups: Tensor | None

    def __init__(
        self,
        bits: int,
        shape: tuple[int, ...] = (),
        *,
        symmetric: bool = True,
        learned: bool = False,
        groups: Tensor | None = None,
        like: Tensor,
    ) -> None:
        super().__init__()
        check_bits(bits)
        self.bits, self.symmetric = bits, symmetric
        self.least, self.most = integer_range(bits, symmetric=symmetric)
        scale = like.new_ones(shape)
        if learned:
            self.scale = nn.Parameter(scale)
        else:
            self.register_buffer("scale", scale)
        self.register_buffer("zero", None if symmetric else like.new_zeros(shape))
        self.register_buffer("groups", groups)

    @torch.no_grad()
    def reach(self, low: Tensor, high: Tensor) -> None:
        """Let the integers reach from ``low`` to ``high``, each of the shape of the scales."""
        scale, zero = scale_and_zero(low, high, self.bits, symmetric=self.symmetric)
        self.scale.copy_(scale)
        if self.zero is not None:
            assert zero is not None
            self.zero.copy_(zero)

    def spread(self, values: Tensor, x: Tensor, axis: int) -> Tensor:
        """One of ``values``, which have the shape of the scales, for each number of ``x``, channels along ``axis``."""
        if values.ndim == 0:
            return values
        if self.groups is not None:
            values = values[:, self.groups]
            return values.view(*values.shape, *[1] * (x.ndim - 2))
        shape = [1] * x.ndim
        shape[axis] = -1
        return values.view(shape)

    def gather(self, x: Tensor, reduce: str, axis: int = 0) -> Tensor:
        """``sum``, ``amin`` or ``amax`` of the numbers of ``x`` that share a scale, in the shape of the scales.

        Least and largest are of zero, too.
        """
        if self.groups is not None:
            flat = x.reshape(*x.shape[:2], -1)
            of_column = flat.sum(2) if reduce == "sum" else getattr(flat, reduce)(2)
            index = self.groups.expand(len(x), -1)
            return torch.zeros_like(self.scale).scatter_reduce(1, index, of_column, reduce)
        flat = x.movedim(axis, 0).flatten(1) if self.scale.ndim else x.flatten()
        if reduce == "sum":
            return flat.sum(-1)
        found: Tensor = getattr(flat, reduce)(-1)
        return found.clamp(max=0) if reduce == "amin" else found.clamp(min=0)

    def forward(self, x: Tensor, axis: int = 0) -> Tensor:
        scale = self.scale.clamp(min=LEAST_SCALE)
        if isinstance(self.scale, nn.Parameter) and self.training:
            share = (x.numel() / self.scale.numel() * self.most) ** -0.5
            scale = scale * share + (scale * (1 - share)).detach()
        scale = self.spread(scale, x, axis)
        zero = None if self.zero is None else self.spread(self.zero, x, axis)
        return fake_quantise(x, scale, zero, self.least, self.most)

    def extra_repr(self) -> str:
        return f"bits={self.bits}, symmetric={self.symmetric}, scales={tuple(self.scale.shape)}"


@LAYERS.register("quantised")
class Quantised(Layer):
    """``y = Q(W) Q(x) + b``: weights, and if asked what comes in, rounded to integers of few bits times a scale.

    ``W`` itself is kept and trained, its gradient passing the rounding straight through. When it is built, the scales
    of ``W`` reach to its largest entry; :func:`formwright.compression.quantization.quantise` chooses better ones. Those
    of what comes in are 1 until they are calibrated. Exported, weights of 8 and 4 bits are stored as such integers
    (:attr:`deployed_form`).

    Args:
        layer: what it takes the place of; its weight and bias become this layer's.
        bits: of a weight, 2 to 8.
        granularity: whether there is a scale for the whole weight (``tensor``), for each output channel
            (``channel``), or for each run of ``group`` input channels of each output channel (``group``).
        group: input channels that share a scale; the last group may be smaller.
        symmetric: whether the integers of weights are signed and 0 stands for zero.
        learned: whether scales are parameters, which training changes.
        activations: how what comes in is rounded: ``bits``, ``granularity`` (``tensor``, or ``channel`` of the input)
            and ``symmetric`` (false if unset); none if it is not.

    Shapes: those of ``layer``. Source: Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference, arXiv 1712.05877.

    Raises:
        UserError: ``bits`` is no whole number from 2 to 8, the granularity is unknown, a group is empty, or channels of
            the input of a convolution in groups are to have scales.
    """

    bias: nn.Parameter | None
    input_quantiser: Quantiser | None

    def __init__(
        self,
        layer: nn.Module,
        *,
        bits: int = 8,
        granularity: str = "channel",
        group: int = 32,
        symmetric: bool = True,
        learned: bool = False,
        activations: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(layer)
        assert isinstance(layer, PLAIN)
        assert layer.bias is None or isinstance(layer.bias, nn.Parameter)
        self.granularity, self.group = granularity, group
        self.weight, self.bias = layer.weight, layer.bias
        weight = layer.weight.detach()
        rows, columns = weight.shape[:2]
        shape: tuple[int, ...] = () if granularity == "tensor" else (rows,)
        groups = None
        if granularity not in GRANULARITIES:
            raise UnknownNameError("granularity", granularity, GRANULARITIES)
        if granularity == "group":
            if isinstance(group, bool) or not isinstance(group, int) or group < 1:
                raise UserError(f"A scale is shared by at least one input channel, got group={group!r}.")
            groups = torch.arange(columns, device=weight.device) // group
            shape = (rows, -(-columns // group))
        self.weight_quantiser = Quantiser(bits, shape, symmetric=symmetric, learned=learned, groups=groups, like=weight)
        low, high = (self.weight_quantiser.gather(weight, end) for end in ("amin", "amax"))
        self.weight_quantiser.reach(low, high)
        self.input_quantiser = None if activations is None else self._of_inputs(learned=learned, **activations)

    def _of_inputs(
        self, *, bits: int, granularity: str = "tensor", symmetric: bool = False, learned: bool = False
    ) -> Quantiser:
        if granularity not in ("tensor", "channel"):
            raise UnknownNameError("granularity of activations", granularity, ("tensor", "channel"))
        by_channel = granularity == "channel"
        if by_channel and self.form.grouped and not self.form.depthwise:
            raise UserError(
                "The channels of a convolution in groups have no scales of their own; choose the granularity 'tensor' "
                "for its activations."
            )
        shape = (self.weight.shape[1] * self.form.groups(len(self.weight)),) if by_channel else ()
        return Quantiser(bits, shape, symmetric=symmetric, learned=learned, like=self.weight.detach())

    @property
    def input_axis(self) -> int:
        """Where the channels of what comes in are."""
        return -1 if self.form.dense else 1

    def forward(self, x: Tensor) -> Tensor:
        if self.input_quantiser is not None:
            x = self.input_quantiser(x, self.input_axis)
        return self.form(x, self.effective_weight(), self.bias)

    def effective_weight(self) -> Tensor:
        weight: Tensor = self.weight_quantiser(self.weight)
        return weight

    def effective_bias(self) -> Tensor | None:
        return self.bias

    @property
    def deployed_form(self) -> Deployed:
        """How an exported model holds the weights: as integers of 8 or 4 bits, or as the floats that simulate others.

        Groups of input channels that were cut or permuted are no runs any more, and are simulated too.
        """
        forms: dict[int, Deployed] = {8: "int8", 4: "int4"}
        return forms.get(self.weight_quantiser.bits, "simulated") if self._groups_are_runs() else "simulated"

    def _groups_are_runs(self) -> bool:
        groups = self.weight_quantiser.groups
        if groups is None or groups.is_meta:
            return True
        return torch.equal(groups.cpu(), torch.arange(len(groups)) // self.group)

    def locate(self, name: str, dimension: int) -> tuple[tuple[str, int], ...]:
        check_tensor(self, name)
        if name == "bias":
            return (("bias", dimension),)
        found = [("weight", dimension)]
        if dimension == 0 and self.granularity != "tensor":
            found += [("weight_quantiser.scale", 0), ("weight_quantiser.zero", 0)]
        if dimension == 1 and self.granularity == "group":
            found.append(("weight_quantiser.groups", 0))
        if dimension == (0 if self.form.depthwise else 1) and self._inputs_by_channel:
            found += [("input_quantiser.scale", 0), ("input_quantiser.zero", 0)]
        return tuple(found)

    @property
    def _inputs_by_channel(self) -> bool:
        return self.input_quantiser is not None and self.input_quantiser.scale.ndim == 1

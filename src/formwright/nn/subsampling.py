"""From frames of sound to fewer tokens: strided convolutions over time, also while the sound is still coming in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.convolution import Convolution1d
from formwright.nn.functional.chunks import masked
from formwright.nn.parts import PARTS, RESIDUAL, Axis, Part, Promises, State


@PARTS.register("frame_subsampling")
class FrameSubsampling(Part):
    """``x_i = gelu(conv_i(x_{i-1}))``, convolutions over time of which each keeps every ``stride``-th place.

    ``n`` frames become ``ceil(n / stride)`` tokens in each layer, in a batch of padded rows as in each row alone. In a
    stream, ``t`` more frames give from none to ``ceil(t / stride)`` more tokens; a token waits for :attr:`lookahead`
    later frames, and what still waits when the stream ends is given then, as if zeros followed.

    Args:
        in_dim: channels of a frame (bands of a spectrogram).
        dim: channels of a token, and of every layer.
        strides: of the layers, one after the other.
        kernel: frames that a convolution sees; odd.
        causal: whether it sees the present frame and those before it; as many on either side if not.

    Shapes: ``(batch, time, in_dim)`` to ``(batch, fewer, dim)``; masked frames count as zero everywhere. State:
    ``window.i`` ``(batch, kernel - 1, channels)``, the latest inputs of each convolution.

    Raises:
        UserError: there is no layer, a stride is below one, or the kernel is even.

    Source: the stem of Robust Speech Recognition via Large-Scale Weak Supervision, arXiv 2212.04356, with any strides.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask"})
    promises: ClassVar[Promises] = Promises(dimensions=(1,), exemptions={"tokens": "takes frames, not tokens"})
    resamples: ClassVar[bool] = True

    def __init__(
        self, in_dim: int, dim: int, *, strides: Sequence[int] = (2, 2), kernel: int = 3, causal: bool = False
    ) -> None:
        super().__init__()
        if not strides or min(strides) < 1:
            raise UserError(f"Frames become fewer in at least one layer of a stride of 1 or more, got {list(strides)}.")
        if kernel < 1 or kernel % 2 == 0:
            raise UserError(f"A convolution over time sees an odd number of frames, got {kernel}.")
        self.kernel, self.strides = kernel, tuple(strides)
        self.in_dim, self.dim = in_dim, dim
        self.ahead = 0 if causal else kernel // 2
        widths = [in_dim, *[dim] * len(strides)]
        self.layers = nn.ModuleList(
            Convolution1d(before, dim, kernel, stride) for before, stride in zip(widths[:-1], strides, strict=True)
        )
        #: How many later frames a token waits for in a stream.
        self.lookahead = self.ahead * sum(math.prod(strides[:layer]) for layer in range(len(strides)))

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {f"layers.{len(self.layers) - 1}.weight": (RESIDUAL, None, None)}

    def output_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        (time,) = grid
        for stride in self.strides:
            time = -(-time // stride)
        return (time,)

    def emitted(self, seen: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        for stride in self.strides:
            seen = self._ready(seen, stride)
        return seen

    def _ready(self, seen: Tensor, stride: int) -> Tensor:
        """How many places of a layer have seen all that they wait for."""
        return (seen - self.ahead + stride - 1).clamp(min=0) // stride

    def check_input(self, x: Tensor) -> None:
        if x.ndim != 3 or x.shape[-1] != self.in_dim:
            raise UserError(f"Expected frames (batch, time, {self.in_dim}), and got shape {tuple(x.shape)}.")

    def forward(
        self, x: Float[Tensor, "batch time in_dim"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch fewer dim"], Context]:
        mask = context.mask
        if x.shape[1] == 0:
            return self._none(x), context
        for layer, stride in zip(self.layers, self.strides, strict=True):
            padded = F.pad(masked(x, mask), (0, 0, self.kernel - 1 - self.ahead, self.ahead))
            x = F.gelu(layer(padded.transpose(1, 2)).transpose(1, 2))
            mask = None if mask is None else mask[:, ::stride]
        return x, context.replace(mask=mask)

    def init_state(
        self, batch: int, capacity: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        return {
            f"window.{index}": torch.zeros(batch, self.kernel - 1, width, device=device, dtype=dtype)
            for index, width in enumerate([self.in_dim, *[self.dim] * (len(self.layers) - 1)])
        }

    def stream(  # type: ignore[override]
        self, x: Float[Tensor, "batch time in_dim"], state: State, context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch fewer dim"], State, Context]:
        """The tokens that the next frames complete, the state after them, and which of the tokens are real."""
        seen, after, mask = state["length"], {}, context.mask
        for index, (layer, stride) in enumerate(zip(self.layers, self.strides, strict=True)):
            count = torch.full_like(seen, x.shape[1]) if mask is None else mask.sum(1)
            window = torch.cat([state[f"window.{index}"].to(x.dtype), masked(x, mask)], dim=1)
            after[f"window.{index}"] = _rows(window, count[:, None], self.kernel - 1)
            first, total = self._ready(seen, stride), seen + count
            last = -(-total // stride) if context.ended else self._ready(total, stride)
            x = self._places(layer, stride, window, first * stride - seen + self.ahead, last - first)
            mask = self._given(last - first, x.shape[1])
            seen = first
        return x, after, context.replace(mask=mask)

    def _places(self, layer: nn.Module, stride: int, window: Tensor, start: Tensor, count: Tensor) -> Tensor:
        """The outputs at ``count`` places in a row, whose first one sees ``window`` from ``start`` on."""
        most = int(count.max()) if len(count) else 0
        if not most:
            return self._none(window)
        reach = (most - 1) * stride + self.kernel
        seen = _rows(F.pad(window, (0, 0, 0, reach)), start[:, None], reach)
        return F.gelu(layer(seen.transpose(1, 2)).transpose(1, 2))

    def _none(self, x: Tensor) -> Tensor:
        """No tokens, of as many channels as the last layer gives."""
        like = self.layers[-1](x.new_zeros(1, self.dim if len(self.layers) > 1 else self.in_dim, self.kernel))
        return x.new_zeros(x.shape[0], 0, like.shape[1])

    @staticmethod
    def _given(count: Int[Tensor, " batch"], places: int) -> Bool[Tensor, "batch places"] | None:
        """Which places are real, where rows have different numbers of them."""
        if bool((count == places).all()):
            return None
        return torch.arange(places, device=count.device) < count[:, None]


def _rows(x: Tensor, start: Int[Tensor, "batch 1"], count: int) -> Tensor:
    """``count`` places of each row from its own ``start`` on."""
    index = start + torch.arange(count, device=x.device)
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))

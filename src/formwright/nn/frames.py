"""From frames of sound to tokens, and from tokens to scores that may be read at every frame."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.convolution import norm_axes
from formwright.nn.functional.batch_norm import batch_norm
from formwright.nn.functional.chunks import masked
from formwright.nn.parts import PARTS, RESIDUAL, Axis, Part, Promises, State

#: Frames that every convolution sees.
KERNEL = 3


class FrameConvolution(nn.Module):
    """``y = norm(relu(conv(x)))`` over three frames with a batch norm, or the convolution alone; no bias."""

    def __init__(self, in_dim: int, dim: int, *, normed: bool) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_dim, dim, KERNEL, bias=False)
        self.norm = nn.BatchNorm1d(dim) if normed else None

    def init_weights(self) -> None:
        """As PyTorch's convolutions start."""
        self.conv.reset_parameters()

    def forward(
        self, padded: Float[Tensor, "batch padded_time in_dim"], mask: Bool[Tensor, "batch time"] | None
    ) -> Float[Tensor, "batch time dim"]:
        missing = max(0, KERNEL - padded.shape[1])  # where there is no frame
        y = self.conv(F.pad(padded, (0, 0, 0, missing)).transpose(1, 2)).transpose(1, 2)[:, missing:]
        return y if self.norm is None else batch_norm(self.norm, F.relu(y), mask)


@PARTS.register("frame_convolutions")
class FrameConvolutions(Part):
    """``y = x_n + conv(x_n)`` with ``x_i = norm(relu(conv(x_{i-1})))``, convolutions over three frames each.

    Args:
        in_dim: channels of a frame (bands of a spectrogram).
        dim: channels of a token.
        layers: how many normed convolutions there are.
        causal: whether convolutions see the present frame and the two before it; one on either side if not.

    Shapes: ``(batch, time, in_dim)`` to ``(batch, time, dim)``; masked frames count as zero everywhere. State, where
    causal: ``window.i`` ``(batch, 2, channels)``, the latest inputs of each convolution.

    Raises:
        UserError: there is no layer.

    Source: LMUFormer, arXiv 2402.04882. Its convolutions are those that are not causal, so that a stream of it is
    ``layers + 1`` frames late.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask"})
    promises: ClassVar[Promises] = Promises(dimensions=(1,), exemptions={"tokens": "takes frames, not tokens"})

    def __init__(self, in_dim: int, dim: int, *, layers: int = 4, causal: bool = False) -> None:
        super().__init__()
        if layers < 1:
            raise UserError(f"Frames cannot become tokens in {layers} layers; choose at least 1.")
        self.causal = causal
        widths = [in_dim, *[dim] * layers]
        self.layers = nn.ModuleList(FrameConvolution(width, dim, normed=True) for width in widths[:-1])
        self.position = FrameConvolution(dim, dim, normed=False)
        if causal:
            self.promise(causal=True)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        residual, last = Axis("residual"), f"layers.{len(self.layers) - 1}"
        return {
            f"{last}.conv.weight": (residual, None, None),
            **norm_axes(f"{last}.norm", residual),
            "position.conv.weight": (residual, residual, None),
        }

    def output_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        return grid

    def check_input(self, x: Tensor) -> None:
        channels = self.layers[0].conv.in_channels  # type: ignore[union-attr]
        if x.ndim != 3 or x.shape[-1] != channels:
            raise UserError(f"Expected frames (batch, time, {channels}), and got shape {tuple(x.shape)}.")

    def forward(
        self, x: Float[Tensor, "batch time in_dim"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch time dim"], Context]:
        padding = (0, 0, KERNEL - 1, 0) if self.causal else (0, 0, KERNEL // 2, KERNEL // 2)
        for layer in self.layers:
            x = layer(F.pad(masked(x, context.mask), padding), context.mask)
        x = masked(x, context.mask)
        return x + self.position(F.pad(x, padding), context.mask), context

    def init_state(
        self, batch: int, capacity: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        if not self.causal:
            super().init_state(batch, capacity)  # refuses
        return {
            f"window.{index}": torch.zeros(batch, KERNEL - 1, layer.conv.in_channels, device=device, dtype=dtype)
            for index, layer in enumerate([*self.layers, self.position])
        }

    def stream(
        self, x: Float[Tensor, "batch time in_dim"], state: State, context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch time dim"], State]:
        after: State = {}
        for index, layer in enumerate([*self.layers, self.position]):
            x = masked(x, context.mask)
            window = torch.cat([state[f"window.{index}"].to(x.dtype), x], dim=1)
            after[f"window.{index}"] = _latest(window, context.mask)
            y = layer(window, context.mask)
            x = x + y if layer is self.position else y
        return x, after


def _latest(window: Tensor, mask: Tensor | None) -> Tensor:
    """The inputs before the place after the last real frame."""
    count = KERNEL - 1
    if mask is None:
        return window[:, window.shape[1] - count :].clone()
    index = mask.sum(1)[:, None] + torch.arange(count, device=mask.device)
    return window.gather(1, index[..., None].expand(-1, -1, window.shape[-1]))


@PARTS.register("running_scores")
class RunningScores(Part):
    """``y_t = W mean(x_1 ... x_t) + b``: what the scores of a sequence would be if it ended at each of its tokens.

    At the last token these are the scores of a classifier that takes the mean of all.

    Args:
        dim: channels of the tokens.
        classes: number of scores.

    Shapes: ``(batch, time, dim)`` to ``(batch, time, classes)``; masked tokens do not count. State: ``sum``
    ``(batch, dim)``.

    Source: the streaming inference of LMUFormer, arXiv 2402.04882.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask"})
    promises: ClassVar[Promises] = Promises(
        dimensions=(1,), causal=True, exemptions={"tokens": "gives scores, not tokens"}
    )

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, classes)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"linear.weight": (None, RESIDUAL)}

    def forward(
        self, x: Float[Tensor, "batch time channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch time classes"]:
        start = torch.zeros(x.shape[0], dtype=torch.int64, device=x.device)
        return self._scores(x, x.new_zeros(x.shape[0], x.shape[2]), start, context.mask)[0]

    def init_state(
        self, batch: int, capacity: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        return {"sum": torch.zeros(batch, self.linear.in_features, device=device, dtype=dtype)}

    def stream(
        self, x: Float[Tensor, "batch time channels"], state: State, context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch time classes"], State]:
        y, total = self._scores(x, state["sum"], state["length"], context.mask)
        return y, {"sum": total}

    def _scores(self, x: Tensor, total: Tensor, seen: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        real = torch.ones_like(x[..., 0], dtype=torch.int64) if mask is None else mask.to(torch.int64)
        sums = total[:, None] + masked(x, mask).cumsum(1)
        counts = (seen[:, None] + real.cumsum(1)).clamp(min=1)
        return self.linear(sums / counts.unsqueeze(-1).to(x.dtype)), sums[:, -1] if x.shape[1] else total

"""How the values of a model are spread on calibration data: where their integers should reach to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from formwright.batch import Batch, call, moved
from formwright.deployment.ranges import BINS, METHODS, SAMPLES, Histogram
from formwright.errors import UserError
from formwright.measurement.macs import evaluation_mode
from formwright.nn.taps import replace_taps


@dataclass
class Observer:
    """Looks at the values of one tap twice: for their ends, then for how they are spread between them.

    Attributes:
        axis: where the channels are that have a range of their own; none if all values share one.
        symmetric: whether the range reaches equally far to both sides of zero.
        steps: between the integers that the values become.
    """

    axis: int | None = None
    symmetric: bool = False
    steps: int = 255
    low: Tensor | None = None
    high: Tensor | None = None
    counts: Tensor = field(default_factory=lambda: torch.zeros(0))

    def _rows(self, x: Tensor) -> Tensor:
        """``(ranges, values)``."""
        x = x.detach()
        return x.reshape(1, -1) if self.axis is None else x.movedim(self.axis, 0).flatten(1)

    def find_ends(self, x: Tensor) -> None:
        """Widen the ends to the values of ``x``; zero lies between them."""
        rows = self._rows(x)
        low, high = rows.amin(1).clamp(max=0), rows.amax(1).clamp(min=0)
        if self.symmetric:
            high = torch.maximum(-low, high)
            low = -high
        self.low = low if self.low is None else torch.minimum(self.low, low)
        self.high = high if self.high is None else torch.maximum(self.high, high)

    def count(self, x: Tensor) -> None:
        """Count the values of ``x`` by where they lie between the ends."""
        assert self.low is not None
        assert self.high is not None
        rows = self._rows(x)
        rows = rows[:, :: max(1, rows.numel() // SAMPLES)]
        width = (self.high - self.low).clamp(min=torch.finfo(rows.dtype).tiny)[:, None]
        bins = ((rows - self.low[:, None]) / width * BINS).long().clamp(0, BINS - 1)
        bins += BINS * torch.arange(len(rows), device=rows.device)[:, None]
        counts = torch.bincount(bins.flatten(), minlength=BINS * len(rows)).view(len(rows), BINS)
        self.counts = counts if not len(self.counts) else self.counts + counts

    def range(self, method: str) -> tuple[Tensor, Tensor]:
        """The ends that ``method`` chooses, ``()`` or ``(channels,)``."""
        assert self.low is not None
        assert self.high is not None
        ends = [
            METHODS[method](Histogram(low, high, counts.astype(np.float64), self.steps))
            for low, high, counts in zip(self.low.tolist(), self.high.tolist(), self.counts.cpu().numpy(), strict=True)
        ]
        low, high = torch.tensor(ends, dtype=self.low.dtype, device=self.low.device).unbind(1)
        return (low[0], high[0]) if self.axis is None else (low, high)


@torch.no_grad()
def observe(model: nn.Module, observers: Mapping[str, Observer], calibration: Iterable[Batch]) -> None:
    """Let each observer see the values of its tap while ``model`` answers the ``calibration`` twice, in eval mode.

    Raises:
        UserError: there are no batches, values are not finite, or a tap shows nothing.
    """
    batches = list(calibration)
    if not batches:
        raise UserError("There are no calibration batches, so nothing is known of the values that are to be rounded.")
    device = next(model.parameters()).device
    with evaluation_mode(model):
        for step in ("find_ends", "count"):
            with replace_taps(model, {point: getattr(observer, step) for point, observer in observers.items()}):
                for batch in batches:
                    call(model, moved(batch.inputs, device))
            for point, observer in observers.items():
                if observer.low is None or observer.high is None:
                    raise UserError(
                        f"Nothing passed {point!r} on the calibration data, so no range is known; leave it out, or "
                        "give data that reach it."
                    )
                if not torch.isfinite(observer.high - observer.low).all():
                    raise UserError(f"The values of {point!r} are not finite on the calibration data.")

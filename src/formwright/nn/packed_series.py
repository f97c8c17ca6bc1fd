"""Rows of patches of series: one series per row, or several that are packed."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from formwright.errors import UserError

#: Added to the variance of a series, so that a constant one stays finite.
_EPSILON = 1e-5


class Patches(NamedTuple):
    """Rows of patches, of one series or of several that are packed.

    Attributes:
        values: ``(batch, places, patch)``, zero where nothing was observed.
        observed: true for points that were.
        predicted: ``(batch, places)``, true for patches that are to be forecast; their values are not shown.
        series: which series of the row a patch is of, from 1; 0 is padding.
        time: place of a patch in its own series, from 0.
    """

    values: Float[Tensor, "batch places patch"]
    observed: Bool[Tensor, "batch places patch"]
    predicted: Bool[Tensor, "batch places"]
    series: Int[Tensor, "batch places"]
    time: Int[Tensor, "batch places"]


def cut_into_patches(series: Float[Tensor, "batch time"], patch: int = 32, *, forecast: int = 0) -> Patches:
    """One row per series: what is missing (not a number) is not observed, and a first patch that is not full is padded.

    The last ``forecast`` patches are marked as those to predict.

    Raises:
        UserError: a series is shorter than what is to be forecast.
    """
    batch, length = series.shape
    short = -length % patch
    series = torch.cat([series.new_full((batch, short), torch.nan), series], dim=1).view(batch, -1, patch)
    places = series.shape[1]
    if not 0 <= forecast < places:
        raise UserError(f"Of {places} patches, {forecast} cannot be forecast: at least one is to be seen.")
    predicted = torch.zeros(batch, places, dtype=torch.bool, device=series.device)
    predicted[:, places - forecast :] = True
    time = torch.arange(places, device=series.device).expand(batch, -1)
    observed = series.isfinite()
    return Patches(torch.where(observed, series, 0.0), observed, predicted, torch.ones_like(time), time)


def next_patches(patches: Patches) -> tuple[Patches, Patches]:
    """What a decoder is shown, and the patches that come next, place by place."""

    def part(places: slice) -> Patches:
        return Patches(*(field[:, places] for field in patches))

    return part(slice(None, -1)), part(slice(1, None))


def series_statistics(
    patches: Patches, *, past: bool
) -> tuple[Float[Tensor, "batch places 1"], Float[Tensor, "batch places 1"]]:
    """Mean and standard deviation by which every patch is normalised: of its series' points that it may know.

    Args:
        patches: those that are to be forecast are not known.
        past: only the points up to the end of each patch are known; otherwise all of the series that are shown.
    """
    shown = patches.observed & ~patches.predicted[..., None]
    related = patches.series[:, :, None] == patches.series[:, None, :]
    if past:
        related = related.tril()
    weights = related.double()
    values = torch.where(shown, patches.values, 0.0).double()
    count = weights @ shown.sum(-1, keepdim=True).double()
    location = weights @ values.sum(-1, keepdim=True) / count.clamp(min=1)
    # Squares around a mean of the whole row, which every place shares, lose nothing to cancellation.
    centre = values.sum((1, 2), keepdim=True) / shown.sum((1, 2), keepdim=True).clamp(min=1)
    squares = weights @ torch.where(shown, (values - centre) ** 2, 0.0).sum(-1, keepdim=True)
    squares = (squares - count * (location - centre) ** 2).clamp(min=0)
    scale = (squares / (count - 1).clamp(min=1) + _EPSILON).sqrt()
    padding = patches.series[..., None] == 0
    dtype = patches.values.dtype
    return location.masked_fill(padding, 0.0).to(dtype), scale.masked_fill(padding, 1.0).to(dtype)

"""What models of series are trained for besides a point forecast."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.batch import Batch, call
from formwright.errors import UserError
from formwright.nn.packed_series import cut_into_patches, next_patches
from formwright.nn.student_mixture import StudentMixture
from formwright.objectives.objective import Objective, Outcome

#: Shares of a series' patches that an encoder has to tell: the least and the most.
MASKED_SHARES = (0.15, 0.5)


class PatchLikelihood(Objective):
    """``-log p`` of patches that a foundation model was not shown, the mean over their points, in normalised units.

    An encoder tells the last patches of each series, a random share from 15 to 50 %; a decoder every next patch.
    Inputs are series ``(batch, time)``, not a number where missing; targets are not used. Counted as ``loss``.

    Args:
        patch: points of a patch, as the model's.
        causal: whether the model is a decoder.

    Source: Towards Neural Scaling Laws for Time Series Foundation Models, arXiv 2410.12360.
    """

    def __init__(self, *, patch: int = 32, causal: bool = False) -> None:
        super().__init__()
        self.patch, self.causal = patch, causal

    def forward(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
        patches = cut_into_patches(batch.inputs, self.patch)
        places = patches.values.shape[1]
        if places < 2:
            raise UserError(f"Series of one patch of {self.patch} points have nothing to forecast.")
        if self.causal:
            seen, wanted = next_patches(patches)
            told = wanted.observed
        else:
            low, high = MASKED_SHARES
            share = low + (high - low) * torch.rand(len(patches.values), 1, device=patches.values.device)
            missing = (share * places).round().clamp(min=1, max=places - 1)
            predicted = patches.time >= places - missing
            seen = wanted = patches._replace(predicted=predicted)
            told = wanted.observed & predicted[..., None]
        mixture = StudentMixture(**call(model, seen._asdict()))
        surprise = -mixture.normalised_log_probability(wanted.values)
        count = told.sum()
        loss = torch.where(told, surprise, 0.0).sum() / count.clamp(min=1)
        return Outcome(loss, sums={"loss": loss.detach() * count}, counts={"loss": int(count)})


class DecomposedForecast(Objective):
    """Mean squared error of a forecast and, ``weight`` times, of the parts that TEMPO makes of its window.

    Targets are the next steps ``forecast`` ``(batch, horizon, variates)`` and trend, season and rest of the window,
    ``parts`` ``(batch, 3, length, variates)``, which are brought to mean zero and variance one; or the next steps
    alone, as a single tensor. Counted as ``loss`` and ``mse``.

    Args:
        weight: of the parts.

    Raises:
        UserError: the targets are of another shape.

    Source: TEMPO, arXiv 2310.04948.
    """

    def __init__(self, weight: float = 0.001) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
        targets = batch.targets if isinstance(batch.targets, Mapping) else {"forecast": batch.targets}
        forecast, parts = model.forecast_and_parts(batch.inputs)  # type: ignore[operator]
        if targets["forecast"].shape != forecast.shape:
            raise UserError(
                f"The model forecasts {tuple(forecast.shape)}, and the targets are {tuple(targets['forecast'].shape)}; "
                "build it for this horizon and these variates."
            )
        error = F.mse_loss(forecast, targets["forecast"])
        loss = error
        if "parts" in targets and len(parts) > 1:
            wanted = targets["parts"].permute(1, 0, 3, 2).flatten(1, 2)
            loss = loss + self.weight * sum(
                F.mse_loss(part, _standardised(rows)) for part, rows in zip(parts, wanted, strict=True)
            )
        count = batch.inputs.shape[0]
        return Outcome(
            loss,
            sums={"loss": loss.detach() * count, "mse": error.detach() * count},
            counts={"loss": count, "mse": count},
        )


def _standardised(x: Tensor) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    return (x - mean) / ((x - mean).square().mean(-1, keepdim=True) + 1e-5).sqrt()

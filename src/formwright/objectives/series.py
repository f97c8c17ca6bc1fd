"""What models of series are trained for besides a point forecast."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.batch import Batch
from formwright.errors import UserError
from formwright.models.series.foundation import FoundationModel, Patches, cut_into_patches
from formwright.models.series.tempo import Tempo
from formwright.nn.student_mixture import StudentMixture
from formwright.objectives.objective import Objective, Outcome

#: Shares of a series' patches that an encoder has to tell: the least and the most.
MASKED_SHARES = (0.15, 0.5)


class PatchLikelihood(Objective):
    """``-log p`` of patches that a foundation model was not shown, the mean over their points, in normalised units.

    An encoder tells the last patches of each series, a random share from 15 to 50 %; a decoder every next patch.
    Inputs are series ``(batch, time)``, not a number where missing; targets are not used. Counted as ``loss``.

    Source: Towards Neural Scaling Laws for Time Series Foundation Models, arXiv 2410.12360.
    """

    def __init__(self, model: FoundationModel) -> None:
        super().__init__()
        self.config = model.config

    def forward(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
        patches = cut_into_patches(batch.inputs, self.config.patch)
        places = patches.values.shape[1]
        if places < 2:
            raise UserError(f"Series of one patch of {self.config.patch} points have nothing to forecast.")
        if self.config.causal:
            seen, wanted = next_patches(patches)
            told = wanted.observed
        else:
            low, high = MASKED_SHARES
            share = low + (high - low) * torch.rand(len(patches.values), 1, device=patches.values.device)
            missing = (share * places).round().clamp(min=1, max=places - 1)
            predicted = patches.time >= places - missing
            seen = wanted = patches._replace(predicted=predicted)
            told = wanted.observed & predicted[..., None]
        mixture: StudentMixture = model(seen)
        surprise = -mixture.normalised_log_probability(wanted.values)
        count = told.sum()
        loss = torch.where(told, surprise, 0.0).sum() / count.clamp(min=1)
        return Outcome(loss, sums={"loss": loss.detach() * count}, counts={"loss": int(count)})


def next_patches(patches: Patches) -> tuple[Patches, Patches]:
    """What a decoder is shown, and the patches that come next, place by place."""

    def part(places: slice) -> Patches:
        return Patches(*(field[:, places] for field in patches))

    return part(slice(None, -1)), part(slice(1, None))


class DecomposedForecast(Objective):
    """Mean squared error of a forecast and, ``weight`` times, of the parts that TEMPO makes of its window.

    Targets are ``(batch, horizon + 3 length, variates)``: the next steps, and behind them trend, season and rest of the
    window, which are brought to mean zero and variance one; or the next steps alone. Counted as ``loss`` and ``mse``.

    Args:
        model: the TEMPO that is going to be trained.
        weight: of the parts.

    Raises:
        UserError: the targets have another length.

    Source: TEMPO, arXiv 2310.04948.
    """

    def __init__(self, model: Tempo, weight: float = 0.001) -> None:
        super().__init__()
        self.config, self.weight = model.config, weight

    def forward(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
        horizon, length = self.config.horizon, self.config.length
        steps = batch.targets.shape[1]
        if steps not in (horizon, horizon + 3 * length):
            raise UserError(
                f"Targets of {horizon} steps are expected, or of {horizon} and three parts of {length} behind them; "
                f"got {steps}."
            )
        forecast, parts = model.forecast_and_parts(batch.inputs)  # type: ignore[operator]
        error = F.mse_loss(forecast, batch.targets[:, :horizon])
        loss = error
        if steps > horizon and self.config.decompose:
            rows = batch.targets[:, horizon:].transpose(1, 2).reshape(-1, 3, length).movedim(1, 0)
            loss = loss + self.weight * sum(
                F.mse_loss(part, _standardised(wanted)) for part, wanted in zip(parts, rows, strict=True)
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

"""The forecaster: a window of series and the steps after it, of which nothing is known yet, are read as one series."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.models.network import NETWORKS, Network
from formwright.nn.context import SETTLED
from formwright.nn.frame import Backbone
from formwright.nn.inputs import ArrayInput, Input, SeriesInput
from formwright.nn.parts import Part, Width, build_part
from formwright.nn.series import check_series, normalise_targets, put_back_statistics
from formwright.nn.specification import NetworkSpec, PartSpec, StageSpec, register_specification


@register_specification
@dataclass(frozen=True, kw_only=True)
class ForecasterSpec(NetworkSpec):
    """``embed`` → ``stages`` → ``head`` for a window and ``horizon`` further steps, the head's answers for which count.

    Attributes:
        input: the window, targets before covariates.
        horizon: steps to forecast.
        covariates: how many of the last variates are not forecast, such as calendar features; those of the steps ahead
            may come as ``future``.
        normalise: whether mean and standard deviation of each target's window are taken out and put back.
    """

    input: SeriesInput
    horizon: int
    embed: PartSpec
    stages: tuple[StageSpec, ...]
    head: PartSpec
    covariates: int = 0
    normalise: bool = False
    kind: Literal["forecaster"] = "forecaster"

    @property
    def inputs(self) -> Mapping[str, Input]:
        ahead = ArrayInput((self.horizon, self.covariates), optional=True)
        return {"input": self.input, **({"future": ahead} if self.covariates else {})}


@NETWORKS.register("forecaster")
class Forecaster(Network):
    """The next steps of series, from a :class:`ForecasterSpec`: ``(batch, length, variates)`` to those to come.

    Values of the steps ahead that are not known are zero, as in what Informer's decoder is given.

    >>> forecast = model(window)                          # (batch, horizon, targets)  # doctest: +SKIP
    >>> forecast = model(window, future)                  # with the covariates of these steps

    Source: Informer, arXiv 2012.07436 (the input of its decoder), here without an encoder of its own.
    """

    specification_type = ForecasterSpec
    _specification: ForecasterSpec

    def build(self, specification: ForecasterSpec) -> None:
        source = specification.input
        self.targets = source.variates - specification.covariates
        if specification.horizon < 1 or not 0 < self.targets <= source.variates:
            raise UserError(
                f"At least one step of at least one variate is forecast; got a horizon of {specification.horizon} and "
                f"{specification.covariates} covariates among {source.variates} variates."
            )
        steps = source.size[0] + specification.horizon
        self.backbone = Backbone(specification.embed, specification.stages, source.variates, (steps,))
        self.head: Part = build_part(specification.head, self.backbone.dim, self.targets)

    def widths(self) -> list[Width]:
        return self.backbone.widths("backbone", "head")

    def forward(
        self,
        input: Float[Tensor, "batch length variates"],
        future: Float[Tensor, "batch horizon covariates"] | None = None,
    ) -> Float[Tensor, "batch horizon targets"]:
        """The steps after each window.

        Args:
            input: windows, the covariates behind the targets.
            future: the covariates of the steps to forecast; zero if unset.

        Raises:
            UserError: a shape does not fit.
        """
        horizon, covariates = self._specification.horizon, self._specification.covariates
        source = self._specification.input
        check_series(input, length=source.length, variates=source.variates)
        input = source.recent(input)
        statistics = None
        if self._specification.normalise:
            input, statistics = normalise_targets(input, covariates)
        if future is None:
            steps = F.pad(input, (0, 0, 0, horizon))
        else:
            self._check_future(input, future)
            steps = torch.cat([input, F.pad(future, (self.targets, 0))], dim=1)
        tokens, _ = self.backbone(steps, SETTLED)
        forecast: Tensor = self.head(tokens[:, -horizon:])
        return put_back_statistics(forecast, statistics)

    def _check_future(self, input: Tensor, future: Tensor) -> None:
        declared = self.inputs.get("future")
        if declared is None:
            raise UserError(f"{self._specification.name} was built without covariates, and has no use for `future`.")
        declared.check(future)
        if future.shape[0] != input.shape[0]:
            raise UserError(
                f"There are {input.shape[0]} windows and {future.shape[0]} of `future`; give one per window."
            )

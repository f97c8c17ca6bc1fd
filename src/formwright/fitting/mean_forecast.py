"""What is shipped of a forecaster: the mean of local forecasters and of the network, and what is to be said of it."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from formwright.data.series import SeriesData
from formwright.deployment.local_models.member import Local
from formwright.deployment.local_models.panel import KINDS, mean_of
from formwright.deployment.preparations.forecasting import NETWORK, ForecastPreparation
from formwright.fitting.forecast_figures import Measuring
from formwright.fitting.local_answers import MEAN, Chosen, LocalAnswers, choose
from formwright.fitting.metric import percent
from formwright.inference.intervals import WORTH
from formwright.measurement.budget import format_bytes

Values = NDArray[np.floating]
Held = Literal["val", "test"]

TITLES = {NETWORK: NETWORK, MEAN: MEAN, **{name: kind.title for name, kind in KINDS.items()}}


class MeanForecast:
    """Local forecasters, fitted to what lies before each part, and whose mean with the network is the answer.

    Args:
        data: whose series are forecast.
        measuring: the windows that are forecast.
        network: what the network says of those of the validation part, which it has not learned.
        seconds: that fitting may take.
        most_bytes: what their parameters and states may take beside the network.

    Attributes:
        chosen: the members and their weights.
        said: what each member says of the windows of a part, scaled; the network's of the test part are still to come.
    """

    def __init__(
        self, data: SeriesData, measuring: Measuring, network: Values, *, seconds: float, most_bytes: float = np.inf
    ) -> None:
        self.data, self.measuring = data, measuring
        self.local = local = LocalAnswers(data)
        self.said: dict[Held, dict[str, Values]] = {}
        self._follow(0, "val", local.kinds, seconds / 3)
        usual = local.trusted(self.said["val"])
        self.said["val"][NETWORK] = network
        if local.telling:
            self.chosen = choose(self.said["val"], measuring.val, measuring.scale, usual)
        else:
            self.chosen = Chosen(dict.fromkeys(usual, 1 / len(usual)), {}, "validation is too short to choose by")
        members = self._follow(1, "test", [name for name in KINDS if name in self.said["val"]], np.inf)
        if np.isfinite(most_bytes) and set(self.chosen.weights) != {NETWORK}:
            size = len(local.models(self.chosen.weights, place=1, members=members).content())
            if size > most_bytes:
                reason = f"forecasters of single series would take {format_bytes(size)}, which is beyond the limit"
                self.chosen = Chosen({NETWORK: 1.0}, self.chosen.errors, reason)

    def _follow(self, place: int, part: Held, kinds: list[str], seconds: float) -> dict[str, Local]:
        """Let forecasters know all up to the part, and forecast its windows."""
        examined = self.measuring.val if part == "val" else self.measuring.test
        members = self.local.fit(place, kinds, seconds=seconds)
        said = self.local.forecasts(members, place, examined.owners, examined.origins)
        self.said[part] = {name: self.measuring.scaled(values, examined.owners) for name, values in said.items()}
        return members

    def answer(self, part: Held) -> Values:
        """The mean, scaled; the network's where no member has one."""
        said = self.said[part]
        mean = mean_of(said, self.chosen.weights)
        if NETWORK in said:
            mean = np.where(np.isfinite(mean), mean, said[NETWORK])
        return self.measuring.raised(mean, (self.measuring.val if part == "val" else self.measuring.test).owners)

    def details(self) -> dict[str, Any]:
        """The members with their weights, the errors on the validation part (MASE) and why it is these, as JSON."""
        return {
            "weights": {TITLES[name]: weight for name, weight in self.chosen.weights.items()},
            "validation": {TITLES[name]: error for name, error in self.chosen.errors.items()},
            "reason": self.chosen.reason,
        }

    def called(self, network: str) -> str:
        """What is shipped, by the name of the network: ``mean of 5 local forecasters``."""
        local = [name for name in self.chosen.weights if name != NETWORK]
        named = TITLES[local[0]] if len(local) == 1 else f"{len(local)} local forecasters"
        if len(self.chosen.weights) == len(local):
            return named if len(local) == 1 else f"mean of {named}"
        return f"mean of {network} and {named}" if local else network

    def remarks(self) -> list[str]:
        """What the user should know of it, in sentences."""
        members, layout = list(self.chosen.weights), self.data.layout
        names = _listed(["the network" if name == NETWORK else TITLES[name] for name in members])
        whose = f"the mean of {names}" if len(members) > 1 else f"those of {names} alone"
        found = [f"Forecasts are {whose}: {self.chosen.reason}."]
        if NETWORK not in members:
            unused = [repr(name) for name in (*layout.past, *layout.known)]
            columns = f", and {_listed(unused)} {'is' if len(unused) == 1 else 'are'} not used" if unused else ""
            found.append(f"The network has no share in them; model.onnx has learned the training part alone{columns}.")
        if self.local.left_out:
            found.append(f"There was no time for {_listed([TITLES[name] for name in self.local.left_out])}.")
        intervals, _ = self.measuring.intervals({"val": self.answer("val")})
        if not intervals.sure:
            needed, count = 1 / (1 - intervals.coverage) / WORTH, max(round(intervals.forecasts), 1)
            found.append(
                f"Intervals of {percent(intervals.coverage)} cannot be vouched for: they rest on "
                f"{count} forecast{'' if count == 1 else 's'} that {'does' if count == 1 else 'do'} not overlap, and "
                f"{needed:.0f} are needed; give more data."
            )
        return found

    def prepared(self, preparation: ForecastPreparation) -> ForecastPreparation:
        """With the members fitted to everything, their weights, and the intervals from all forecasts."""
        measuring = self.measuring
        intervals, spreads = measuring.intervals({"val": self.answer("val"), "test": self.answer("test")})
        names = [one.name for one in self.data.series]
        local = self.local.models(self.chosen.weights)
        return dataclasses.replace(
            preparation,
            intervals=intervals,
            spreads=dict(zip(names, spreads * measuring.deviation, strict=True)),
            lowest=measuring.floor,
            weights=self.chosen.weights,
            local=local if local.members else None,
        )


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))

"""Optuna proposes what to try next, knowing how the first candidates did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from formwright.search.spaces import DEPTHS, RATES, WIDTHS, PictureShape, Proposal, propose


class Proposer:
    """A tree-structured Parzen estimator over family, width, depth and learning rate.

    Source: Algorithms for Hyper-Parameter Optimization, NeurIPS 2011, as Optuna implements it.
    """

    def __init__(self, shape: PictureShape, families: Iterable[str], *, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._shape = shape
        self._space: dict[str, Any] = {
            "family": optuna.distributions.CategoricalDistribution(tuple(sorted(families))),
            "width": optuna.distributions.CategoricalDistribution(WIDTHS),
            "depth": optuna.distributions.CategoricalDistribution(DEPTHS),
            "rate": optuna.distributions.CategoricalDistribution(RATES),
        }
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=4)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)

    def tell(self, choices: Mapping[str, Any], score: float) -> None:
        """How a candidate with these choices scored; one that could not be built or trained scores nothing."""
        import optuna

        if set(choices) == set(self._space) and choices["family"] in self._space["family"].choices:
            self._study.add_trial(
                optuna.trial.create_trial(params=dict(choices), distributions=self._space, value=score)
            )

    def ask(self) -> Proposal:
        choices = self._study.ask(self._space).params
        return propose(
            choices["family"], self._shape, width=choices["width"], depth=choices["depth"], rate=choices["rate"]
        )

"""Optuna proposes what to try next, knowing how the first candidates did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from formwright.search.space import Proposal, Space


class Proposer:
    """A tree-structured Parzen estimator over family, width, depth and learning rate.

    Source: Algorithms for Hyper-Parameter Optimization, NeurIPS 2011, as Optuna implements it.
    """

    def __init__(self, space: Space, families: Iterable[str], *, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = space
        self._choices: dict[str, Any] = {
            "family": optuna.distributions.CategoricalDistribution(tuple(sorted(families))),
            "width": optuna.distributions.CategoricalDistribution(tuple(space.widths)),
            "depth": optuna.distributions.CategoricalDistribution(tuple(space.depths)),
            "rate": optuna.distributions.CategoricalDistribution(tuple(space.rates)),
        }
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=4)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)

    def tell(self, choices: Mapping[str, Any], score: float | None) -> None:
        """How a candidate with these choices scored; none, if it could not be used, counts as the worst one known."""
        import optuna

        if set(choices) == set(self._choices) and choices["family"] in self._choices["family"].choices:
            known = [trial.value for trial in self._study.trials if trial.value is not None]
            value = min(known, default=0.0) if score is None else score
            self._study.add_trial(
                optuna.trial.create_trial(params=dict(choices), distributions=self._choices, value=value)
            )

    def ask(self) -> Proposal:
        choices = self._study.ask(self._choices).params
        return self._space.propose(
            choices["family"], width=choices["width"], depth=choices["depth"], rate=choices["rate"]
        )

"""Optuna proposes what to try next, knowing how the first candidates did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from formwright.open_choices import Categorical, Open
from formwright.search.space import Proposal, Space


class Proposer:
    """A tree-structured Parzen estimator over the families and what each of them leaves open.

    What several families leave open in the same way is learned from all of them.

    Source: Algorithms for Hyper-Parameter Optimization, NeurIPS 2011, as Optuna implements it.
    """

    def __init__(self, space: Space, families: Iterable[str], *, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = space
        self._families = Categorical(tuple(sorted(families)))
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=4)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)

    def tell(self, choices: Mapping[str, Any], score: float | None) -> None:
        """How a candidate with these choices scored; none, if it could not be used, counts as the worst one known.

        What this space does not offer (a user's checkpoint, a value of an earlier version) says nothing about it.
        """
        import optuna

        if not self._families.offers(choices.get("family")):
            return
        known = {"family": ("family", self._families), **self._open(choices["family"])}
        if all(name in choices and choice.offers(choices[name]) for name, choice in known.values()):
            scores = [trial.value for trial in self._study.trials if trial.value is not None]
            self._study.add_trial(
                optuna.trial.create_trial(
                    params={key: choices[name] for key, (name, _) in known.items()},
                    distributions={key: choice.distribution() for key, (_, choice) in known.items()},
                    value=min(scores, default=0.0) if score is None else score,
                )
            )

    def ask(self) -> Proposal:
        trial = self._study.ask()
        family = str(self._families.suggest(trial, "family"))
        choices = {name: choice.suggest(trial, key) for key, (name, choice) in self._open(family).items()}
        return self._space.propose(family, **choices)

    def _open(self, family: str) -> dict[str, tuple[str, Open]]:
        """By Optuna's name, under which a choice is the same for all: its name in the space, and the choice."""
        own = self._space.families[family].choices or {}
        choices = self._space.choices(family)
        return {f"{family}.{name}" if name in own else name: (name, choice) for name, choice in choices.items()}

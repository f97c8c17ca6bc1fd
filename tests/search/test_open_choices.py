"""What candidates leave open is what is proposed, whatever its kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from formwright.candidates import Candidate
from formwright.errors import UserError
from formwright.models import model_specification
from formwright.nn.specification import ChainSpec
from formwright.open_choices import Categorical, Integer, LogUniform, Open
from formwright.search.proposals import Proposer
from formwright.search.space import TRAINING, Space
from formwright.shapes import Shape
from formwright.training import Recipe


def build(shape: Shape, *, hidden: int, dropout: float, mixer: str = "attention") -> ChainSpec:
    specification = model_specification("vit_tiny_patch16_224", classes=3)
    return specification.__class__(**{**vars(specification), "name": f"{mixer} {hidden} {dropout:.4f}"})


class Anything(Shape):
    sizes: ClassVar[Mapping[str, Open]] = {"hidden": Categorical((8, 16)), "dropout": LogUniform(0.01, 1.0)}
    batches: ClassVar[tuple[tuple[int, int], ...]] = ((0, 16),)
    samples = 99


#: A family with choices of its own, beside two that share theirs.
FAMILIES: Mapping[str, Candidate] = {
    "own": Candidate(
        build,
        order=1,
        choices={
            "hidden": Integer(16, 64, step=16),
            "dropout": LogUniform(0.001, 0.1),
            "mixer": Categorical(("attention", "pooling")),
        },
        first={"mixer": "pooling"},
        scale="hidden",
        narrow=33,
    ),
    "shared": Candidate(build, order=2),
    "another": Candidate(build, order=3, scale="none"),
}
OWN = Space(FAMILIES, Anything())


def test_a_ladder_goes_from_small_to_large_by_the_scale_of_the_family() -> None:
    middle = pytest.approx(0.01)
    assert OWN.ladder("own") == [
        {"hidden": 16, "dropout": middle, "mixer": "attention", "rate": 1.0},
        {"hidden": 32, "dropout": middle, "mixer": "attention", "rate": 1.0},
        {"hidden": 48, "dropout": middle, "mixer": "pooling", "rate": 1.0},
        {"hidden": 64, "dropout": middle, "mixer": "pooling", "rate": 1.0},
    ]
    assert OWN.ladder("another") == [{"hidden": 8, "dropout": pytest.approx(0.1), "rate": 1.0}]


def test_optuna_proposes_what_each_family_leaves_open() -> None:
    space, families = OWN, set()
    proposer = Proposer(space, space.families, seed=0)
    for number in range(40):
        proposal = proposer.ask()
        chosen = {name: value for name, value in proposal.choices.items() if name != "family"}
        assert chosen.keys() == space.choices(proposal.family).keys()
        for name, choice in space.choices(proposal.family).items():
            assert choice.offers(chosen[name]), name
        proposer.tell(proposal.choices, None if number % 5 == 0 else float(proposal.family == "own"))
        families.add(proposal.family)
    assert families == set(space.families)


def test_it_learns_from_the_choices_of_a_family() -> None:
    def asked(best: int) -> list[int]:
        proposer = Proposer(OWN, ["own", "shared"], seed=0)
        for hidden in (16, 32, 48, 64) * 5:
            for mixer, dropout in (("attention", 0.005), ("pooling", 0.05)):
                choices = {"family": "own", "hidden": hidden, "dropout": dropout, "mixer": mixer, "rate": 1.0}
                proposer.tell(choices, 1.0 - abs(hidden - best) / 64)
        proposer.tell({"family": "shared", "hidden": 8, "dropout": 0.1, "rate": 1.0}, 0.0)
        return [p.choices["hidden"] for p in (proposer.ask() for _ in range(40)) if p.family == "own"]

    small, large = asked(16), asked(64)
    assert min(len(small), len(large)) >= 20
    assert sum(small) / len(small) + 8 < sum(large) / len(large)


@pytest.mark.parametrize(
    "choices",
    [
        {"family": "own", "hidden": 40, "dropout": 0.01, "mixer": "pooling", "rate": 1.0},
        {"family": "own", "hidden": 16, "mixer": "pooling", "rate": 1.0},
        {"family": "gone", "hidden": 16, "rate": 1.0},
        {"weights": True, "frozen": False},
    ],
    ids=["a value of before", "a choice of now", "a family of before", "a checkpoint"],
)
def test_candidates_of_another_space_are_passed_over(choices: dict[str, Any]) -> None:
    proposer = Proposer(OWN, ["own"], seed=0)
    proposer.tell(choices, 1.0)
    assert not proposer._study.trials


def test_what_is_not_offered_is_refused_in_a_sentence() -> None:
    with pytest.raises(UserError, match=r"own does not offer hidden = 17; it leaves open: hidden of Integer\(low=16"):
        OWN.propose("own", hidden=17)
    with pytest.raises(UserError, match="own does not offer depth = 2"):
        OWN.propose("own", depth=2)
    with pytest.raises(UserError, match="at least one value"):
        Categorical(())
    with pytest.raises(UserError, match="got 1 to 4 in steps of 2"):
        Integer(1, 4, step=2)
    with pytest.raises(UserError, match="got 0 to 1"):
        LogUniform(0.0, 1.0)


def test_what_is_not_chosen_has_its_first_value() -> None:
    proposal = OWN.propose("own", hidden=32, rate=0.5)
    assert proposal.choices == {
        "family": "own",
        "hidden": 32,
        "dropout": pytest.approx(0.01),
        "mixer": "pooling",
        "rate": 0.5,
    }
    assert proposal.specification.name == "pooling 32 0.0100"
    assert proposal.recipe.learning_rate == 0.5 * Recipe().learning_rate
    assert list(TRAINING) == ["rate"]

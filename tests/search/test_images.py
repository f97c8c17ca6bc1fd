from __future__ import annotations

import pytest
import torch

from formwright.candidates import CANDIDATES
from formwright.models import Model, create_model, empty_copy
from formwright.search.images import ImageSpace, PictureShape
from formwright.search.proposals import Proposer
from formwright.search.space import TRAINING

FAMILIES = [name for name, entry in CANDIDATES["image-classification"].items() if entry.fit is None]
SIMPLE = [name for name, entry in CANDIDATES["image-classification"].items() if entry.fit is not None]
WIDTHS, DEPTHS = (PictureShape.sizes[name].values for name in ("width", "depth"))


SHAPES = {
    "8 x 8 grey": PictureShape((8, 8), 1, 10, 1000),
    "28 x 28 grey": PictureShape((28, 28), 1, 10, 54_000),
    "32 x 32 colour": PictureShape((32, 32), 3, 10, 45_000),
    "64 x 48 colour": PictureShape((64, 48), 3, 5, 400),
    "224 x 224 colour": PictureShape((224, 224), 3, 100, 9000),
}
EVERY = [(width, 1) for width in WIDTHS] + [(WIDTHS[1], depth) for depth in DEPTHS[1:]]
ENDS = [(WIDTHS[0], 1), (WIDTHS[1], 2), (WIDTHS[-1], 1)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
def test_every_choice_can_be_built_and_run(family, shape):
    counts = {}
    for width, depth in EVERY if max(shape.size) <= 28 else ENDS:
        proposal = ImageSpace(shape).propose(family, width=width, depth=depth)
        assert proposal.choices == {"family": family, "width": width, "depth": depth, "rate": 1.0}
        with torch.device("meta"):
            model = Model(proposal.specification).eval()
            scores = model(torch.empty(2, shape.channels, *shape.size))
        assert scores.shape == (2, shape.classes)
        counts[width, depth] = model.parameter_count()
    widths = [count for (_, depth), count in counts.items() if depth == 1]
    assert widths == sorted(widths), "a larger width has no fewer parameters"
    assert widths[-1] > 4 * widths[0]
    depths = [counts[key] for key in counts if key[0] == WIDTHS[1]]
    assert depths == sorted(set(depths)), "a deeper one has more parameters"


@pytest.mark.parametrize("family", SIMPLE)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
def test_every_simple_competitor_can_be_built_and_run(family, shape):
    space = ImageSpace(shape)
    counts = []
    for chosen in space.ladder(family):
        with torch.device("meta"):
            model = Model(space.propose(family, **chosen).specification).eval()
            assert model(torch.empty(2, shape.channels, *shape.size)).shape == (2, shape.classes)
        counts.append(model.parameter_count())
    assert counts == sorted(counts)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_candidate_learns_from_every_parameter(family):
    model = create_model(ImageSpace(SHAPES["8 x 8 grey"]).propose(family, width=8, depth=1).specification)
    model(torch.randn(4, 1, 8, 8)).square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without


@pytest.mark.parametrize("pictures", [9, 200, 2000, 10_000, 45_000])
def test_the_recipe_suits_the_number_of_pictures(pictures):
    shape = PictureShape((16, 16), 3, 4, pictures)
    plain, fast = (ImageSpace(shape).propose("convnext", width=16, depth=1, rate=rate).recipe for rate in (1.0, 2.0))
    assert plain.batch_size <= max(pictures, 16)
    assert 10 <= plain.warmup <= 100
    assert fast.learning_rate == pytest.approx(2 * plain.learning_rate)
    assert fast.vector_learning_rate == pytest.approx(2 * plain.vector_learning_rate)


def test_a_users_checkpoint_gives_a_fine_tuned_and_a_frozen_candidate():
    specification = empty_copy(
        ImageSpace(SHAPES["32 x 32 colour"]).propose("cct", width=24, depth=1).specification
    ).specification
    frozen, tuned = ImageSpace(PictureShape((48, 48), 3, 7, 300)).from_weights(specification, 1)
    assert frozen.choices == {"weights": 1, "frozen": True}
    assert tuned.choices == {"weights": 1, "frozen": False}
    rates = [group.rate for group in tuned.recipe.groups if ".blocks." in group.pattern]
    assert rates == sorted(rates)
    assert 0 < rates[0] < rates[-1] < 1
    model = create_model(tuned.specification)
    assert model(torch.randn(1, 3, 48, 48)).shape == (1, 7)


def test_proposals_are_seeded_and_come_near_what_scored_well():
    shape = SHAPES["8 x 8 grey"]

    def proposals(seed: int, count: int = 12) -> list[dict]:
        proposer = Proposer(ImageSpace(shape), ("cct", "convnext"), seed=seed)
        asked = []
        for number in range(24):
            choices = {
                "family": ("cct", "convnext")[number % 2],
                "width": WIDTHS[number % len(WIDTHS)],
                "depth": DEPTHS[number % 3],
                "rate": TRAINING["rate"].values[number % 3],
            }
            proposer.tell(choices, 0.9 if choices["family"] == "cct" else 0.1)
        for _ in range(count):
            asked.append(proposer.ask().choices)
        return asked

    assert proposals(0) == proposals(0)
    assert proposals(0) != proposals(1)
    assert sum(choices["family"] == "cct" for choices in proposals(0)) >= 9


def test_choices_of_another_space_are_not_learned_from():
    proposer = Proposer(ImageSpace(SHAPES["8 x 8 grey"]), ("cct",), seed=0)
    proposer.tell({"weights": True, "frozen": False}, 0.99)
    proposer.tell({"family": "convnext", "width": 8, "depth": 1, "rate": 1.0}, 0.99)
    assert proposer.ask().family == "cct"

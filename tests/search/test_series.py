"""Every proposal for series can be built and takes what it was proposed for."""

from __future__ import annotations

import pytest
import torch

from formwright.candidates import CANDIDATES
from formwright.models import create_model
from formwright.search.proposals import Proposer
from formwright.search.space import space_for
from formwright.shapes import LabelledShape, SeriesShape


@pytest.mark.parametrize("family", CANDIDATES["forecasting"])
def test_forecasters(family):
    for shape in (SeriesShape(24, 3, 2, 6, 600), SeriesShape(5, 1, 0, 9, 60)):
        space = space_for("forecasting", shape)
        for chosen in space.ladder(family)[:2]:
            proposal = space.propose(family, **chosen)
            model = create_model(proposal.specification)
            x = torch.randn(2, shape.length, shape.variates + shape.covariates)
            assert model(x).shape == (2, shape.horizon, shape.variates)
            assert proposal.choices == {"family": family, **chosen}


@pytest.mark.parametrize("family", CANDIDATES["series-classification"])
def test_classifiers(family):
    for shape in (LabelledShape(60, 1, 6, 300), LabelledShape(9, 4, 2, 30)):
        space = space_for("series-classification", shape)
        sizes = {} if space.families[family].fit else {"width": 32, "depth": 2}
        proposal = space.propose(family, rate=0.5, **sizes)
        model = create_model(proposal.specification)
        assert model(torch.randn(3, shape.length, shape.variates)).shape == (3, shape.classes)


def test_rate_and_batch_follow_choices_and_data():
    small, large = (space_for("forecasting", SeriesShape(24, 3, 0, 6, windows)) for windows in (60, 9000))
    first, second = (
        small.propose("itransformer", width=32, depth=1),
        large.propose("itransformer", width=32, depth=1, rate=2.0),
    )
    assert first.recipe.batch_size < second.recipe.batch_size
    assert second.recipe.learning_rate == 2 * first.recipe.learning_rate


def test_a_run_of_before_says_more_of_a_linear_forecaster_than_is_open_now():
    proposer = Proposer(space_for("forecasting", SeriesShape(24, 3, 0, 6, 600)), ("linear_forecaster",), seed=0)
    before = {"family": "linear_forecaster", "width": 64, "depth": 2, "rate": 0.5, "newcomer": True}
    proposer.tell(before, 0.7)
    assert [trial.params for trial in proposer._study.trials] == [{"family": "linear_forecaster", "rate": 0.5}]
    assert proposer.ask().choices.keys() == {"family", "rate"}

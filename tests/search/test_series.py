"""Every proposal for series can be built and takes what it was proposed for."""

from __future__ import annotations

import pytest
import torch

from formwright.models import create_model
from formwright.search.series import (
    CLASSIFIERS,
    FORECASTERS,
    ForecastSpace,
    SeriesClassSpace,
)
from formwright.shapes import LabelledShape, SeriesShape


@pytest.mark.parametrize("family", FORECASTERS)
def test_forecasters(family):
    for shape in (SeriesShape(24, 3, 2, 6, 600), SeriesShape(5, 1, 0, 9, 60)):
        space = ForecastSpace(shape)
        for width in space.widths[:2]:
            proposal = space.propose(family, width=width, depth=1)
            model = create_model(proposal.specification)
            x = torch.randn(2, shape.length, shape.variates + shape.covariates)
            assert model(x).shape == (2, shape.horizon, shape.variates)
            assert proposal.choices["family"] == family


@pytest.mark.parametrize("family", CLASSIFIERS)
def test_classifiers(family):
    for shape in (LabelledShape(60, 1, 6, 300), LabelledShape(9, 4, 2, 30)):
        proposal = SeriesClassSpace(shape).propose(family, width=32, depth=2, rate=0.5)
        model = create_model(proposal.specification)
        assert model(torch.randn(3, shape.length, shape.variates)).shape == (3, shape.classes)


def test_rate_and_batch_follow_choices_and_data():
    small, large = (ForecastSpace(SeriesShape(24, 3, 0, 6, windows)) for windows in (60, 9000))
    first, second = (
        small.propose("itransformer", width=32, depth=1),
        large.propose("itransformer", width=32, depth=1, rate=2.0),
    )
    assert first.recipe.batch_size < second.recipe.batch_size
    assert second.recipe.learning_rate == 2 * first.recipe.learning_rate

"""The loss of regression in context, with and without loops."""

from __future__ import annotations

import pytest
import torch

from formwright.batch import Batch
from formwright.data.synthetic.in_context import at_points, linear_prompts
from formwright.errors import UserError
from formwright.models import Model, create_model
from formwright.models.language.algoformer import with_loops
from formwright.objectives.in_context import InContextRegression

PROMPTS = linear_prompts(3, 4, 2, generator=torch.Generator().manual_seed(0))
BATCH = Batch(PROMPTS.vectors, PROMPTS.y)


def model(name: str = "algoformer", **changes: int) -> Model:
    torch.manual_seed(0)
    return create_model(name, dim=8, heads=2, channels=2, length=8, **{"loops": 3, **changes}).eval()


def error(of: Model) -> float:
    return float((at_points(of(PROMPTS.vectors)) - PROMPTS.y).square().mean())


def test_it_is_the_mean_over_the_last_loops() -> None:
    looped = model()
    outcome = InContextRegression(last=2)(looped, BATCH, 0.0)
    assert outcome.loss.item() == pytest.approx((error(looped) + error(with_loops(looped, 2))) / 2, rel=1e-5)
    assert outcome.sums["loss"].item() / outcome.counts["loss"] == pytest.approx(error(looped), rel=1e-5)


def test_models_without_a_loop_have_one_answer() -> None:
    plain = model("algoformer_standard", depth_before=2)
    assert InContextRegression(last=2)(plain, BATCH, 0.0).loss.item() == pytest.approx(error(plain))


def test_more_loops_than_the_model_has_are_refused() -> None:
    with pytest.raises(UserError, match="1 to 3 loops"):
        InContextRegression(last=4)(model(), BATCH, 0.0)
    with pytest.raises(UserError, match="at least 1 loop"):
        InContextRegression(last=0)

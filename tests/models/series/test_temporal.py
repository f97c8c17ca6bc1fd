"""Transformers whose tokens are times, and classifiers of patches."""

from __future__ import annotations

import pytest
import torch

from formwright.errors import UserError
from formwright.models import Model, create_model, from_pretrained
from formwright.models.series.temporal import patch_classifier, temporal_transformer
from formwright.nn.series import sinusoidal_positions
from formwright.nn.specification import part


def forecaster(**changes):
    torch.manual_seed(0)
    options = {"dim": 16, "hidden": 16, "heads": 2, "length": 12, "horizon": 5, "variates": 3} | changes
    return create_model(temporal_transformer(**options)).double().eval()


def classifier(**changes):
    torch.manual_seed(0)
    options = {"dim": 16, "classes": 4, "length": 30, "variates": 2, "patch_size": 6} | changes
    options.setdefault("mixer", part("attention", heads=2))
    return Model(patch_classifier(**options)).double().eval()


def test_forecasts_have_a_row_for_each_step():
    assert forecaster()(torch.randn(2, 12, 3).double()).shape == (2, 5, 3)
    assert forecaster(covariates=2)(torch.randn(2, 12, 5).double()).shape == (2, 5, 3)


def test_the_order_of_times_matters():
    x = torch.randn(2, 12, 3).double()
    assert not torch.allclose(forecaster()(x), forecaster()(x.roll(3, 1)))


def test_a_normalised_window_is_forecast_in_its_units():
    model, x = forecaster(normalise=True), 5 + torch.randn(2, 12, 3).double()
    torch.testing.assert_close(model(10 * x + 7), 10 * model(x) + 7, rtol=1e-4, atol=1e-4)


def test_positions_are_sines_and_cosines_of_falling_frequency():
    table = sinusoidal_positions(50, 8).double()
    time = torch.arange(50).double()
    torch.testing.assert_close(table[:, 0], time.sin(), rtol=0, atol=1e-5)
    torch.testing.assert_close(table[:, 7], (time / 1000).cos(), rtol=0, atol=1e-5)
    assert sinusoidal_positions(5, 3).shape == (5, 3)


@pytest.mark.parametrize("length", [29, 30, 31])
def test_every_length_is_cut_into_patches(length):
    model = classifier(length=length, positions=True)
    assert model(torch.randn(2, length, 2).double()).shape == (2, 4)
    assert model.backbone.grid == (-(-length // 3),)


def test_other_sizes_are_refused():
    with pytest.raises(UserError, match=r"\(batch, 12, 3\)"):
        forecaster()(torch.randn(2, 12, 4).double())
    with pytest.raises(UserError, match=r"\(batch, 30, 2\)"):
        classifier()(torch.randn(2, 30, 3).double())


def test_they_are_saved_and_loaded(tmp_path):
    for model, x in ((forecaster(), torch.randn(1, 12, 3)), (classifier(), torch.randn(1, 30, 2))):
        model.float().save_pretrained(tmp_path)
        torch.testing.assert_close(from_pretrained(tmp_path)(x), model(x))

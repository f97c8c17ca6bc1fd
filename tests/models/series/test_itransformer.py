"""iTransformer: what its authors' code gives, and what follows from a token being a variate."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from formwright.catalog.reference import (
    FLOAT32_TOLERANCE,
    FLOAT64_TOLERANCE,
    images,
    reference_specification,
    reference_state,
    reference_variants,
    sample,
)
from formwright.errors import UserError
from formwright.models import create_model, load_checkpoint, model_specification
from formwright.nn.specification import part

VARIANTS = reference_variants("itransformer")


@pytest.mark.parametrize("name", VARIANTS)
def test_the_authors_code_gives_the_same_with_the_same_weights(name):
    figures = VARIANTS[name]
    model = create_model(reference_specification(name, figures)).double().eval()
    assert model.parameter_count() == figures["parameters"]
    assert load_checkpoint(model, reference_state(figures["layout"])) == "thuml/iTransformer"
    for dtype, tolerance in ((torch.float64, FLOAT64_TOLERANCE), (torch.float32, FLOAT32_TOLERANCE)):
        model.to(dtype)
        for output in figures["outputs"]:  # the second has fewer variates: no weight depends on their number
            series = torch.from_numpy(images(output["input_shape"], output["input_seed"])).to(dtype)
            with torch.inference_mode():
                forecast = model(series)
            assert list(forecast.shape) == output["output_shape"]
            difference = np.abs(np.array(sample(forecast.double().numpy())) - output["values"]).max()
            assert difference <= tolerance * output["std"]


def tiny(**changes):
    torch.manual_seed(0)
    options = {"dim": 16, "hidden": 24, "heads": 2, "length": 12, "horizon": 5, "variates": 4} | changes
    return create_model("itransformer", **options).double().eval()


def series(variates=4, batch=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 5 + 3 * torch.randn(batch, 12, variates, generator=generator, dtype=torch.float64)


def test_variates_in_another_order_are_forecast_in_that_order():
    model, x, order = tiny(), series(), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(model(x[..., order]), model(x)[..., order])


def test_any_number_of_variates_will_do():
    model = tiny()
    for variates in (1, 3, 9):
        assert model(series(variates)).shape == (3, 5, variates)


def test_a_window_in_other_units_is_forecast_in_them():
    model, x = tiny(), series()
    unit, zero = torch.tensor([1.0, 10.0, 0.1, 3.0]).double(), torch.tensor([0.0, 100.0, -5.0, 1.0]).double()
    torch.testing.assert_close(model(x * unit + zero), model(x) * unit + zero, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(tiny(normalise=False)(x + 100), tiny(normalise=False)(x) + 100)


def test_a_constant_window_is_forecast_finite():
    x = series()
    x[..., 1] = 7
    assert torch.isfinite(tiny()(x)).all()


def test_covariates_are_seen_and_not_forecast():
    model, x = tiny(covariates=2), series(6)
    changed = x.clone()
    changed[..., -1] += 1
    assert model(x).shape == (3, 5, 4)
    assert not torch.allclose(model(changed), model(x))


def test_a_window_of_another_length_is_refused_by_name():
    with pytest.raises(UserError, match=r"\(batch, 12, variates\).*\(3, 10, 4\)"):
        tiny()(series()[:, :10])
    with pytest.raises(UserError, match="cannot be covariates"):
        create_model("itransformer", variates=0, covariates=2)


def test_another_mixer_is_data_alone():
    x = series()
    answers = []
    for mixer in (
        part("flow_attention", heads=2),
        part("window_attention", heads=2, window=2),
        part("linear_attention", heads=2),
        part("identity"),
    ):
        model = tiny(mixer=mixer)
        assert model(x).shape == (3, 5, 4)
        answers.append(model(x))
    alone = tiny(mixer=part("identity"))(x[..., :1])
    torch.testing.assert_close(answers[-1][..., :1], alone)  # without a mixer, variates know nothing of each other
    assert not torch.allclose(answers[0][..., :1], tiny(mixer=part("flow_attention", heads=2))(x[..., :1]))


def test_weights_start_by_the_authors_rule():
    layer = create_model("itransformer", dim=64, hidden=64).backbone.stages[0].blocks[0].branches[1].part.fc1
    assert layer.weight.abs().max() <= 1 / 8
    assert layer.weight.std().item() == pytest.approx(1 / 8 / 3**0.5, rel=0.05)
    assert layer.bias.abs().max() > 0


def test_names_and_specifications_agree():
    assert model_specification("itransformer_etth1_720").classes == 720
    assert model_specification("iflowformer").stages[0].blocks[0].branches[0].part.name == "flow_attention"

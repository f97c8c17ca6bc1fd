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
from formwright.models import create_model, load_checkpoint

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

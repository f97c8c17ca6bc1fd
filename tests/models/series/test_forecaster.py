"""The forecaster reads a window and the steps after it as one series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from formwright.batch import Batch, call
from formwright.deployment import OnnxModel, export_onnx
from formwright.errors import UserError
from formwright.models import Network, create_model
from formwright.models.series.temporal import temporal_transformer
from formwright.objectives import Forecasting

SMALL = {"dim": 16, "hidden": 16, "depth": 1, "heads": 2, "length": 12, "horizon": 5, "variates": 3, "covariates": 2}


def forecaster(**changes: Any) -> Network:
    torch.manual_seed(0)
    return create_model(temporal_transformer(**{**SMALL, **changes})).eval()


def window(rows: int = 2, variates: int = 5) -> Tensor:
    return torch.randn(rows, 12, variates, generator=torch.Generator().manual_seed(0))


def test_what_is_not_known_of_the_steps_ahead_is_zero() -> None:
    model, x = forecaster(), window()
    steps = F.pad(x, (0, 0, 0, 5))
    tokens, _ = model.backbone(steps)
    torch.testing.assert_close(model(x), model.head(tokens)[:, -5:])
    torch.testing.assert_close(model(x, torch.zeros(2, 5, 2)), model(x))


def test_covariates_of_the_steps_ahead_are_read_where_they_stand() -> None:
    model, x, future = forecaster(normalise=True), window(), torch.ones(2, 5, 2)
    assert not torch.allclose(model(x, future), model(x))
    model.backbone.embed.conv.weight.data[:, 3:] = 0  # a network that reads no covariates
    torch.testing.assert_close(model(x, future), model(x))


def test_they_are_an_input_by_name(tmp_path: Path) -> None:
    model = forecaster()
    example = model.example(2, optional=True)
    assert {name: tuple(x.shape) for name, x in example.items()} == {"input": (2, 12, 5), "future": (2, 5, 2)}
    assert isinstance(model.example(2), Tensor)
    export_onnx(model, tmp_path / "model.onnx", example)
    run = OnnxModel(tmp_path / "model.onnx", threads=1)
    given = {"input": window(3), "future": torch.ones(3, 5, 2)}
    np.testing.assert_allclose(run.on_tensors(given), call(model, given).detach().numpy(), rtol=1e-4, atol=1e-5)
    outcome = Forecasting()(model, Batch(given, torch.zeros(3, 5, 3)), 0.0)
    torch.testing.assert_close(outcome.loss, call(model, given).square().mean())


def test_what_does_not_fit_is_refused() -> None:
    model, x = forecaster(), window()
    with pytest.raises(UserError, match=r"real numbers of shape \(batch, 5, 2\)"):
        model(x, torch.zeros(2, 4, 2))
    with pytest.raises(UserError, match="There are 2 windows and 1 of `future`"):
        model(x, torch.zeros(1, 5, 2))
    with pytest.raises(UserError, match=r"takes input, future \(optional\); got input, ahead"):
        call(model, {"input": x, "ahead": torch.zeros(2, 5, 2)})
    with pytest.raises(UserError, match="built without covariates, and has no use for `future`"):
        forecaster(covariates=0)(window(variates=3), torch.zeros(2, 5, 2))
    with pytest.raises(UserError, match="3 covariates among 3 variates"):
        forecaster(variates=0, covariates=3)
    with pytest.raises(UserError, match="a horizon of 0"):
        forecaster(horizon=0)

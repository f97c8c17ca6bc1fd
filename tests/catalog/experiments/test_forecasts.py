"""The published protocol of ETT, on a stand-in of the same size."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from formwright.catalog.cards import claims_of
from formwright.catalog.claims.itransformer import MISSING
from formwright.catalog.experiments import forecasts
from formwright.catalog.experiments.forecasts import (
    PublishedTraining,
    ett,
    few_windows,
    forecast_errors,
    naive_errors,
    restrict,
    train_as_published,
)
from formwright.data.series_batches import Windows
from formwright.errors import UserError
from formwright.models.series.itransformer import itransformer
from formwright.reporting import SILENT

COLUMNS = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Two files of 601 days with a daily rhythm."""
    (tmp_path / "ett").mkdir()
    rows = 601 * 24
    time = np.arange(rows)
    random = np.random.default_rng(0)
    values = {
        name: (index + 1) * np.sin(2 * np.pi * time / 24 + index) + random.normal(0, 0.1, rows)
        for index, name in enumerate(COLUMNS)
    }
    frame = pd.DataFrame({"date": pd.date_range("2016-07-01", periods=rows, freq="h"), **values})
    for name in ("ETTh1", "ETTh2"):
        frame.to_csv(tmp_path / "ett" / f"{name}.csv", index=False)
    monkeypatch.setenv("FORMWRIGHT_DATA", str(tmp_path))
    ett.cache_clear()
    yield frame
    ett.cache_clear()


def test_parts_are_the_published_ones(stand_in):
    data = ett("ETTh1", horizon=96)
    assert [len(Windows(data, part, shift=0)) for part in ("train", "val", "test")] == [8449, 2785, 2785]
    (scaling,) = data.scalings
    np.testing.assert_allclose(scaling.mean, stand_in.iloc[:8640, 1:].mean(), atol=1e-9)
    np.testing.assert_allclose(scaling.deviation, stand_in.iloc[:8640, 1:].std(ddof=0), atol=1e-9)
    assert data.covariates == 4
    assert ett("ETTh1", horizon=96, calendar=False).covariates == 0


def test_a_short_training_beats_the_day_before(stand_in):
    data = ett("ETTh1", horizon=24, length=24, calendar=False)
    model = itransformer(dim=32, hidden=32, heads=2, depth=1, dropout=0.0, length=24, horizon=24)
    trained = train_as_published(model, data, training=PublishedTraining(learning_rate=3e-3), steps=60)
    windows = few_windows(data, "test", 40)
    assert len(windows) == -(-len(Windows(data, "test")) // 40)
    assert forecast_errors(trained, windows).mse < naive_errors(data, windows).mse
    assert forecast_errors(trained, windows) == forecast_errors(trained, windows)


def test_training_stops_early_and_keeps_the_best_epoch(stand_in, monkeypatch):
    data = ett("ETTh2", horizon=24, length=24, calendar=False)
    model = itransformer(dim=8, hidden=8, heads=2, depth=1, length=24, horizon=24)
    validated = iter([0.5, 0.4, 0.45, 0.6, 0.1])
    states = []

    def measured(model, windows):
        states.append({name: value.clone() for name, value in model.state_dict().items()})
        return forecasts.Errors(next(validated), 0.0)

    monkeypatch.setattr(forecasts, "forecast_errors", measured)
    training = PublishedTraining(batch_size=2048, patience=2)
    trained = train_as_published(model, data, training=training)
    assert len(states) == 4
    for name, value in trained.state_dict().items():
        assert torch.equal(value, states[1][name])


def test_variates_can_be_left_out(stand_in):
    few = restrict(ett("ETTh1", horizon=96, calendar=False), ("MUFL", "OT"))
    batch = Windows(few, "test", shift=0).take(np.array([0]))
    whole = Windows(ett("ETTh1", horizon=96, calendar=False), "test", shift=0).take(np.array([0]))
    torch.testing.assert_close(batch.inputs, whole.inputs[..., [2, 6]])


def test_without_the_files_the_claims_say_so(monkeypatch, tmp_path):
    monkeypatch.setenv("FORMWRIGHT_DATA", str(tmp_path))
    ett.cache_clear()
    with pytest.raises(UserError, match="ETDataset"):
        ett("ETTh1", horizon=96)
    slow = [claim for claim in claims_of("itransformer") if claim.slow and claim.kind == "direction"]
    assert len(slow) == 12
    for claim in slow:
        result = claim.run(SILENT)
        assert (result.measured, result.holds) == (MISSING, False)

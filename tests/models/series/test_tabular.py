"""Forecasters that a solver finds: what they are given, and that they say what scikit-learn says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge as ClosedForm

from formwright.data.calendar import clock_frequency
from formwright.data.series import ColumnRoles, Series, arrange
from formwright.data.series_batches import Windows
from formwright.deployment.export import export_onnx
from formwright.models import create_model, from_pretrained
from formwright.models.forecast_ridge import Moments
from formwright.models.solving_forecasts import tree_of
from formwright.nn.boosted_trees import BoostedTrees
from formwright.nn.forecast_heads import CovariateLinearHead
from formwright.nn.lag_table import LagTable, same_phase
from formwright.search.space import space_for
from formwright.shapes import SeriesShape

SEASON, HORIZON, LENGTH, ROWS = 24, 12, 48, 900
HOUR = 3_600_000_000_000


@pytest.fixture(scope="module")
def windows():
    """Days whose hours differ, and what is known ahead, of which each hour takes three times as much."""
    random = np.random.default_rng(0)
    times = np.datetime64("2024-01-01", "ns") + np.arange(ROWS) * np.timedelta64(1, "h")
    price = random.normal(size=ROWS)
    load = 5 * np.sin(2 * np.pi * np.arange(ROWS) / SEASON) + 3 * price + random.normal(0, 0.1, ROWS)
    data = arrange(
        (Series("", times, np.stack([load, random.normal(size=ROWS), price], axis=1)),),
        ColumnRoles(("load",), ("noise",), ("price",)),
        clock_frequency(HOUR),
        horizon=HORIZON,
        length=LENGTH,
    )
    return data, Windows(data, "train"), Windows(data, "val")


def everything(windows):
    batch = windows.take(np.arange(len(windows)))
    return batch.inputs, batch.targets.numpy()


def shape_of(data):
    calendar = len(data.frequency.features)
    return SeriesShape(
        LENGTH, 1, data.covariates, HORIZON, 500, ahead=1 + calendar, cycles=calendar // 2, seasons=(SEASON,)
    )


def solved(windows, family):
    data, train, _ = windows
    space = space_for("forecasting", shape_of(data))
    model = create_model(space.propose(family).specification).eval()

    def take(most):
        inputs, targets = everything(train)
        return inputs[-most:], targets[-most:]

    space.families[family].fit(model, take, 0)
    return model.eval()


def error(model, windows):
    inputs, targets = everything(windows)
    with torch.inference_mode():
        return float(np.nanmean(np.square(model(inputs).numpy() - targets)))


def test_the_ridge_uses_what_is_known_ahead(windows, tmp_path):
    model = solved(windows, "ridge")
    unknown = windows[2].take(np.arange(len(windows[2])))
    assert error(model, windows[2]) < 0.01 < 0.3 < np.nanvar(unknown.targets.numpy())
    assert export_onnx(model, tmp_path / "ridge.onnx", windows[2].take(np.arange(2)).inputs) < 1e-5
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(from_pretrained(tmp_path)(unknown.inputs), model(unknown.inputs))


def test_moments_lead_to_the_ridge_of_a_reference():
    random = np.random.default_rng(0)
    columns, answers = random.normal(size=(200, 6)) * [1, 2, 3, 4, 5, 6] + 1, random.normal(size=200)
    with_one = np.concatenate([columns, np.ones((200, 1))], axis=1)
    moments = Moments(with_one.T @ with_one, with_one.T @ answers, float(answers @ answers))
    (found,) = moments.solved([0.3])
    standard = (columns - columns.mean(0)) / columns.std(0)
    expected = ClosedForm(alpha=0.3 * 200).fit(standard, answers)
    np.testing.assert_allclose(found[:-1] * columns.std(0), expected.coef_)
    np.testing.assert_allclose(with_one @ found, expected.predict(standard))
    np.testing.assert_allclose(moments.errors(found), np.square(answers - with_one @ found).sum())


def test_missing_answers_are_left_out_of_a_ridge(windows):
    data, train, test = windows
    space = space_for("forecasting", shape_of(data))
    model = create_model(space.propose("ridge").specification)
    inputs, targets = everything(train)
    targets = targets.copy()
    targets[::3, 1] = np.nan
    space.families["ridge"].fit(model, lambda most: (inputs, targets), 0)
    assert error(model.eval(), test) < 0.02


def test_trees_say_what_those_of_a_reference_say(windows, tmp_path):
    model = solved(windows, "trees")
    assert error(model, windows[2]) < 0.2
    inputs, _ = everything(windows[2])
    embed, head = model.backbone.embed, model.head
    table, context = embed(inputs)
    columns = table.unflatten(-1, (HORIZON, -1)).flatten(0, 2).numpy()
    reference = HistGradientBoostingRegressor(max_iter=30, max_depth=6, early_stopping=False, random_state=0)
    reference.fit(columns, np.tanh(columns[:, 3] * columns[:, 0]))
    base = float(reference._baseline_prediction[0, 0])
    head.set_trees([tree_of(one.nodes) for (one,) in reference._predictors], base, 0.0)
    with torch.inference_mode():
        found = head(table).mT.flatten().numpy()
    np.testing.assert_allclose(found, reference.predict(columns), atol=1e-5)
    level, deviation = context.statistics.unbind(-1)
    torch.testing.assert_close(model(inputs), head(table) * deviation[:, None] + level[:, None])
    assert export_onnx(model, tmp_path / "trees.onnx", inputs[:2]) < 1e-5
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(from_pretrained(tmp_path)(inputs), model(inputs))


def test_thresholds_between_two_numbers_of_float32_part_them():
    low = np.float32(1.0)
    high = np.nextafter(low, np.float32(2.0))
    columns = np.repeat([low, high], 40)[:, None]
    reference = HistGradientBoostingRegressor(max_iter=1, learning_rate=1.0, early_stopping=False)
    reference.fit(columns, np.repeat([0.0, 1.0], 40))
    head = BoostedTrees(1, 1, trees=1, leaves=2, depth=1)
    head.set_trees([tree_of(reference._predictors[0][0].nodes)], float(reference._baseline_prediction[0, 0]), 0.0)
    found = head(torch.from_numpy(columns)[:, None]).flatten()
    np.testing.assert_allclose(found.detach().numpy(), reference.predict(columns), atol=1e-6)
    assert found[0] != found[-1]


def test_the_table_has_the_values_of_seasons_before_each_step():
    series = torch.arange(LENGTH, dtype=torch.float32)[None, :, None]
    count = LagTable.columns(1, LENGTH, 30, 0, 0, 0, (SEASON,))
    table, context = LagTable(1, 30 * count, grid=(LENGTH,), horizon=30, seasons=(SEASON,))(series)
    level, deviation = context.statistics[0, 0]
    first = table.unflatten(-1, (30, count))[0, 0, :, :2] * deviation + level
    assert same_phase(LENGTH, SEASON, 30)[:2] == [24, 25]
    torch.testing.assert_close(first[:, 0], torch.tensor([24.0 + step % 24 for step in range(30)]), atol=1e-3, rtol=0)
    torch.testing.assert_close(first[:, 1], torch.tensor([0.0 + step % 24 for step in range(30)]), atol=1e-3, rtol=0)


def test_what_is_known_of_a_step_is_that_of_the_step(windows):
    data, train, _ = windows
    shape = shape_of(data)
    head = CovariateLinearHead(LENGTH, HORIZON, covariates=shape.covariates, ahead=shape.ahead, cycles=shape.cycles)
    known = head.known(train.take(np.array([5])).inputs.mT)[0]
    values, scaling = data.series[0].values, data.scalings[0]
    prices = (values[5 + LENGTH : 5 + LENGTH + HORIZON, 2] - scaling.mean[2]) / scaling.deviation[2]
    np.testing.assert_allclose(known[:, 1], prices, atol=1e-5)
    hours = 2 * np.pi * np.arange(5 + LENGTH, 5 + LENGTH + HORIZON) / 24
    pairs = shape.cycles
    np.testing.assert_allclose(known[:, 2], np.sin(hours), atol=1e-5)
    np.testing.assert_allclose(known[:, 1 + shape.ahead], np.sin(2 * hours), atol=1e-5)
    np.testing.assert_allclose(known[:, 1 + shape.ahead + 3 * pairs], np.cos(3 * hours), atol=1e-5)


@pytest.mark.parametrize("family", ["itransformer", "temporal_transformer", "linear_forecaster"])
def test_a_candidate_may_read_the_last_steps_alone(windows, family, tmp_path):
    data, _, test = windows
    space = space_for("forecasting", dataclasses.replace(shape_of(data), look_backs=(LENGTH, SEASON)))
    assert space.choices(family)["look_back"].values == (LENGTH, SEASON)
    chosen = {"width": 16, "depth": 1} if family != "linear_forecaster" else {}
    proposal = space.propose(family, look_back=SEASON, **chosen)
    assert proposal.name.endswith("look back 24")
    model = create_model(proposal.specification).eval()
    inputs = test.take(np.arange(2)).inputs
    changed = inputs.clone()
    changed[:, : LENGTH - SEASON] = 7.0
    torch.testing.assert_close(model(changed), model(inputs))
    changed[:, LENGTH - SEASON] = 7.0
    assert not torch.allclose(model(changed), model(inputs))
    assert export_onnx(model, tmp_path / "model.onnx", inputs) < 1e-4
    assert "look_back" not in space.choices("ridge")

"""Batches from memory, series taken apart, and the balanced objective."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from formwright.batch import Batch
from formwright.data.array_batches import ArrayBatches
from formwright.data.decomposition import stl_components
from formwright.errors import UserError
from formwright.objectives import BalancedClassification, Classification


def test_an_epoch_takes_every_row_once_and_continues_where_it_stopped() -> None:
    inputs, targets = np.arange(12.0).reshape(12, 1), np.arange(12)
    batches = ArrayBatches(inputs, targets, batch_size=4, seed=1)
    epoch = [next(batches) for _ in range(3)]
    assert sorted(torch.cat([batch.targets for batch in epoch]).tolist()) == list(range(12))
    for batch in epoch:
        assert batch.inputs[:, 0].tolist() == batch.targets.tolist()
    state = batches.state_dict()
    following = next(batches)
    again = ArrayBatches(inputs, targets, batch_size=4, seed=1)
    again.load_state_dict(state)
    assert torch.equal(next(again).targets, following.targets)
    with pytest.raises(UserError, match="seed 1 but these have 2"):
        ArrayBatches(inputs, targets, batch_size=4, seed=2).load_state_dict(state)


def test_inputs_without_targets_are_refused() -> None:
    with pytest.raises(UserError, match="3 inputs and 2 targets"):
        ArrayBatches(np.zeros((3, 1)), np.zeros(2), batch_size=1)
    with pytest.raises(UserError, match="batch size of 0"):
        ArrayBatches(np.zeros((3, 1)), np.zeros(3), batch_size=0)


def test_components_add_up_and_the_season_repeats() -> None:
    time = np.arange(240)
    series = np.stack([0.05 * time + np.sin(2 * np.pi * time / 12), np.cos(2 * np.pi * time / 12)], axis=1)
    trend, season, rest = stl_components(series, 12)
    np.testing.assert_allclose(trend + season + rest, series, atol=1e-10)
    assert np.abs(season[24:120, 0] - np.sin(2 * np.pi * time / 12)[24:120]).max() < 0.1
    assert np.ptp(trend[:, 1]) < 0.1 < np.ptp(trend[:, 0])
    series[7, 1] = np.nan
    with pytest.raises(UserError, match="Step 7 of variate 1"):
        stl_components(series, 12)
    with pytest.raises(UserError, match="at least two periods"):
        stl_components(series[:20], 12)


def test_every_class_of_a_batch_counts_alike() -> None:
    scores = torch.randn(6, 3, requires_grad=True)
    labels = torch.tensor([0, 0, 0, 0, 2, 2])
    model = torch.nn.Identity()
    loss = BalancedClassification()(model, Batch(scores, labels), 0.0).loss
    each = -scores.log_softmax(1)[torch.arange(6), labels]
    torch.testing.assert_close(loss, (each[:4].mean() + each[4:].mean()) / 2)
    even = torch.tensor([0, 1, 2, 0, 1, 2])
    plain = Classification()(model, Batch(scores, even), 0.0).loss
    torch.testing.assert_close(BalancedClassification()(model, Batch(scores, even), 0.0).loss, plain)

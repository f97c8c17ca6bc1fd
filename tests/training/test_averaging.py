from __future__ import annotations

import torch
from torch import nn

from formwright.training.averaging import WeightAverage


def test_the_average_follows_its_formula():
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.0)
    average = WeightAverage(model, decay=0.5)
    expected = 0.0
    for update in range(1, 12):
        with torch.no_grad():
            model.weight.fill_(float(update))
        average.update(model)
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * update
        torch.testing.assert_close(average.state["weight"].item(), expected)


def test_counters_are_copied_and_not_averaged():
    model = nn.BatchNorm1d(2)
    average = WeightAverage(model, decay=0.9)
    model.train()(torch.randn(4, 2))
    model.train()(torch.randn(4, 2))
    average.update(model)
    assert average.state["num_batches_tracked"] == 2
    assert not torch.equal(average.state["running_mean"], model.running_mean)


def test_the_average_is_no_view_of_the_model():
    model = nn.Linear(2, 2)
    average = WeightAverage(model, decay=0.9)
    kept = average.state["weight"].clone()
    with torch.no_grad():
        model.weight.add_(1)
    assert torch.equal(average.state["weight"], kept)


def test_a_saved_average_is_restored():
    model = nn.Linear(2, 2)
    one, other = WeightAverage(model, decay=0.9), WeightAverage(nn.Linear(2, 2), decay=0.9)
    one.update(model)
    other.load(one.state, one.updates)
    assert other.updates == 1
    assert all(torch.equal(one.state[name], other.state[name]) for name in one.state)
    assert one.state["weight"].data_ptr() != other.state["weight"].data_ptr()

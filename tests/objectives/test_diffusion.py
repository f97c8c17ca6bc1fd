"""The objectives of diffusion and flow give the losses of their formulas and of DiT's code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from formwright.batch import Batch
from formwright.catalog.reference import images, reference_figures
from formwright.errors import UserError
from formwright.nn.functional.diffusion import NoiseSchedule
from formwright.nn.inputs import ClassInput, ImageInput, TimeInput
from formwright.objectives.diffusion import Diffusion, FlowMatching


class Asked(nn.Module):
    """Answers by a function of what it is given, and keeps it."""

    def __init__(self, answer: Any, *, end: float = 1000.0, null: bool = True) -> None:
        super().__init__()
        self.answer = answer
        self.inputs = {"input": ImageInput(2, (4, 4)), "time": TimeInput(end), "label": ClassInput(3, null)}

    def forward(self, input: Tensor, time: Tensor, label: Tensor) -> Tensor:
        self.input, self.time, self.label = input, time, label
        return self.answer(input, time)


def two_channels(x: Tensor, time: Tensor) -> Tensor:
    at = time.double().view(-1, 1, 1, 1)
    return torch.cat([torch.tanh(0.7 * x) * (1 + 0.3 * torch.sin(at / 70)), torch.cos(x + at / 50)], dim=1)


@pytest.mark.parametrize("figures", reference_figures("dit")["functions"]["losses"], ids=lambda f: f["schedule"])
def test_losses_are_those_of_the_authors(figures: dict[str, Any]) -> None:
    x = torch.from_numpy(np.tanh(images((6, 2, 4, 4), 3)))
    x[0, 0, 0] = torch.tensor([-1.0, 1.0, -1.0, 1.0])
    step, noise = torch.tensor(figures["steps"]), torch.from_numpy(images((6, 2, 4, 4), 4))
    objective = Diffusion(NoiseSchedule(figures["schedule"]), label_dropout=0)
    labels = torch.zeros(6, dtype=torch.int64)
    outcome = objective.at(Asked(two_channels), x, labels, step, noise)
    assert float(outcome.sums["noise"]) / 6 == pytest.approx(figures["noise"], rel=1e-9)
    assert float(outcome.sums["bound"]) / 6 == pytest.approx(figures["bound"], rel=1e-9)
    assert float(outcome.loss) == pytest.approx(figures["noise"] + figures["bound"], rel=1e-9)
    for index, expected in enumerate(figures["each"]):
        one = slice(index, index + 1)
        alone = objective.at(Asked(two_channels), x[one], labels[one], step[one], noise[one])
        assert float(alone.sums["bound"]) == pytest.approx(expected, rel=1e-8)


def test_the_bound_does_not_train_the_noise() -> None:
    weights = torch.zeros(2, requires_grad=True)

    def answer(x: Tensor, time: Tensor) -> Tensor:
        return torch.cat([weights[0] * x, weights[1] * x], dim=1)

    x = torch.randn(4, 2, 4, 4)
    labels = torch.zeros(4, dtype=torch.int64)
    objective, step, noise = Diffusion(label_dropout=0), torch.tensor([0, 3, 500, 999]), torch.randn(4, 2, 4, 4)
    model = Asked(answer)
    objective.at(model, x, labels, step, noise).loss.backward()
    assert weights.grad is not None
    assert weights.grad[1] != 0
    (by_noise,) = torch.autograd.grad((weights[0] * model.input - noise).square().mean(), weights)
    torch.testing.assert_close(weights.grad[0], by_noise[0])


def test_a_sample_at_a_step_has_the_variance_of_the_schedule() -> None:
    model = Asked(lambda x, time: x)
    x = torch.zeros(20_000, 2, 4, 4)
    step = torch.full((len(x),), 400)
    objective = Diffusion(NoiseSchedule("cosine"), label_dropout=0)
    objective.at(model, x, torch.zeros(len(x), dtype=torch.int64), step, torch.randn_like(x))
    expected = 1 - float(NoiseSchedule("cosine").signal()[400])
    assert float(model.input.var()) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(("name", "first", "last"), [("linear", 1e-4, 0.02), ("cosine", 4.13e-5, 0.999)])
def test_schedules_are_the_published_ones(name: str, first: float, last: float) -> None:
    signal = NoiseSchedule(name).signal()
    assert float(1 - signal[0]) == pytest.approx(first, rel=1e-3)
    assert float(1 - signal[-1] / signal[-2]) == pytest.approx(last, rel=1e-3)
    assert (signal[1:] < signal[:-1]).all()
    for steps in (2, 5, 20):
        few = NoiseSchedule(name, steps).signal()
        assert (few > 0).all()
        assert few[-1] < 0.01


def test_a_flow_is_the_difference_of_noise_and_sample() -> None:
    model = Asked(lambda x, time: x, end=1.0)
    x, noise = torch.randn(5, 2, 4, 4), torch.randn(5, 2, 4, 4)
    time = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
    labels = torch.zeros(5, dtype=torch.int64)
    outcome = FlowMatching(label_dropout=0).at(model, x, labels, time, noise)
    torch.testing.assert_close(model.input[0], x[0])
    torch.testing.assert_close(model.input[4], noise[4])
    torch.testing.assert_close(outcome.loss, (model.input - (noise - x)).square().mean())
    assert outcome.counts == {"loss": 5}


@pytest.mark.parametrize("objective", [Diffusion(label_dropout=0.2), FlowMatching(label_dropout=0.2)])
def test_times_are_spread_and_labels_dropped(objective: Diffusion | FlowMatching) -> None:
    torch.manual_seed(0)
    model = Asked(lambda x, time: x, end=objective.end)
    labels = torch.arange(3).repeat(2_000)
    objective(model, Batch(torch.zeros(6_000, 2, 4, 4), labels), 0.0)
    dropped = model.label == 3
    assert torch.equal(model.label[~dropped], labels[~dropped])
    assert float(dropped.float().mean()) == pytest.approx(0.2, abs=0.02)
    share = model.time / objective.end
    assert float(share.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(share.min()) < 0.01
    assert 0.99 < float(share.max()) <= 1


def test_what_cannot_be_trained_is_said() -> None:
    batch = Batch(torch.zeros(2, 2, 4, 4), torch.tensor([0, 1]))
    with pytest.raises(UserError, match="no label for no class"):
        Diffusion()(Asked(lambda x, time: x, null=False), batch, 0.0)
    with pytest.raises(UserError, match="ends at 100, and it counts to 1000"):
        Diffusion(NoiseSchedule(steps=100))(Asked(lambda x, time: x), batch, 0.0)
    with pytest.raises(UserError, match="ends at 1, and it is told no time"):
        FlowMatching()(nn.Identity(), batch, 0.0)
    with pytest.raises(UserError, match="without learned variances"):
        FlowMatching()(Asked(two_channels, end=1.0), batch, 0.0)
    with pytest.raises(UserError, match=r"between 0 and 1, got 1\.2"):
        FlowMatching(label_dropout=1.2)

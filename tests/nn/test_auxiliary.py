from __future__ import annotations

import pytest
import torch
from torch import nn

from formwright.deployment.export import export_onnx
from formwright.deployment.runtime import OnnxModel
from formwright.errors import UserError
from formwright.nn.auxiliary import collect, collects, report_loss, report_statistic


class Reporting(nn.Module):
    """A layer that reports the mean square of its output, and how often it is positive."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.computed = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x)
        if collects(self):
            self.computed += 1
            report_loss(self, "size", y.square().mean())
            report_statistic(self, "positive", (y > 0).float().mean())
        return y


class Looped(nn.Module):
    """One layer twice, then another one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Reporting(), Reporting()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(self.first(x)))


def model_and_input() -> tuple[Looped, torch.Tensor]:
    torch.manual_seed(0)
    return Looped(), torch.randn(5, 4)


def expected(model: Looped, x: torch.Tensor) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    one = model.first.layer(x)
    two = model.first.layer(one)
    three = model.second.layer(two)
    losses = {"first": one.square().mean() + two.square().mean(), "second": three.square().mean()}
    positive = [(y > 0).float().mean() for y in (one, two, three)]
    return losses, {"first": (positive[0] + positive[1]) / 2, "second": positive[2]}


def test_losses_add_up_over_calls_and_statistics_are_their_mean():
    model, x = model_and_input()
    losses, statistics = expected(model, x)
    with collect(model) as auxiliary:
        model(x)
    assert auxiliary.losses.keys() == {"size"}
    assert auxiliary.statistics.keys() == {"positive"}
    torch.testing.assert_close(auxiliary.losses["size"], losses)
    torch.testing.assert_close(auxiliary.statistics["positive"], statistics)
    torch.testing.assert_close(auxiliary.loss("size"), sum(losses.values()))
    torch.testing.assert_close(auxiliary.statistic("positive"), sum(statistics.values()) / 2)
    assert not auxiliary.statistic("positive").requires_grad
    auxiliary.loss("size").backward()
    (reference,) = torch.autograd.grad(sum(losses.values()), model.first.layer.weight)
    torch.testing.assert_close(model.first.layer.weight.grad, reference)


def test_nobody_collects_and_nothing_is_computed():
    model, x = model_and_input()
    attributes = {name: set(vars(module)) for name, module in model.named_modules()}
    model(x)
    with pytest.raises(KeyError), collect(model):
        raise KeyError  # a failing forward leaves nothing behind either
    model(x)
    assert model.first.computed == model.second.computed == 0
    assert {name: set(vars(module)) for name, module in model.named_modules()} == attributes
    report_loss(model, "alone", torch.zeros(()))
    report_statistic(model, "alone", torch.zeros(()))


def test_collectors_inside_one_another_all_get_everything():
    model, x = model_and_input()
    with collect(model) as outer:
        model(x)
        with collect(model.second) as inner:
            model(x)
        assert collects(model.second)
        model(x)
    assert inner.losses["size"].keys() == {""}  # paths are those of the model that was given
    torch.testing.assert_close(3 * inner.loss("size"), outer.losses["size"]["second"])
    torch.testing.assert_close(outer.losses["size"]["first"], 3 * expected(model, x)[0]["first"])
    assert not collects(model.second)


def test_models_that_are_not_asked_report_nothing():
    model, x = model_and_input()
    other, _ = model_and_input()
    with collect(other) as auxiliary:
        model(x)
    assert not auxiliary.losses
    assert model.first.computed == 0


def test_mistakes_are_named():
    model, x = model_and_input()
    with collect(model) as auxiliary:
        model(x)
        with pytest.raises(UserError, match=r"Linear reports the loss 'rows' of shape \(2,\); a scalar is expected"):
            report_loss(model.first.layer, "rows", torch.zeros(2))
    with pytest.raises(UserError, match="a loss 'balance'; the losses reported are: size"):
        auxiliary.loss("balance")


def test_compiled_models_report_the_same_with_gradients_and_nothing_when_nobody_collects():
    model, x = model_and_input()
    torch.compiler.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x))
    losses, statistics = expected(model, x)
    (reference,) = torch.autograd.grad(sum(losses.values()), model.first.layer.weight)
    for _ in range(2):
        model.zero_grad()
        with collect(model) as auxiliary:
            compiled(x)
        torch.testing.assert_close(auxiliary.losses["size"], losses)
        torch.testing.assert_close(auxiliary.statistics["positive"], statistics)
        auxiliary.loss("size").backward()
        torch.testing.assert_close(model.first.layer.weight.grad, reference)
    torch.testing.assert_close(compiled(x), model(x))


def test_exported_models_have_the_output_alone(tmp_path):
    model, x = model_and_input()
    program = torch.export.export(model, (x,))
    operators = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert operators == [torch.ops.aten.linear.default] * 3
    export_onnx(model, tmp_path / "model.onnx", x)
    run = OnnxModel(tmp_path / "model.onnx", threads=1)
    torch.testing.assert_close(torch.from_numpy(run(x.numpy())), model(x).detach(), atol=1e-6, rtol=1e-5)
    assert model.first.computed == 0

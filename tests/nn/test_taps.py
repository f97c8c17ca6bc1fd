"""Values on the way are read and replaced by path."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.models import Model, create_model
from formwright.nn import PartSpec, build_part, part
from formwright.nn.functional.attention import attend
from formwright.nn.taps import matching_points, read_taps, replace_taps, tap_points

MIXER = "backbone.stages.0.blocks.1.branches.0.part"


def decoder(**options: object) -> Model:
    torch.manual_seed(0)
    options = {"dim": 16, "depth": 2, "heads": 2, "vocabulary": 9, "length": 8, **options}
    return create_model("decoder_tiny", **options).double().eval()


IDS = torch.tensor([[0, 1, 2, 3, 4], [4, 5, 6, 7, 8]])


@torch.inference_mode()
def test_weights_are_the_softmax_of_the_scores_of_queries_and_keys() -> None:
    model = decoder()
    with read_taps(model, f"{MIXER}:*") as values:
        model(IDS)
    q, k, v = (values[f"{MIXER}:{name}"].transpose(1, 2) for name in ("queries", "keys", "values"))
    scores = (q @ k.mT / math.sqrt(8)).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    torch.testing.assert_close(values[f"{MIXER}:scores"], scores)
    torch.testing.assert_close(values[f"{MIXER}:weights"], scores.softmax(-1))
    torch.testing.assert_close(values[f"{MIXER}:mixed"].transpose(1, 2), scores.softmax(-1) @ v)


def test_patterns_choose_points_in_the_order_of_the_model() -> None:
    model = decoder()
    hidden = [f"backbone.stages.0.blocks.{block}.branches.1.part:hidden" for block in (0, 1)]
    assert matching_points(model, "*:hidden") == hidden
    assert matching_points(model, [hidden[1], ":output", hidden[0]]) == [":output", *hidden]
    assert matching_points(model, "*.blocks.[1-9].*:hidden") == hidden[1:]
    assert all(point in tap_points(model) for point in (":input", "head:output", "backbone.embed:output"))
    with pytest.raises(UserError, match=r"no tap point '\*:hiden'; it has \d+, such as .*; formwright.nn.taps.tap_poi"):
        matching_points(model, "*:hiden")


@torch.inference_mode()
def test_functions_are_called_one_after_the_other_until_the_context_ends() -> None:
    model = decoder()
    expected = model(IDS)
    point = f"{MIXER}:mixed"
    with replace_taps(model, {point: lambda x: x + 1}):
        once = model(IDS)
        with replace_taps(model, {point: lambda x: x * 0}), read_taps(model, point) as values:
            model(IDS)
            assert not values[point].any()
        assert torch.equal(model(IDS), once)
    assert not torch.equal(once, expected)
    assert torch.equal(model(IDS), expected)


def test_nobody_listens_after_a_mistake() -> None:
    model = decoder()
    with pytest.raises(UserError, match="expects tokens"), replace_taps(model, {"*": lambda x: x[..., :1]}):
        model(IDS)
    with pytest.raises(UserError, match="no tap point 'no'"), replace_taps(model, {"*": lambda x: x, "no": id}):
        pass
    assert model.get_submodule(MIXER).listeners is None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_gradients_reach_what_was_read() -> None:
    model = decoder()
    with read_taps(model, "*:weights") as values:
        loss = model(IDS).square().sum()
    for gradient in torch.autograd.grad(loss, list(values.values())):
        assert gradient.any()


@torch.inference_mode()
def test_who_may_see_nothing_gets_zeros_and_grouped_heads_share_keys() -> None:
    q, k, v = torch.randn(2, 4, 3, 5), torch.randn(2, 2, 6, 5), torch.randn(2, 2, 6, 7)
    allowed = torch.rand(2, 1, 3, 6) < 0.5
    allowed[0, 0, 1] = False
    bias = torch.where(allowed, torch.randn(2, 4, 3, 6), -torch.inf)
    seen: dict[str, Tensor] = {}

    def tap(name: str, value: Tensor) -> Tensor:
        seen[name] = value
        return value

    for mask in (allowed, bias, None):
        explicit = attend(q, k, v, mask, scale=0.3, tap=tap)
        torch.testing.assert_close(explicit, attend(q, k, v, mask, scale=0.3))
        assert mask is None or not explicit[0, :, 1].any()
    assert seen["scores"].shape == seen["weights"].shape == (2, 4, 3, 6)


@torch.inference_mode()
def test_a_stream_shows_what_the_next_tokens_give() -> None:
    model = decoder()
    with read_taps(model, f"{MIXER}:mixed") as whole:
        model(IDS)
    state, pieces = model.init_state(2, 5), []
    for piece in (IDS[:, :2], IDS[:, 2:]):
        with read_taps(model, f"{MIXER}:mixed") as values:
            _, state = model.stream(piece, state)
        pieces.append(values[f"{MIXER}:mixed"])
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole[f"{MIXER}:mixed"])


@torch.inference_mode()
def test_a_long_text_is_shown_as_a_whole() -> None:
    mixer = build_part(PartSpec("linear_attention", {"heads": 2, "causal": True}), 8, grid=(9,)).eval()
    x = torch.randn(1, 2050, 8)
    with read_taps(mixer, ":queries") as values:
        y = mixer(x)
    assert values[":queries"].shape[1] == 2050
    torch.testing.assert_close(y, mixer(x), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_a_loop_shows_its_values_each_time() -> None:
    model = create_model("algoformer", dim=16, heads=2, loops=3).eval()
    seen: list[Tensor] = []
    looped = next(name for name, stage in model.named_modules() if getattr(stage, "repeats", 1) == 3)
    with replace_taps(model, {f"{looped}.blocks.0:output": seen.append}):
        model(model.specification.input.example(1))
    assert len(seen) == 3


def test_what_is_called_by_names_shows_a_dictionary() -> None:
    class Sum(nn.Module):
        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return left + right

    model = Sum()
    with replace_taps(model, {":input": lambda named: {**named, "right": named["right"] * 10}}):
        assert model(left=torch.tensor(1), right=torch.tensor(2)) == 21
        with read_taps(model, ":input") as values, pytest.raises(TypeError):
            model(torch.tensor(1), right=torch.tensor(2))
    assert values == {}
    with read_taps(model, ":input") as values:
        model(torch.tensor(1), right=torch.tensor(2))
    assert values[":input"] == 1


def test_a_dense_layer_with_its_activation_is_taken_apart() -> None:
    mlp = build_part(part("mlp"), 384, grid=(196,)).eval()
    x = torch.randn(8, 196, 384)
    with torch.inference_mode():
        expected = mlp(x)  # large enough for the fused product
        with read_taps(mlp, ("fc1:output", ":hidden")) as values:
            torch.testing.assert_close(mlp(x), expected)
    torch.testing.assert_close(mlp.activation(values["fc1:output"]), values[":hidden"])

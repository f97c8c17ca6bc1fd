from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn import build_part, part
from formwright.nn.edits import (
    adapt_layer,
    apply_edits,
    extend_entries,
    factorise_layer,
    keep_entries,
    permute_entries,
    replace_layer,
)
from formwright.nn.functional.dense import dense, outputs_of
from formwright.nn.layers import (
    LAYERS,
    Affine,
    Layer,
    LoRA,
    LowRank,
    Quantised,
    effective_bias,
    effective_weight,
    scale_input,
    scale_output,
)
from formwright.nn.specification import EditSpec

PLAIN: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Linear(6, 4), (3, 6)),
    (nn.Linear(4, 6, bias=False), (2, 3, 4)),
    (nn.Conv1d(3, 5, 3), (2, 3, 7)),
    (nn.Conv2d(3, 5, 3, 2, 1), (2, 3, 7, 8)),
    (nn.Conv2d(4, 4, 3, padding=1, groups=4), (2, 4, 5, 6)),
]
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("low_rank", {"rank": 3}),
    ("lora", {"rank": 2, "alpha": 3.0}),
    ("affine", {}),
    ("affine", {"rank": 2}),
]


def learned(layer: nn.Module, seed: int = 0) -> nn.Module:
    """The layer with values in all that learns which no initialisation has."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) / 2)
    return layer


def layers() -> list[Any]:
    found = []
    for index, (plain, shape) in enumerate(PLAIN):
        for name, options in OPTIONS:
            if getattr(plain, "groups", 1) == 1 or options == {}:
                found.append(pytest.param(plain, shape, name, options, id=f"{index}-{name}-{len(options)}"))
    return found


each_layer = pytest.mark.parametrize(("plain", "shape", "name", "options"), layers())


def made(plain: nn.Module, name: str, options: dict[str, Any]) -> Layer:
    return LAYERS[name](copy.deepcopy(plain).double(), **options).eval()


def per_channel(vector: Tensor, y: Tensor, layer: Layer) -> Tensor:
    return vector if layer.form.dense else vector.view(-1, *[1] * (y.ndim - 2))


@each_layer
def test_a_layer_knows_the_sizes_of_the_one_it_stands_for(plain: Any, shape: Any, name: str, options: Any) -> None:
    layer = made(plain, name, options)
    if layer.form.dense:
        assert (layer.in_features, layer.out_features) == (plain.in_features, plain.out_features)
    else:
        assert (layer.in_channels, layer.out_channels) == (plain.in_channels, plain.out_channels)
    empty = LAYERS[name](copy.deepcopy(plain).to("meta"), **options)
    assert {n: t.shape for n, t in empty.state_dict().items()} == {n: t.shape for n, t in layer.state_dict().items()}


@each_layer
def test_adapters_begin_as_the_layer_and_leave_its_weights_alone(
    plain: Any, shape: Any, name: str, options: Any
) -> None:
    if name == "low_rank":
        pytest.skip("it replaces the weights")
    layer = made(plain, name, options)
    x = torch.randn(shape).double()
    assert torch.equal(layer(x), plain.double()(x))
    frozen = {name for name, p in layer.named_parameters() if not p.requires_grad}
    assert frozen == {name for name, _ in plain.named_parameters()}
    learned(layer)
    assert not torch.allclose(layer(x), plain(x))
    assert torch.equal(layer.get_parameter("weight"), plain.weight)


@each_layer
def test_folding_gives_a_plain_layer_that_computes_the_same(plain: Any, shape: Any, name: str, options: Any) -> None:
    layer = learned(made(plain, name, options))
    x = torch.randn(shape).double()
    if name == "affine" and options:
        with pytest.raises(UserError, match="cannot be folded"):
            layer.plain()
        return
    folded = layer.plain()
    assert type(folded) is type(plain)
    torch.testing.assert_close(folded(x), layer(x))
    assert torch.equal(effective_weight(layer), folded.weight)
    bias = effective_bias(layer)
    assert (bias is None) == (folded.bias is None)


@each_layer
def test_a_value_per_channel_goes_into_the_weights(plain: Any, shape: Any, name: str, options: Any) -> None:
    layer = learned(made(plain, name, options))
    x = torch.randn(shape).double()
    y = layer(x)
    scale, shift = torch.randn(2, layer.out_features).double()
    assert scale_output(layer, scale, shift) == layer.scalable
    if not layer.scalable:
        assert torch.equal(layer(x), y)
        return
    torch.testing.assert_close(layer(x), per_channel(scale, y, layer) * y + per_channel(shift, y, layer))
    if layer.form.dense:
        scale, shift = torch.randn(2, layer.in_features).double()
        y = layer(scale * x + shift)
        assert scale_input(layer, scale, shift)
        torch.testing.assert_close(layer(x), y)


def test_the_rank_that_is_kept_is_the_nearest() -> None:
    plain = nn.Linear(12, 8).double()
    layer = LowRank(copy.deepcopy(plain), rank=3)
    singular = torch.linalg.svdvals(plain.weight)
    error = torch.linalg.matrix_norm(layer.effective_weight() - plain.weight)
    torch.testing.assert_close(error, singular[3:].square().sum().sqrt())
    assert sum(p.numel() for p in layer.parameters()) == 3 * (12 + 8) + 8


def test_the_branch_of_an_affine_layer_is_the_formula() -> None:
    layer = learned(made(nn.Linear(6, 4), "affine", {"rank": 2}))
    assert isinstance(layer, Affine)
    x = torch.randn(3, 6).double()
    expected = (1 + layer.scale) * (x @ layer.weight.T) + layer.bias + layer.shift
    expected = expected + layer.factor * ((x @ layer.down.T).relu() @ layer.up.T)  # type: ignore[union-attr]
    torch.testing.assert_close(layer(x), expected)


def test_lora_drops_only_what_the_small_layer_sees() -> None:
    layer = learned(LoRA(nn.Linear(6, 4).double(), rank=2, dropout=0.999999))
    x = torch.randn(3, 6).double()
    torch.testing.assert_close(layer.train()(x), x @ layer.weight.T + layer.bias)
    assert not torch.allclose(layer.eval()(x), x @ layer.weight.T + layer.bias)


def mlp() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({"part": build_part(part("mlp", hidden=6), 4)}).double()


@pytest.mark.parametrize(
    ("name", "options"), [("low_rank", {"rank": 2}), ("lora", {"rank": 2}), ("affine", {"rank": 1})]
)
def test_entries_of_replaced_layers_are_kept_ordered_and_appended(name: str, options: Any) -> None:
    model = mlp()
    for layer in ("fc1", "fc2"):
        replace_layer(model, f"part.{layer}", name, **options)
    learned(model)
    x = torch.randn(5, 4).double()
    expected = model["part"](x)
    permute_entries(model, "part", "hidden", [3, 1, 0, 5, 4, 2])
    torch.testing.assert_close(model["part"](x), expected)
    extend_entries(model, "part", "hidden", 2)
    torch.testing.assert_close(model["part"](x), expected)
    sizes = {n: t.shape for n, t in model.state_dict().items()}
    assert all(8 in shape for n, shape in sizes.items() if "fc1" in n and "bias" in n)
    keep_entries(model, "part", "hidden", range(6))
    torch.testing.assert_close(model["part"](x), expected)
    assert model["part"].fc1.out_features == model["part"].fc2.in_features == 6


def test_a_layer_of_low_rank_holds_layers_that_are_replaced_again() -> None:
    model = mlp()
    x = torch.randn(5, 4).double()
    edits = [factorise_layer(model, "part.fc1", 3), adapt_layer(model, "part.fc1.up", "lora", rank=1)]
    expected = model["part"](x)
    permute_entries(model, "part", "hidden", [5, 4, 3, 2, 1, 0])
    torch.testing.assert_close(model["part"](x), expected)
    edits.append(keep_entries(model, "part", "hidden", [0, 2]))
    replayed = mlp()
    apply_edits(replayed, edits)
    replayed.load_state_dict(model.state_dict())
    assert torch.equal(replayed["part"](x), model["part"](x))


def test_folding_a_model_merges_adapters_and_leaves_what_is_smaller() -> None:
    model = mlp()
    factorise_layer(model, "part.fc1", 2)
    adapt_layer(model, "part.fc2", "lora", rank=2)
    learned(model)
    x = torch.randn(5, 4).double()
    expected = model["part"](x)
    apply_edits(model, [EditSpec("fold")])
    assert isinstance(model["part"].fc1, LowRank)
    assert type(model["part"].fc2) is nn.Linear
    torch.testing.assert_close(model["part"](x), expected)
    apply_edits(model, [EditSpec("fold", "part.fc1")])
    assert type(model["part"].fc1) is nn.Linear
    torch.testing.assert_close(model["part"](x), expected)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (EditSpec("factorise", "part.fc1", {"rank": 5}), r"'part\.fc1' .* has a rank from 1 to 4, and 5 was asked for"),
        (EditSpec("factorise", "part.fc1", {"rank": 0}), "has a rank from 1 to 4, and 0"),
        (
            EditSpec("factorise", "part.fc9", {"rank": 2}),
            r"no module 'part\.fc9'; the edits were made",
        ),
        (EditSpec("factorise", "part", {"rank": 2}), "'part' cannot become .* this is a MLP"),
        (EditSpec("factorise", "part.fc1", {}), "lacks its option 'rank'"),
        (EditSpec("adapt", "part.fc1", {"by": "lora", "rank": 7}), "has a rank from 1 to 4, and 7"),
        (EditSpec("adapt", "part.fc1", {"by": "lroa"}), "no adapter named 'lroa'; did you mean lora"),
        (EditSpec("adapt", "part.fc1", {"by": "affine", "alpha": 2}), "has no option 'alpha'; its options are: rank"),
        (EditSpec("factorise", "part.fc2", {"rank": 2.5}), "whole number"),
    ],
)
def test_what_cannot_be_done_to_a_layer_is_said(edit: EditSpec, message: str) -> None:
    with pytest.raises(UserError, match=message):
        apply_edits(mlp(), [edit])


def test_a_layer_that_was_replaced_is_not_replaced_again() -> None:
    model = mlp()
    adapt_layer(model, "part.fc1", "lora", rank=2)
    with pytest.raises(UserError, match="this is a LoRA; fold a layer that was replaced before"):
        factorise_layer(model, "part.fc1", 2)


def test_a_strange_layer_is_called_and_not_cut_in_half() -> None:
    model = mlp()
    model["part"].fc1 = nn.Sequential(nn.Linear(4, 6)).double()
    x = torch.randn(5, 4).double()
    assert model["part"](x).shape == (5, 4)
    with pytest.raises(UserError, match=r"declares an axis 'hidden' of 'fc1\.weight', and there is no such tensor"):
        keep_entries(model, "part", "hidden", [0])


def test_a_bias_that_folding_made_is_cut_too() -> None:
    model = nn.ModuleDict({"part": build_part(part("mlp", hidden=6, bias=False), 4)})
    scale_input(model["part"].fc1, torch.ones(4), torch.ones(4))
    keep_entries(model, "part", "hidden", [1, 2])
    assert model["part"].fc1.bias.shape == (2,)


@pytest.mark.parametrize("hook", ["forward", "forward_pre", "full_backward", "full_backward_pre"])
def test_a_layer_that_is_listened_to_is_called(hook: str) -> None:
    linear = nn.Linear(2048, 2048)
    x = torch.randn(4, 2048, requires_grad=True)
    heard = []
    getattr(linear, f"register_{hook}_hook")(lambda *_: heard.append(hook))
    dense(linear, x).sum().backward()
    assert heard == [hook]
    outputs_of(linear, x, slice(3)).sum().backward()
    assert heard == [hook] * 2


class Halved(Layer):
    """A layer of somebody else's, which says where its entries are and nothing of scales."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer)
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.form(x, self.effective_weight(), self.bias)

    def locate(self, name: str, dimension: int) -> tuple[tuple[str, int], ...]:
        return ((name, dimension),)

    def effective_weight(self) -> Tensor:
        return self.weight / 2

    def effective_bias(self) -> Tensor | None:
        return self.bias


def test_a_layer_says_what_it_is_or_is_none() -> None:
    with pytest.raises(TypeError, match="effective_bias"):
        type("Half", (Layer,), {"locate": Halved.locate, "effective_weight": Halved.effective_weight})(nn.Linear(3, 2))
    layer = Halved(nn.Linear(3, 2))
    x = torch.randn(4, 3)
    torch.testing.assert_close(layer.plain()(x), layer(x))


@pytest.mark.parametrize("layer", [Halved(nn.Linear(3, 2)), Quantised(nn.Linear(3, 2), bits=4)])
def test_a_layer_without_scales_takes_none(layer: Layer) -> None:
    assert not layer.scalable
    assert not scale_input(layer, torch.ones(3))
    assert not scale_output(layer, torch.ones(2))
    for scale in (layer.scale_input, layer.scale_output):
        with pytest.raises(UserError, match="cannot take a value per channel into its weights"):
            scale(torch.ones(2))

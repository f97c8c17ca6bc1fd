"""Weights and values as integers of few bits hold them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.models import Model, create_model
from formwright.nn import PartSpec, build_part
from formwright.nn.edits import (
    apply_edits,
    extend_entries,
    keep_entries,
    permute_entries,
    quantise_layers,
    tap_quantiser,
)
from formwright.nn.functional.quantisation import fake_quantise, integer_range, scale_and_zero
from formwright.nn.layers import Quantised, Quantiser, scale_output
from formwright.nn.specification import EditSpec

GRANULARITIES = ("tensor", "channel", "group")


def linear(rows: int = 6, columns: int = 10) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(columns, rows).double()


def levels(values: Tensor, scale: Tensor) -> Tensor:
    return (values / scale).round().unique()


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_values_and_gradients_are_those_of_pytorchs_operator(bits: int, symmetric: bool) -> None:
    x = torch.randn(5, 40)
    x[0] = x[0].abs() + 1
    least, most = integer_range(bits, symmetric=symmetric)
    scale, zero = scale_and_zero(0.5 * x.amin(1), 0.5 * x.amax(1), bits, symmetric=symmetric)
    integers = torch.zeros(5, dtype=torch.int32) if zero is None else zero.int()
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))
    y = fake_quantise(ours, scale[:, None], None if zero is None else zero[:, None], least, most)
    expected = torch.fake_quantize_per_channel_affine(theirs, scale, integers, 0, least, most)
    torch.testing.assert_close(y, expected)
    for result in (y, expected):
        (result * x).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert len(levels(y[1], scale[1])) <= 2**bits
    assert not ours.grad.all(), "what is clipped has no gradient"


def test_the_gradient_of_a_scale_is_that_of_learned_step_sizes() -> None:
    x = torch.tensor([-9.0, -1.3, 0.2, 0.8, 9.0], dtype=torch.float64)
    scale = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    fake_quantise(x, scale, None, -4, 3).sum().backward()
    inside = (x / 0.5)[1:4]
    expected = -4 + (inside.round() - inside).sum() + 3
    torch.testing.assert_close(scale.grad, expected)
    quantiser = Quantiser(3, symmetric=True, learned=True, like=x).train()
    with torch.no_grad():
        quantiser.scale.fill_(0.5)
    quantiser(x).sum().backward()
    torch.testing.assert_close(quantiser.scale.grad, expected / (5 * 3) ** 0.5)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_scales_belong_to_the_weights_that_share_them(granularity: str, symmetric: bool) -> None:
    plain = linear()
    layer = Quantised(copy.deepcopy(plain), bits=4, granularity=granularity, group=4, symmetric=symmetric)
    shares = {"tensor": [plain.weight.flatten()], "channel": list(plain.weight)}
    shares["group"] = [row[first : first + 4] for row in plain.weight for first in (0, 4, 8)]
    found = {"tensor": [layer.effective_weight().flatten()], "channel": list(layer.effective_weight())}
    found["group"] = [row[first : first + 4] for row in layer.effective_weight() for first in (0, 4, 8)]
    least, most = integer_range(4, symmetric=symmetric)
    for share, rounded in zip(shares[granularity], found[granularity], strict=True):
        scale, zero = scale_and_zero(share.min(), share.max(), 4, symmetric=symmetric)
        torch.testing.assert_close(rounded, fake_quantise(share, scale, zero, least, most))
        assert (rounded - share).abs().max() <= 0.51 * scale
    x = torch.randn(3, 10).double()
    torch.testing.assert_close(layer(x), x @ layer.effective_weight().T + plain.bias)
    torch.testing.assert_close(layer.plain()(x), layer(x))
    assert torch.equal(layer.weight, plain.weight), "the weights themselves stay"


def test_a_convolution_has_scales_of_its_output_channels_and_of_groups_of_its_inputs() -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(6, 4, 3, stride=2, padding=1).double()
    x = torch.randn(2, 6, 7, 8).double()
    for options, shape in (({}, (4,)), ({"granularity": "group", "group": 4}, (4, 2))):
        layer = Quantised(copy.deepcopy(plain), bits=3, **options)
        assert layer.weight_quantiser.scale.shape == shape
        torch.testing.assert_close(
            layer(x), nn.functional.conv2d(x, layer.effective_weight(), plain.bias, stride=2, padding=1)
        )
        assert 0.01 < (layer(x) - plain(x)).std() < plain(x).std()


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_what_comes_in_is_rounded_once_its_range_is_known(granularity: str) -> None:
    plain = linear()
    layer = Quantised(copy.deepcopy(plain), activations={"bits": 5, "granularity": granularity})
    x = torch.randn(30, 10).double()
    quantiser = layer.input_quantiser
    assert quantiser is not None
    axis = layer.input_axis
    quantiser.reach(quantiser.gather(x, "amin", axis), quantiser.gather(x, "amax", axis))
    rounded = quantiser(x, axis)
    for channel in range(10) if granularity == "channel" else [slice(None)]:
        assert len(rounded[:, channel].unique()) <= 32
        assert (rounded[:, channel] - x[:, channel]).abs().max() < 0.51 * quantiser.scale.max()
    torch.testing.assert_close(layer(x), rounded @ layer.effective_weight().T + plain.bias)


def test_a_depthwise_convolution_rounds_each_channel_by_itself() -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(4, 4, 3, padding=1, groups=4).double()
    layer = Quantised(plain, activations={"bits": 4, "granularity": "channel"})
    assert layer.input_quantiser is not None
    assert layer.input_quantiser.scale.shape == (4,)
    assert layer.locate("weight", 0)[-2:] == (("input_quantiser.scale", 0), ("input_quantiser.zero", 0))
    with pytest.raises(UserError, match="convolution in groups have no scales"):
        Quantised(nn.Conv2d(4, 8, 3, groups=2), activations={"bits": 4, "granularity": "channel"})


@pytest.mark.parametrize("bits", [1, 9, 4.0, True, "8", None])
def test_bits_that_are_no_whole_number_from_2_to_8_are_refused(bits: Any) -> None:
    model = nn.ModuleDict({"fc": linear()})
    for options in ({"bits": bits}, {"bits": 8, "activations": {"bits": bits}}):
        with pytest.raises(UserError, match=r"'fc' cannot become .*a whole number of bits from 2 to 8, got") as refused:
            apply_edits(model, [EditSpec("quantise", "fc", options)])
        assert "\n" not in str(refused.value)
    assert isinstance(model["fc"], nn.Linear)


def test_unsuited_options_are_refused() -> None:
    model = nn.ModuleDict({"fc": linear(), "norm": nn.LayerNorm(6)})
    for options, message in (
        ({"granularity": "row"}, "granularity"),
        ({"granularity": "group", "group": 0}, "at least one input channel, got group=0"),
        ({"activations": {"bits": 8, "granularity": "group"}}, "granularity of activations"),
        ({"activations": {}}, "bits"),
        ({"bitz": 4}, "no option 'bitz'"),
    ):
        with pytest.raises(UserError, match=message):
            quantise_layers(model, "fc", **options)
    with pytest.raises(UserError, match="No plain layer is called 'x\\*'; the model has 1: fc"):
        quantise_layers(model, "x*")
    with pytest.raises(UserError, match="dense or convolutional"):
        quantise_layers(model, "norm")
    quantise_layers(model, "fc")
    with pytest.raises(UserError, match="is a Quantised"):
        quantise_layers(model, "fc")


def test_training_moves_the_weights_through_the_rounding() -> None:
    torch.manual_seed(0)
    x, target = torch.randn(64, 10).double(), torch.randn(64, 6).double()
    for learned in (False, True):
        layer = Quantised(linear(), bits=3, learned=learned).train()
        assert {name for name, _ in layer.named_parameters()} >= {"weight", "bias"}
        assert isinstance(layer.weight_quantiser.scale, nn.Parameter) == learned
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.02)
        losses = []
        for _ in range(60):
            loss = (layer(x) - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.9 * losses[0]
        rows = zip(layer.effective_weight(), layer.weight_quantiser.scale, strict=True)
        assert all(len(levels(row, scale)) <= 8 for row, scale in rows)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_entries_are_cut_and_permuted_with_their_scales(granularity: str) -> None:
    torch.manual_seed(0)
    part = build_part(PartSpec("mlp", {"hidden": 12}), 8, grid=(3,)).double()
    holder = nn.ModuleDict({"part": part})
    quantise_layers(
        holder, "*", bits=3, granularity=granularity, group=4, activations={"bits": 4, "granularity": "channel"}
    )
    x = torch.randn(2, 3, 8).double()
    expected = part(x)
    permute_entries(holder, "part", "hidden", torch.randperm(12).tolist())
    torch.testing.assert_close(part(x), expected)
    assert part.fc2.deployed_form == "simulated"
    plain = nn.ModuleDict({"part": copy.deepcopy(part)})
    for name in ("fc1", "fc2"):
        layer = plain["part"].get_submodule(name)
        layer.weight_quantiser = nn.Identity()  # type: ignore[assignment]
        with torch.no_grad():
            layer.weight.copy_(part.get_submodule(name).effective_weight())
        layer.granularity = "tensor"
    for each in (holder, plain):
        keep_entries(each, "part", "hidden", [1, 2, 5, 7, 11])
    torch.testing.assert_close(part(x), plain["part"](x))
    extend_entries(holder, "part", "hidden", 3)
    torch.testing.assert_close(part(x), plain["part"](x))


def test_norms_stay_beside_a_quantised_layer() -> None:
    layer = Quantised(linear())
    before = layer(torch.ones(1, 10).double())
    assert not scale_output(layer, torch.full((6,), 2.0).double())
    assert torch.equal(layer(torch.ones(1, 10).double()), before)


def test_the_deployed_form_is_said() -> None:
    forms = [Quantised(linear(), bits=bits).deployed_form for bits in range(2, 9)]
    assert forms == ["simulated", "simulated", "int4", "simulated", "simulated", "simulated", "int8"]
    assert Quantised(linear(), bits=4, granularity="group", group=3).deployed_form == "int4"


def gpt2(**options: Any) -> Model:
    torch.manual_seed(0)
    return create_model("gpt2", dim=16, depth=2, heads=2, hidden=24, vocabulary=11, length=12, **options).eval()


def test_patterns_choose_layers_and_the_edit_is_replayed_from_shapes() -> None:
    model = gpt2()
    ids = torch.arange(10)[None]
    edits = [quantise_layers(model, "*.branches.1.*", bits=4, granularity="group", group=8)]
    edits.append(quantise_layers(model, "backbone.stages.0.blocks.0.branches.0.part.qkv", bits=8, learned=True))
    quantised = [path for path, module in model.named_modules() if isinstance(module, Quantised)]
    assert quantised == [
        "backbone.stages.0.blocks.0.branches.0.part.qkv",
        *(f"backbone.stages.0.blocks.{b}.branches.1.part.{name}" for b in (0, 1) for name in ("fc1", "fc2")),
    ]
    model.record_edits(edits)
    again = Model(model.specification)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval()(ids), model(ids))


@torch.no_grad()
def test_values_of_taps_are_rounded_wherever_they_are_computed() -> None:
    model = gpt2()
    ids = torch.arange(10)[None]
    expected = model(ids)
    point = "backbone.stages.0.blocks.0.branches.0.part:queries"
    model.record_edits([quantise_layers(model, point, bits=6, symmetric=True)])
    quantiser = tap_quantiser(model, point)
    quantiser.reach(torch.tensor(-0.5), torch.tensor(0.5))
    rounded = model(ids)
    assert 1e-5 < (rounded - expected).std() / expected.std() < 0.3
    copied = copy.deepcopy(model)
    tap_quantiser(copied, point).reach(torch.tensor(-1e-6), torch.tensor(1e-6))
    assert torch.equal(model(ids), rounded), "a copy has quantisers of its own"
    assert not torch.equal(copied(ids), rounded)
    again = Model(model.specification).eval()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(ids), rounded)
    scores, _ = model.stream(ids, model.init_state(1, 10))
    torch.testing.assert_close(scores, rounded)
    for target, message in ((f"{point}s", "no tap of a part"), ("head:input", "option activations")):
        with pytest.raises(UserError, match=message):
            quantise_layers(model, target, bits=8)


@pytest.mark.parametrize("variant", ["gpt2", "gla_340m"])
@torch.no_grad()
def test_a_stream_gives_what_the_whole_gives(variant: str) -> None:
    torch.manual_seed(0)
    model = create_model(variant, dim=16, depth=2, heads=2, vocabulary=11, length=12).eval()
    quantise_layers(model, "*", bits=4, granularity="group", group=8)
    ids = torch.arange(10)[None]
    state, pieces = model.init_state(1, 10), []
    for piece in ids.split((3, 1, 6), dim=1):
        scores, state = model.stream(piece, state)
        pieces.append(scores)
    torch.testing.assert_close(torch.cat(pieces, dim=1), model(ids), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("learned", [False, True])
def test_quantised_models_are_traced(learned: bool) -> None:
    model = gpt2()
    point = "backbone.stages.0.blocks.0.branches.0.part:queries"
    quantise_layers(model, "*", bits=4, learned=learned, activations={"bits": 8})
    quantise_layers(model, point, bits=8)
    ids = torch.arange(10)[None]
    with torch.no_grad():
        expected = model(ids)
        torch.compiler.reset()
        torch.testing.assert_close(torch.compile(model, backend="aot_eager", fullgraph=True)(ids), expected)
        torch.testing.assert_close(torch.export.export(model, (ids,)).module()(ids), expected)

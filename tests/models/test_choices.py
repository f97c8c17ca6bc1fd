"""A choice survives JSON, and is refused where it is none."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from formwright.batch import call
from formwright.compression import Step, compress, extract
from formwright.deployment.export import export_onnx
from formwright.deployment.runtime import OnnxModel
from formwright.errors import UserError
from formwright.models import Network, create_model, from_pretrained, model_specification
from formwright.models.choices import Choice, narrowed
from formwright.nn.specification import BlockSpec, BranchSpec, part
from formwright.search.supernets import space_of
from tests.conformance.instances import named_inputs, tiny_network

BLOCK = "backbone.stages.0.blocks.0.branches"
HALF = Choice(
    {(f"{BLOCK}.0.part", "heads"): 1, (f"{BLOCK}.1.part", "hidden"): 20, ("backbone.stages.0", "residual"): 12},
    frozenset({"backbone.stages.0.blocks.1.branches.0"}),
)


@pytest.fixture
def model() -> Network:
    torch.manual_seed(0)
    return create_model("vit_tiny_patch16_224", dim=16, depth=2, heads=2, image_size=32, classes=4).eval()


def test_it_survives_json_and_is_equal_to_what_it_was() -> None:
    again = Choice.from_dict(json.loads(json.dumps(HALF.to_dict())))
    assert again == HALF
    assert hash(again) == hash(HALF)
    assert HALF.to_dict() == {
        "sizes": {
            "backbone.stages.0:residual": 12,
            f"{BLOCK}.0.part:heads": 1,
            f"{BLOCK}.1.part:hidden": 20,
        },
        "dropped": ["backbone.stages.0.blocks.1.branches.0"],
    }
    assert Choice.from_dict({}) == Choice()


@pytest.mark.parametrize(
    "data", [[], {"size": {}}, {"sizes": [1]}, {"sizes": {"a": 1}}, {"sizes": {"a:b": 1.5}}, {"sizes": {"a:b": True}}]
)
def test_what_describes_no_choice_is_refused(data: Any) -> None:
    with pytest.raises(UserError, match="choice"):
        Choice.from_dict(data)
    with pytest.raises(UserError, match="a list of the paths of branches, and got 'a'"):
        Choice.from_dict({"dropped": "a"})


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice({("nowhere", "hidden"): 1}), "has no module 'nowhere', which a choice names"),
        (Choice({}, frozenset({"nowhere"})), "has no module 'nowhere'"),
        (Choice({(f"{BLOCK}.1.part", "heads"): 1}), "has no axis 'heads' of which .* its axes are: 'hidden'"),
        (Choice({("head", "hidden"): 1}), "has no axis 'hidden' of which .* its axes are: none"),
        (Choice({(f"{BLOCK}.1.part", "hidden"): 65}), "has 64 entries on its axis 'hidden'; 65 cannot be chosen"),
        (Choice({(f"{BLOCK}.1.part", "hidden"): 0}), "0 cannot be chosen"),
        (Choice({("head", "residual"): 17}), "has 16 entries on its axis 'residual'; 17 cannot be chosen"),
        (
            Choice({("head", "residual"): 8, ("backbone.stages.0", "residual"): 4}),
            "shares its axis .* gives them 8 and 4 entries",
        ),
        (Choice({}, frozenset({f"{BLOCK}.0.part"})), "drops residual branches, and .* is a Attention"),
    ],
)
def test_what_is_no_choice_of_a_network_is_refused_and_leaves_it_as_it_was(
    model: Network, choice: Choice, message: str
) -> None:
    x = torch.randn(1, 3, 32, 32)
    expected = model(x)
    both = Choice({**HALF.sizes, **choice.sizes}, HALF.dropped | choice.dropped)
    for refused in (choice, both) if "gives them" not in message and "17" not in message else (choice,):
        for use in (lambda: refused.check(model), lambda: extract(model, refused)):  # noqa: B023
            with pytest.raises(UserError, match=message):
                use()
    assert torch.equal(model(x), expected)


def test_sizes_of_what_is_dropped_do_not_matter(model: Network) -> None:
    branch = f"{BLOCK}.1"
    one, other = (Choice({(f"{branch}.part", "hidden"): size}, frozenset({branch})) for size in (3, 64))
    assert extract(model, one).specification == extract(model, other).specification


def test_branches_inside_of_what_is_dropped_do_not_matter() -> None:
    inner = BlockSpec((BranchSpec(part("mlp", ratio=2.0), norm=part("layer_norm")),))
    specification = model_specification("vit_tiny_patch16_224", dim=16, depth=2, heads=2, image_size=32, classes=4)
    grouped = BlockSpec((BranchSpec(part("group", blocks=(inner,))),))
    stage = dataclasses.replace(specification.stages[0], blocks=(*specification.stages[0].blocks, grouped))
    model = create_model(dataclasses.replace(specification, stages=(stage,))).eval()
    outer = "backbone.stages.0.blocks.2.branches.0"
    nested = f"{outer}.part.blocks.0.branches.0"
    assert {outer, nested} <= set(space_of(model).branches)
    x = torch.randn(1, 3, 32, 32)
    both = Choice({(f"{nested}.part", "hidden"): 3}, frozenset({outer, nested}))
    assert extract(model, both).specification == extract(model, Choice({}, frozenset({outer}))).specification
    for choice in (both, Choice({}, frozenset({nested}))):
        with narrowed(model, choice):
            inside = model(x)
        torch.testing.assert_close(inside, extract(model, choice)(x), rtol=1e-5, atol=1e-5)


def test_an_error_inside_leaves_the_network_as_it_was(model: Network) -> None:
    x = torch.randn(1, 3, 32, 32)
    expected = model(x)
    with pytest.raises(UserError, match="batch"), narrowed(model, HALF):
        model(x[0])
    assert torch.equal(model(x), expected)
    assert all(isinstance(parameter, nn.Parameter) for parameter in model.parameters())


def test_choices_inside_one_another(model: Network) -> None:
    x = torch.randn(1, 3, 32, 32)
    smaller = Choice({(f"{BLOCK}.1.part", "hidden"): 5})
    with narrowed(model, HALF), narrowed(model, smaller):
        inside = model(x)
    torch.testing.assert_close(inside, extract(extract(model, HALF), smaller)(x), rtol=1e-5, atol=1e-5)


def test_statistics_are_learned_in_place() -> None:
    torch.manual_seed(0)
    model = create_model("resnet18", dims=(8, 8), depths=(1, 1), classes=2, image_size=16).train()
    target = next(path for path, module in model.named_modules() if "hidden" in getattr(module, "resizable", {}))
    buffers = {name: buffer for name, buffer in model.named_buffers() if name.endswith("running_mean")}
    before = {name: buffer.clone() for name, buffer in buffers.items()}
    with narrowed(model, Choice({(target, "hidden"): 3})):
        model(torch.randn(4, 3, 16, 16))
    inside = [name for name in buffers if name.startswith(target) and not torch.equal(buffers[name], before[name])]
    assert any(torch.equal(buffers[name][3:], before[name][3:]) for name in inside)
    assert all(dict(model.named_buffers())[name] is buffer for name, buffer in buffers.items())


@pytest.mark.parametrize("name", ["t5", "unet_2d_sum", "dit"])
def test_what_is_cut_out_reloads_and_exports(name: str, tmp_path: Path) -> None:
    network = tiny_network(name).float()
    smaller = extract(network, space_of(network).smallest)
    given = {key: x.float() if x.is_floating_point() else x for key, x in named_inputs(smaller).items()}
    with torch.no_grad():
        expected = call(smaller, given)
    smaller.save_pretrained(tmp_path / "model")
    with torch.no_grad():
        torch.testing.assert_close(call(from_pretrained(tmp_path / "model"), given), expected)
    export_onnx(smaller, tmp_path / "model.onnx", given)
    outputs = OnnxModel(tmp_path / "model.onnx")({key: x.numpy() for key, x in given.items()})
    torch.testing.assert_close(torch.as_tensor(outputs), expected, rtol=1e-4, atol=1e-4)


def test_a_recipe_takes_a_choice(model: Network) -> None:
    found = compress(model, [Step("extract", {"choice": HALF.to_dict()})], None)
    assert found.model.specification.edits == extract(model, HALF).specification.edits

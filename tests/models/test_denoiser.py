"""The denoiser keeps what all networks promise, with a time and a class beside its pictures."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from formwright.batch import call, moved
from formwright.catalog.reference import reference_figures, reference_state, sample
from formwright.compression.groups import groups_of
from formwright.deployment import export_onnx
from formwright.deployment.runtime import OnnxModel
from formwright.errors import UserError
from formwright.measurement import measure
from formwright.measurement.macs import count_macs
from formwright.models import Network, create_model, empty_copy, from_pretrained, load_checkpoint
from formwright.models.topologies.denoiser import Denoiser, DenoiserSpec
from formwright.nn import Context
from formwright.nn.edits import apply_edits, find_axis, keep_entries, permute_entries
from formwright.nn.positions import grid_sine_table
from formwright.nn.specification import BlockSpec, EditSpec, NetworkSpec, StageSpec, part
from tests.conformance.instances import randomise

TINY = {"dim": 16, "depth": 2, "heads": 2, "classes": 5, "channels": 2, "image_size": (8, 4)}


def tiny(seed: int = 0, **changes: Any) -> Network:
    torch.manual_seed(seed)
    model = create_model("dit_s_2", **(TINY | changes)).double().eval()
    randomise(model, seed)
    return model


def inputs(model: Network, batch: int = 2, seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    examples = model.example(batch)
    assert isinstance(examples, Mapping)
    return {name: x.double() if x.is_floating_point() else x for name, x in examples.items()}


CASES = {
    "plain": {},
    "no-class": {"classes": None},
    "no-null-class": {"null_class": False},
    "flow": {"end": 1.0, "learned_variance": False},
}
each_case = pytest.mark.parametrize("changes", CASES.values(), ids=CASES.keys())


@each_case
def test_answers_in_every_type_for_any_batch(changes: dict[str, Any]) -> None:
    model = tiny(**changes)
    told = inputs(model, 3)
    with torch.inference_mode():
        whole = call(model, told)
        assert whole.shape == (3, model.specification.out_channels, 8, 4)
        assert torch.isfinite(whole).all()
        for index in range(3):
            one = {name: x[index : index + 1] for name, x in told.items()}
            torch.testing.assert_close(call(model, one), whole[index : index + 1], rtol=1e-9, atol=1e-9)
        for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.25)):
            rounded = {name: x.to(dtype) if name == "input" else x for name, x in told.items()}
            answer = call(copy.deepcopy(model).to(dtype), rounded)
            assert answer.dtype is dtype
            assert (answer.double() - whole).abs().mean() <= tolerance * whole.std()


@each_case
def test_gradients_reach_every_parameter(changes: dict[str, Any]) -> None:
    model = tiny(**changes).train()
    answer = call(model, inputs(model, 5))
    (answer * torch.randn_like(answer)).sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().max() > 0, name


def test_it_starts_by_answering_nothing_as_the_authors_do() -> None:
    torch.manual_seed(0)
    model = create_model("dit_s_2", **TINY)
    told = moved(model.example(2), torch.device("cpu"))
    answer = call(model, told)
    assert (answer == 0).all()
    answer.square().sum().backward()  # finite all the same
    weight = model.backbone.stages[0].blocks[0].branches[1].part.part.fc1.weight
    assert float(weight.detach().std()) == pytest.approx((2 / (16 + 64)) ** 0.5, rel=0.1)
    assert float(model.embed_time.fc1.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
    table = model.backbone.stages[0].entry[0].table
    assert not table.requires_grad
    assert torch.equal(table, grid_sine_table((4, 2), 16))


def test_positions_are_those_of_the_authors() -> None:
    figures = reference_figures("dit")["functions"]["positions"]
    table = grid_sine_table(figures["grid"], figures["dim"])
    np.testing.assert_allclose(sample(table.numpy()), figures["values"], rtol=1e-6, atol=1e-7)


def test_the_authors_checkpoint_loads_strictly() -> None:
    layout = reference_figures("dit")["variants"]["dit_s_2:small"]["layout"]
    changes = reference_figures("dit")["variants"]["dit_s_2:small"]["changes"]
    model = create_model("dit_s_2", **changes)
    state = {name: tensor.float() for name, tensor in reference_state(layout).items()}
    assert load_checkpoint(model, state) == "facebookresearch/DiT"
    with pytest.raises(UserError, match=r"1 missing: .*branches\.0\.part\.part\.proj\.bias"):
        load_checkpoint(model, {name: tensor for name, tensor in state.items() if name != "blocks.1.attn.proj.bias"})
    with pytest.raises(UserError, match="1 unexpected: extra"):
        load_checkpoint(model, {**state, "extra": torch.zeros(1)})
    with pytest.raises(UserError, match=r"entry\.0\.table' is missing"):
        load_checkpoint(model, {name: tensor for name, tensor in state.items() if name != "pos_embed"})


@each_case
def test_described_saved_and_loaded_in_a_fresh_process(changes: dict[str, Any], tmp_path: Path) -> None:
    model = tiny(**changes).float()
    specification = model.specification
    assert isinstance(specification, DenoiserSpec)
    assert NetworkSpec.from_dict(json.loads(json.dumps(specification.to_dict()))) == specification
    empty = empty_copy(specification)
    assert {n: t.shape for n, t in empty.state_dict().items()} == {n: t.shape for n, t in model.state_dict().items()}
    model.save_pretrained(tmp_path / "model")
    told = {name: x.float() if x.is_floating_point() else x for name, x in inputs(model).items()}
    torch.save(told, tmp_path / "told.pt")
    program = (
        "import sys, torch; from formwright import from_pretrained; folder = sys.argv[1];"
        "model = from_pretrained(folder + '/model'); told = torch.load(folder + '/told.pt');"
        "torch.save(model(**told).detach(), folder + '/answer.pt')"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    torch.testing.assert_close(torch.load(tmp_path / "answer.pt"), call(model, told))
    other = tiny(1, **changes).float()
    assert load_checkpoint(other, tmp_path / "model") == "formwright"
    assert torch.equal(call(other, told), call(model, told))


def test_cut_everywhere_saved_and_loaded(tmp_path: Path) -> None:
    model = tiny()
    told = inputs(model)
    zeroed, edits = copy.deepcopy(model), []
    for group in groups_of(model):
        edits.append(keep_entries(model, group.target, group.axis, range(1, group.size)))
    assert {(edit.target.rpartition(".")[2], edit.options["axis"]) for edit in edits} == {
        ("part", "heads"),
        ("part", "hidden"),
        ("embed_time", "hidden"),
    }
    model.record_edits(edits)
    assert model.parameter_count() < zeroed.parameter_count()
    model.float().save_pretrained(tmp_path)
    again = from_pretrained(tmp_path)
    single = {name: x.float() if x.is_floating_point() else x for name, x in told.items()}
    assert again.parameter_count() == model.parameter_count()
    assert torch.equal(call(again, single), call(model, single))
    answer = call(again.train(), single)
    answer.square().mean().backward()
    assert all(p.grad is not None for p in again.parameters() if p.requires_grad)


def test_folding_changes_nothing(tmp_path: Path) -> None:
    model = tiny()
    told = inputs(model)
    expected = call(model, told)
    fold = EditSpec("fold")
    apply_edits(model, [fold])
    model.record_edits([fold])
    torch.testing.assert_close(call(model, told), expected, rtol=1e-9, atol=1e-9)
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(call(from_pretrained(tmp_path).double(), told), expected, rtol=1e-6, atol=1e-6)


@each_case
def test_exported_and_compiled_it_agrees(changes: dict[str, Any]) -> None:
    model = tiny(**changes)
    told = inputs(model)
    batch = torch.export.Dim("batch", min=1, max=64)
    axes = {name: {0: batch} if name in told else None for name in ("input", "time", "label", "context")}
    named = {name: axes[name] for name in told}
    with torch.no_grad():
        program = torch.export.export(model, (), kwargs=told, dynamic_shapes=named).module()
        for size in (2, 1, 3):
            other = inputs(model, size, seed=size)
            torch.testing.assert_close(program(**other), call(model, other), rtol=1e-9, atol=1e-9)
        torch.compiler.reset()
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(**told), call(model, told), rtol=1e-9, atol=1e-9)


@each_case
def test_onnx_runtime_agrees_by_name(changes: dict[str, Any], tmp_path: Path) -> None:
    model = tiny(**changes).float()
    told = {name: x.float() if x.is_floating_point() else x for name, x in inputs(model).items()}
    assert export_onnx(model, tmp_path / "model.onnx", told) < 1e-4
    run = OnnxModel(tmp_path / "model.onnx")
    assert list(run.input_shapes) == [name for name in ("input", "time", "label") if name in told]
    assert all(shape[0] is None for shape in run.input_shapes.values())
    other = {name: x.float() if x.is_floating_point() else x for name, x in inputs(model, 5, seed=1).items()}
    np.testing.assert_allclose(run.on_tensors(other), call(model, other).detach().numpy(), rtol=1e-3, atol=1e-4)


def test_measured_and_counted_by_name() -> None:
    model = tiny().float()
    told = moved(model.example(1), torch.device("meta"))
    macs = count_macs(empty_copy(model.specification), told)
    lines = measure(model, backends=("eager", "onnx"))
    assert [line.macs for line in lines] == [macs, macs]
    block = 8 * 16 * (4 * 16 + 2 * 64) + 2 * 8 * 8 * 16 + 6 * 16 * 16
    ends = 8 * 8 * 16 + 8 * 16 * 16 + 2 * 16 * 16  # patches in and out, and the last modulation
    assert macs == 2 * block + ends + 256 * 16 + 16 * 16


def test_features_are_listened_to() -> None:
    model = tiny()
    (info,) = model.feature_info
    assert (info.stride, info.dim) == (2, 16)
    (grid,) = model.features(inputs(model))
    assert grid.shape == (2, 4, 2, 16)


def test_conditions_per_sample_and_per_token_are_added() -> None:
    model = tiny()
    told = inputs(model)
    plain = call(model, told)
    vector = torch.randn(2, 16).double()
    by_sample = model(**told, context=Context(condition=vector))
    assert not torch.allclose(by_sample, plain)
    for each in (vector[:, None, None].expand(2, 4, 2, 16), vector[:, None].expand(2, 8, 16)):
        torch.testing.assert_close(model(**told, context=Context(condition=each)), by_sample)
    uneven = vector[:, None].repeat(1, 8, 1)
    uneven[:, 3] *= -1
    assert not torch.allclose(model(**told, context=Context(condition=uneven)), by_sample)
    with pytest.raises(UserError, match="an entry for each token"):
        model(**told, context=Context(condition=uneven[:, :7]))


def test_labels_that_are_not_given_are_no_class() -> None:
    model = tiny()
    told = inputs(model)
    none = {**told, "label": torch.full((2,), 5)}
    assert torch.equal(model(told["input"], told["time"]), call(model, none))
    assert torch.equal(model(told["input"], told["time"].long()), model(told["input"], told["time"].long().double()))


def test_other_norms_and_mixers_stand_in_its_stages() -> None:
    """Whatever the library has: linear attention within a modulated branch, a gated MLP beside it."""
    specification = tiny().specification
    branches = tuple(
        {"part": inner, "norm": None}
        for inner in (
            part("modulated", part=part("linear_attention", heads=2), norm=part("rms_norm")),
            part("modulated", part=part("glu")),
        )
    )
    block = part("x", block={"branches": branches}).options["block"]
    assert isinstance(block, BlockSpec)
    stage = StageSpec(dim=16, blocks=(block,), entry=(part("grid_sine_positions"),))
    data = specification.to_dict() | {"stages": (stage,)}
    model = create_model(
        DenoiserSpec(**data | {name: getattr(specification, name) for name in ("input", "embed", "head")})
    )
    assert isinstance(model, Denoiser)
    randomise(model)
    assert torch.isfinite(call(model, moved(model.example(2), torch.device("cpu")))).all()


def test_a_network_whose_parts_take_no_condition_is_refused() -> None:
    specification = tiny().specification
    stage = StageSpec(dim=16, blocks=())
    fields = {
        name: getattr(specification, name) for name in ("family", "name", "task", "input", "embed", "out_channels")
    }
    with pytest.raises(UserError, match="No part of dit_s_2 uses the condition"):
        create_model(DenoiserSpec(**fields, stages=(stage,), head=part("unpatchify")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time": None}, "give `time`, one number per sample"),
        ({"time": torch.zeros(3)}, "There are 2 inputs and 3 of `time`"),
        ({"time": torch.zeros(2, 1)}, "one time per sample"),
        ({"label": torch.tensor([0, 6])}, "from 0 to 4, or 5 for no class, and labels from 0 to 6"),
        ({"label": torch.tensor([-1, 0])}, "labels from -1 to 0"),
        ({"label": torch.tensor([0])}, "There are 2 inputs and 1 of `label`"),
        ({"label": torch.zeros(2)}, "one class per sample"),
        ({"input": torch.zeros(2, 3, 8, 4).double()}, r"\(batch, 2, height, width\)"),
        ({"input": torch.zeros(2, 2, 8, 8).double()}, r"made for 8 tokens \(4 x 2\).*got 16 tokens \(4 x 4\)"),
        ({"input": torch.zeros(2, 2, 9, 4).double()}, "9 x 4 is no whole number of patches: 8 x 4"),
        ({"context": Context(memory=torch.zeros(2, 3, 16))}, "memory"),
    ],
)
def test_what_it_cannot_take_is_said(change: dict[str, Any], message: str) -> None:
    model = tiny()
    with pytest.raises(UserError, match=message):
        call(model, inputs(model) | change)


@pytest.mark.parametrize(
    ("changes", "told", "message"),
    [
        ({"classes": None}, {"label": torch.tensor([0, 1])}, "was built without classes"),
        ({"null_class": False}, {}, "needs `label`, the class of each sample"),
        ({"null_class": False}, {"label": torch.tensor([0, 5])}, "from 0 to 4 and labels from 0 to 5"),
    ],
)
def test_labels_go_with_classes(changes: dict[str, Any], told: dict[str, Tensor], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny(**changes)(torch.zeros(2, 2, 8, 4).double(), torch.zeros(2), **told)


def test_what_cannot_be_built_is_said() -> None:
    with pytest.raises(UserError, match="10 x 7 is no whole number of patches of 2"):
        create_model("dit_s_2", image_size=(10, 7))
    with pytest.raises(UserError, match="a multiple of 4 channels"):
        create_model("dit_s_2", **(TINY | {"dim": 18}))
    data = tiny().specification.to_dict()
    with pytest.raises(UserError, match="of one size, not padded"):
        create_model(data | {"input": data["input"] | {"sized": True}})


@pytest.mark.parametrize(("target", "axis"), [("head", "residual"), ("embed_time", "condition")])
def test_the_widths_of_tokens_and_of_the_condition_are_permuted_and_cut(target: str, axis: str, tmp_path: Path) -> None:
    model = tiny()
    given, before = inputs(model), model.parameter_count()
    size = find_axis(model, target, axis).size
    with torch.no_grad():
        expected = model(**given)
        permute_entries(model, target, axis, torch.randperm(size).tolist())
        torch.testing.assert_close(model(**given), expected, rtol=1e-10, atol=1e-10)
        model.record_edits([keep_entries(model, target, axis, range(0, size, 2))])
        assert model.parameter_count() < before
        model.float().save_pretrained(tmp_path)
        given = {name: x.float() if x.is_floating_point() else x for name, x in given.items()}
        assert torch.equal(from_pretrained(tmp_path)(**given), model(**given))

"""Every kind of network that is no chain, as a toy, keeps what all networks promise."""

from __future__ import annotations

import copy
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from formwright.batch import Outputs, call
from formwright.deployment import OnnxModel, export_onnx
from formwright.errors import UserError
from formwright.models import NETWORKS, Network, build_network, empty_copy, from_pretrained, load_checkpoint
from formwright.nn import Part
from formwright.nn.edits import apply_edits, keep_entries
from formwright.nn.specification import EditSpec, NetworkSpec
from tests.conformance.instances import ONE_BLOCK, TINY_NETWORKS, named_inputs, tiny_network

each_network = pytest.mark.parametrize("name", TINY_NETWORKS)


def named(outputs: Outputs) -> dict[str, Tensor]:
    return dict(outputs) if isinstance(outputs, Mapping) else {"output": outputs}


def cast(inputs: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: x.to(dtype) if x.is_floating_point() else x for name, x in inputs.items()}


def assert_equal(got: Outputs, expected: Outputs, tolerance: float = 1e-9) -> None:
    got, expected = named(got), named(expected)
    assert set(got) == set(expected)
    for name, x in expected.items():
        torch.testing.assert_close(got[name], x, rtol=tolerance, atol=tolerance)


def free_axes(model: Network) -> dict[str, dict[int, Any]]:
    """Every axis of every input that may have any size, up to what tables are made for; one dimension for each name.

    Grids that become coarser, or coarser and finer again, have no such ranges: what holds for their sides is checked at
    each call, because torch.export cannot prove it (a side is never a multiple of its double).
    """
    longest = {"batch": 64}
    smaller = halves(model)
    for name, x in named_inputs(model).items():
        for axis, what in model.inputs[name].free.items():
            if smaller[name].shape[axis] != x.shape[axis]:
                longest.setdefault(what, x.shape[axis])
    dims = {what: torch.export.Dim(what, min=1, max=size) for what, size in longest.items()}
    if hasattr(model, "stride") or hasattr(model, "neck"):
        dims = dict.fromkeys(dims, torch.export.Dim.DYNAMIC)
    return {
        name: {axis: dims[what] for axis, what in source.free.items() if what in dims}
        for name, source in model.inputs.items()
    }


def halves(model: Network, batch: int = 2) -> dict[str, Tensor]:
    """Inputs half as long, high and wide as the network is made for; whole ones where its tables are for one size."""
    whole = named_inputs(model, batch)
    halved = dict(whole)
    for name, source in model.inputs.items():
        for axis, what in source.free.items():
            if what != "batch":
                halved[name] = halved[name].narrow(axis, 0, halved[name].shape[axis] // 2).contiguous()
    try:
        call(model, halved)
    except UserError:
        return whole
    return halved


def test_each_kind_has_a_toy() -> None:
    kinds = {tiny_network(name).specification.kind for name in TINY_NETWORKS}
    assert kinds == set(NETWORKS) - {"chain"}, "a kind of network without an entry in TINY_NETWORKS"


@each_network
def test_outputs_and_features(name: str) -> None:
    model = tiny_network(name)
    for batch in (2, 1):
        inputs = named_inputs(model, batch)
        for output in named(call(model, inputs)).values():
            assert output.shape[0] == batch
            assert torch.isfinite(output).all()
        maps = model.features(inputs)
        assert [(grid.shape[0], grid.shape[-1]) for grid in maps] == [(batch, info.dim) for info in model.feature_info]
    if maps:  # not every network is made of stages
        last = model.feature_info[-1].name
        torch.testing.assert_close(model.features(inputs, at=[last])[0], maps[-1])


@each_network
def test_no_samples_give_none(name: str) -> None:
    model = tiny_network(name)
    inputs = named_inputs(model)
    expected = named(call(model, inputs))
    for training in (True, False):
        outputs = named(call(model.train(training), {key: x[:0] for key, x in inputs.items()}))
        assert expected.keys() <= outputs.keys()  # in training, there may be answers of earlier layers as well
        assert all(outputs[key].shape == x[:0].shape for key, x in expected.items())
        sum(x.sum() for x in outputs.values()).backward()  # type: ignore[union-attr]
    assert not any(p.grad.any() for p in model.parameters() if p.grad is not None)


@each_network
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_mapped_over_batches(name: str) -> None:
    model = tiny_network(name)
    batches = [named_inputs(model, seed=seed) for seed in range(3)]
    stacked = {key: torch.stack([batch[key] for batch in batches]) for key in batches[0]}
    outputs = torch.vmap(lambda inputs: named(call(model, inputs)))(stacked)
    for index, batch in enumerate(batches):
        assert_equal({key: x[index] for key, x in outputs.items()}, named(call(model, batch)))


@each_network
def test_number_types(name: str) -> None:
    model, inputs = tiny_network(name), named_inputs(tiny_network(name))
    with torch.inference_mode():
        expected = named(call(model, inputs))
        for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.25)):
            outputs = named(call(copy.deepcopy(model).to(dtype), cast(inputs, dtype)))
            for key, output in outputs.items():
                assert output.dtype is dtype
                assert (output.double() - expected[key]).abs().mean() <= tolerance * expected[key].std()


@each_network
def test_gradients_reach_every_parameter(name: str) -> None:
    model = tiny_network(name)
    generator = torch.Generator().manual_seed(1)
    outputs = named(call(model, named_inputs(model))).values()
    sum((x * torch.randn(x.shape, generator=generator)).sum() for x in outputs).backward()  # type: ignore[union-attr]
    learned = {path: p.grad for path, p in model.named_parameters() if p.requires_grad}
    unreached = [path for path, gradient in learned.items() if gradient is None or not gradient.any()]
    assert not unreached
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@each_network
def test_a_first_step_is_finite(name: str) -> None:
    torch.manual_seed(0)
    model = build_network(tiny_network(name).specification).train()
    outputs = named(call(model, cast(named_inputs(model), torch.float32)))
    for output in outputs.values():
        assert output.std() < 10
    sum(output.square().mean() for output in outputs.values()).backward()  # type: ignore[union-attr]
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@each_network
def test_a_sample_does_not_depend_on_its_neighbours(name: str) -> None:
    model = tiny_network(name)
    inputs = named_inputs(model, 3)
    with torch.inference_mode():
        whole = named(call(model, inputs))
        for index in range(3):
            row = slice(index, index + 1)
            alone = call(model, {key: x[row] for key, x in inputs.items()})
            assert_equal(alone, {key: x[row] for key, x in whole.items()})


@each_network
def test_the_same_seed_gives_the_same_network(name: str) -> None:
    specification, states = tiny_network(name).specification, []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(build_network(specification).state_dict())
    assert all(torch.equal(states[0][path], states[1][path]) for path in states[0])


@each_network
def test_described_and_counted_without_memory(name: str) -> None:
    model = tiny_network(name)
    specification = model.specification
    assert NetworkSpec.from_dict(json.loads(json.dumps(specification.to_dict()))) == specification
    empty = empty_copy(specification).eval()
    assert {n: t.shape for n, t in empty.state_dict().items()} == {n: t.shape for n, t in model.state_dict().items()}
    inputs = {key: x.to("meta") for key, x in cast(named_inputs(model), torch.float32).items()}
    outputs = named(call(empty, inputs))
    assert {key: x.shape for key, x in outputs.items()} == {
        key: x.shape for key, x in named(call(model, named_inputs(model))).items()
    }


@each_network
def test_saved_and_loaded(name: str, tmp_path: Path) -> None:
    model = tiny_network(name).float()
    inputs = cast(named_inputs(model), torch.float32)
    model.save_pretrained(tmp_path)
    assert_equal(call(from_pretrained(tmp_path), inputs), call(model, inputs), tolerance=0)
    other = tiny_network(name, seed=1).float()
    assert load_checkpoint(other, tmp_path) == "formwright"
    assert_equal(call(other, inputs), call(model, inputs), tolerance=0)


_ELSEWHERE = """
import sys, torch
from formwright.batch import call
from formwright.models import from_pretrained
torch.set_num_threads(1)
for folder in sys.argv[1:]:
    inputs, expected = torch.load(f"{folder}/expected.pt")
    outputs = call(from_pretrained(folder), inputs)
    for name, output in (outputs if isinstance(outputs, dict) else {"output": outputs}).items():
        torch.testing.assert_close(output, expected[name], rtol=1e-5, atol=1e-5)
    print(folder)
"""


def test_cut_and_folded_they_load_in_another_process(tmp_path: Path) -> None:
    folders = []
    for name in TINY_NETWORKS:
        model = tiny_network(name).float()
        edits = [EditSpec("fold")]
        apply_edits(model, edits)
        for path, axis, size in itertools.islice(cuttable(model), 1):  # some have their widths alone
            edits.append(keep_entries(model, path, axis, range(size - 1)))
        model.record_edits(edits)
        inputs = cast(named_inputs(model), torch.float32)
        folder = tmp_path / name
        model.save_pretrained(folder)
        torch.save((inputs, {key: x.detach() for key, x in named(call(model, inputs)).items()}), folder / "expected.pt")
        folders.append(str(folder))
    run = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE, *folders], capture_output=True, text=True, check=False, timeout=300
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.split() == folders


def cuttable(model: Network) -> Iterator[tuple[str, str, int]]:
    """Path, axis and size of all that can be cut."""
    for path, part in model.named_modules():
        for axis, attribute in part.resizable.items() if isinstance(part, Part) else ():
            size = getattr(part, attribute)
            if size > 1:
                yield path, axis, size


@each_network
def test_cut_everywhere_saved_and_loaded(name: str, tmp_path: Path) -> None:
    model = tiny_network(name).float()
    before = model.parameter_count()
    edits = [keep_entries(model, path, axis, range(1, size)) for path, axis, size in list(cuttable(model))]
    if not edits:
        assert model.widths(), "a network without anything to cut cannot be pruned"
        pytest.skip("has its widths alone, which are cut in test_widths.py")
    model.record_edits(edits)
    assert model.parameter_count() < before
    model.save_pretrained(tmp_path)
    again = from_pretrained(tmp_path)
    inputs = cast(named_inputs(model), torch.float32)
    assert again.specification.edits == tuple(edits)
    assert_equal(call(again, inputs), call(model, inputs), tolerance=0)


@each_network
def test_what_is_zero_can_be_cut(name: str) -> None:
    """An entry that writes nothing is missed by nobody, whichever it is."""
    model = tiny_network(name)
    inputs = named_inputs(model)
    targets = list(cuttable(model))
    with torch.no_grad():
        for path, axis, _ in targets:
            part = model.get_submodule(path)
            assert isinstance(part, Part)
            for leaf, axes in part.axes().items():
                for dimension, named_axis in enumerate(axes):
                    tensor = part.state_dict().get(leaf)
                    if named_axis is None or named_axis.name != axis or tensor is None or not dimension:
                        continue
                    # The first entry of the axis that is read last: nothing comes out of it.
                    index = torch.arange(named_axis.block)
                    part.get_parameter(leaf).index_fill_(dimension, index, 0.0)
    expected = call(model, inputs)
    model.record_edits([keep_entries(model, path, axis, range(1, size)) for path, axis, size in targets])
    assert_equal(call(model, inputs), expected)


@each_network
def test_folded_saved_and_loaded(name: str, tmp_path: Path) -> None:
    model = tiny_network(name)
    inputs = named_inputs(model)
    expected = call(model, inputs)
    fold = EditSpec("fold")
    apply_edits(model, [fold])
    model.record_edits([fold])
    assert_equal(call(model, inputs), expected, tolerance=1e-8)
    model.float().save_pretrained(tmp_path)
    inputs = cast(inputs, torch.float32)
    assert_equal(call(from_pretrained(tmp_path), inputs), call(model, inputs), tolerance=1e-5)


@each_network
def test_compiled_network_agrees(name: str) -> None:
    model = tiny_network(name)
    torch.compiler.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    inputs = named_inputs(model)
    with torch.no_grad():
        assert_equal(compiled(**inputs), call(model, inputs))


@each_network
def test_exported_network_agrees_at_any_size(name: str) -> None:
    model = tiny_network(name)
    with torch.no_grad():
        shapes = free_axes(model)
        module = torch.export.export(model, (), kwargs=halves(model), dynamic_shapes=shapes).module()
        for inputs in (halves(model), named_inputs(model, 1), named_inputs(model, 3)):
            assert_equal(module(**inputs), call(model, inputs))


@each_network
def test_onnx_agrees_at_any_size(name: str, tmp_path: Path) -> None:
    model = tiny_network(name, **ONE_BLOCK.get(name, {}))
    axes = {model.inputs[key].free[axis] for key, own in free_axes(model).items() for axis in own} - {"batch"}
    sizes = [cast(inputs, torch.float32) for inputs in (halves(model), named_inputs(model, 1), named_inputs(model, 3))]
    model = model.float()
    export_onnx(model, tmp_path / "model.onnx", sizes[0], free=axes)
    run = OnnxModel(tmp_path / "model.onnx", threads=1)
    for inputs in sizes:
        with torch.inference_mode():
            expected = named(call(model, inputs))
        got = run({key: x.numpy() for key, x in inputs.items()})
        got = got if isinstance(got, Mapping) else {"output": got}
        assert_equal({key: torch.from_numpy(x) for key, x in got.items()}, expected, tolerance=1e-3)


@each_network
def test_inputs_of_other_names_are_refused(name: str) -> None:
    model = tiny_network(name)
    inputs = named_inputs(model)
    with pytest.raises(UserError, match=r"takes .*got.*nonsense"):
        call(model, {**inputs, "nonsense": torch.zeros(2)})
    first = next(iter(inputs))
    if isinstance(model.example(1), Mapping):
        with pytest.raises(UserError, match=r"takes .*got a single tensor"):
            call(model, inputs[first])
        with pytest.raises(UserError, match=rf"takes .*got {first}"):
            call(model, {first: inputs[first]})


@each_network
def test_weights_of_another_network_are_refused(name: str) -> None:
    model = tiny_network(name)
    other = next(key for key in TINY_NETWORKS if key != name)
    with pytest.raises(UserError, match="another model"):
        load_checkpoint(model, tiny_network(other).state_dict())

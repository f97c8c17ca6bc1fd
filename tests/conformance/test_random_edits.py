"""Small networks under random edits reload as they are, are smaller where an edit says so, export, and learn on."""

from __future__ import annotations

import copy
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from formwright.deployment.export import export_onnx
from formwright.errors import UserError
from formwright.models import Network, empty_copy
from formwright.nn import part
from formwright.nn.edits import (
    adapt_layer,
    apply_edits,
    drop_branch,
    factorise_layer,
    keep_entries,
    permute_entries,
    quantise_layers,
    replace_part,
)
from formwright.nn.edits.groups import Group, groups_of, width_groups
from formwright.nn.frame import Branch
from formwright.nn.layers import PLAIN, Layer
from formwright.nn.norms import LayerNorm
from formwright.nn.specification import EditSpec
from tests.conformance.instances import answers, named_inputs, toy, toys

NETWORKS = 16
EDITS = 6
EXPORTED = 3


@dataclass
class Sequence:
    """A model under random edits."""

    model: Network
    chance: random.Random
    edits: list[EditSpec] = field(default_factory=list)

    def step(self) -> None:
        """One random edit; kinds that have nothing to work on are drawn again."""
        while True:
            kind: Callable[[Sequence], tuple[EditSpec, bool] | None] = self.chance.choice(KINDS)
            expected, before = answers(self.model, torch.float32), self.model.parameter_count()
            done = kind(self)
            if done is None:
                continue
            edit, smaller = done
            after = self.model.parameter_count()
            assert after < before if smaller else True, f"{edit} left {after} of {before} parameters"
            if kind in (permute, adapt, fold):
                for name, y in answers(self.model, torch.float32).items():
                    tolerance = 1e-3 * float(expected[name].abs().max())
                    torch.testing.assert_close(y, expected[name], rtol=1e-3, atol=tolerance)
            self.edits.append(edit)
            return

    def layer(self) -> str | None:
        """A plain layer that may be replaced, by name."""
        inside = {
            f"{path}.{name}".lstrip(".")
            for path, module in self.model.named_modules()
            if isinstance(module, Layer)
            for name, _ in module.named_modules()
        }
        paths = [
            path
            for path, module in self.model.named_modules()
            if isinstance(module, PLAIN) and getattr(module, "groups", 1) == 1 and path not in inside
        ]
        return self.chance.choice(paths) if paths else None

    def group(self, groups: list[Group]) -> Group | None:
        groups = [group for group in groups if group.size > 1]
        return self.chance.choice(groups) if groups else None


def keep(sequence: Sequence) -> tuple[EditSpec, bool] | None:
    group = sequence.group([*groups_of(sequence.model), *width_groups(sequence.model)])
    if group is None:
        return None
    count = sequence.chance.randint(max(1, group.size // 2), group.size - 1)
    entries = sequence.chance.sample(range(group.size), count)
    return keep_entries(sequence.model, group.target, group.axis, entries), True


def permute(sequence: Sequence) -> tuple[EditSpec, bool] | None:
    group = sequence.group([*groups_of(sequence.model), *width_groups(sequence.model)])
    if group is None:
        return None
    order = sequence.chance.sample(range(group.size), group.size)
    return permute_entries(sequence.model, group.target, group.axis, order), False


def factorise(sequence: Sequence) -> tuple[EditSpec, bool] | None:
    path = sequence.layer()
    if path is None:
        return None
    weight = sequence.model.get_parameter(f"{path}.weight")
    rows, columns = len(weight), weight[0].numel()
    rank = sequence.chance.randint(1, max(1, min(rows, columns) // 2))
    smaller = rank * (rows + columns) < rows * columns
    return factorise_layer(sequence.model, path, rank), smaller


def adapt(sequence: Sequence) -> tuple[EditSpec, bool] | None:
    path = sequence.layer()
    if path is None:
        return None
    by = sequence.chance.choice(["lora", "affine"])
    return adapt_layer(sequence.model, path, by, **({"rank": 1} if by == "lora" else {})), False


def quantise(sequence: Sequence) -> tuple[EditSpec, bool] | None:
    path = sequence.layer()
    if path is None:
        return None
    granularity = sequence.chance.choice(["tensor", "channel", "group"])
    options = {"group": 4} if granularity == "group" else {}
    bits = sequence.chance.choice([3, 4, 8])
    return quantise_layers(sequence.model, path, bits=bits, granularity=granularity, **options), False


def drop(sequence: Sequence) -> tuple[EditSpec, bool] | None:
    paths = [path for path, module in sequence.model.named_modules() if isinstance(module, Branch)]
    if not paths:
        return None
    path = sequence.chance.choice(paths)
    without = copy.deepcopy(sequence.model)
    drop_branch(without, path)
    try:
        without.check_parts()
    except UserError:  # the last part that takes what the network offers
        return None
    return drop_branch(sequence.model, path), any(True for _ in sequence.model.get_submodule(path).parameters())


def replace(sequence: Sequence) -> tuple[EditSpec, bool] | None:
    paths = [
        f"{path}.norm"
        for path, module in sequence.model.named_modules()
        if isinstance(module, Branch) and isinstance(module.norm, LayerNorm)
    ]
    if not paths:
        return None
    return replace_part(sequence.model, sequence.chance.choice(paths), part("rms_norm")), False


def fold(sequence: Sequence) -> tuple[EditSpec, bool] | None:
    edit = EditSpec("fold")
    apply_edits(sequence.model, [edit])
    return edit, False


KINDS = [keep, keep, permute, factorise, factorise, adapt, quantise, drop, replace, fold]


def drawn(seed: int) -> Sequence:
    names = toys()
    sequence = Sequence(toy(names[seed * 11 % len(names)], seed).float(), random.Random(seed))
    with torch.no_grad():
        for _ in range(EDITS):
            sequence.step()
    sequence.model.record_edits(sequence.edits)
    return sequence


RELOAD = """
import sys
from pathlib import Path
from safetensors.torch import load_file, save_file
from formwright.batch import call
from formwright.models import from_pretrained
for folder in map(Path, sys.argv[1:]):
    outputs = call(from_pretrained(folder), load_file(folder / "example.safetensors"))
    outputs = outputs if isinstance(outputs, dict) else {"output": outputs}
    save_file({name: y.detach().contiguous() for name, y in outputs.items()}, folder / "answer.safetensors")
"""


def test_random_edits_of_random_networks(tmp_path: Path) -> None:
    expected: dict[Path, dict[str, Tensor]] = {}
    for seed in range(NETWORKS):
        sequence = drawn(seed)
        model = sequence.model.eval()
        given = {name: x.float() if x.is_floating_point() else x for name, x in named_inputs(model).items()}
        folder = tmp_path / str(seed)
        expected[folder] = answers(model, torch.float32)
        assert empty_copy(model.specification).parameter_count() == model.parameter_count()
        model.save_pretrained(folder)
        save_file({name: x.contiguous() for name, x in given.items()}, folder / "example.safetensors")
        if seed < EXPORTED:
            export_onnx(model, folder / "model.onnx", given)
        losses = [y.square().mean() for y in answers(model.train(), torch.float32).values() if y.requires_grad]
        torch.stack(losses).sum().backward()
        learned = [p for p in model.parameters() if p.grad is not None]
        assert learned, f"nothing of {model.specification.name} learns after {sequence.edits}"
        torch.optim.SGD(learned, 1e-6).step()
        assert all(torch.isfinite(y).all() for y in answers(model.eval(), torch.float32).values())
    subprocess.run([sys.executable, "-c", RELOAD, *map(str, expected)], check=True)
    for folder, outputs in expected.items():
        for name, y in load_file(folder / "answer.safetensors").items():
            expected_y = outputs[name]
            limit = 1e-5 * float(expected_y.abs().max())  # a different number of threads adds in a different order
            torch.testing.assert_close(y, expected_y, rtol=1e-5, atol=limit)


def test_the_edits_drawn_are_of_every_kind() -> None:
    names = {edit.name for seed in range(NETWORKS) for edit in drawn(seed).edits}
    assert names == {"keep", "factorise", "adapt", "quantise", "drop", "replace", "fold"}

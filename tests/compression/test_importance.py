"""Importance against loops, and what an entry costs against cutting it."""

from __future__ import annotations

import pytest
import torch

from formwright.compression.costs import Skeleton
from formwright.compression.importance import magnitude_importance, per_entry, taylor_importance
from formwright.errors import UserError
from formwright.measurement import count_macs
from formwright.models.choices import Choice
from formwright.nn.edits import keep_entries
from formwright.nn.edits.groups import Group, groups_of
from formwright.nn.parts import Axis
from formwright.objectives import Batch, Classification
from tests.compression.models import batches, tiny


def test_entries_are_summed_over_all_that_belongs_to_them() -> None:
    values = torch.arange(2 * 12 * 3, dtype=torch.float32).view(2, 12, 3)
    expected = torch.zeros(3)
    for row in range(12):  # laid out as (2 repeats, 3 entries, block of 2)
        expected[row // 2 % 3] += values[:, row].sum()
    assert torch.equal(per_entry(values, 1, Axis("heads", repeats=2, block=2)), expected)
    behind = torch.cat([torch.ones_like(values[:, :3]), values], dim=1)
    assert torch.equal(per_entry(behind, 1, Axis("heads", repeats=2, block=2, before=3)), expected)


def test_groups_are_the_heads_and_channels_that_can_be_cut() -> None:
    groups = groups_of(tiny("vit_tiny_patch16_224"))
    block = "backbone.stages.0.blocks.0.branches"
    assert groups[:2] == [
        Group(f"{block}.0.part", "heads", 4, single=True),
        Group(f"{block}.1.part", "hidden", 192, single=False),
    ]
    assert len(groups) == 4


def test_taylor_importance_is_its_formula() -> None:
    model = tiny("vit_tiny_patch16_224")
    groups = groups_of(model)
    calibration = batches(model)
    model.get_submodule(groups[1].target).requires_grad_(False)
    scores = taylor_importance(model, groups, calibration, Classification())
    assert all(parameter.grad is None for parameter in model.parameters())
    part = model.get_submodule(groups[1].target)
    assert not any(parameter.requires_grad for parameter in part.parameters())

    model.requires_grad_(True)
    attention, mlp = model.get_submodule(groups[0].target), model.get_submodule(groups[1].target)
    heads, hidden = torch.zeros(4), torch.zeros(192)
    for batch in calibration:
        model.zero_grad()
        Classification()(model, batch, 0.0).loss.backward()
        moved = {name: (p * p.grad).abs().detach() for name, p in mlp.named_parameters()}
        for entry in range(192):
            hidden[entry] += moved["fc1.weight"][entry].sum() + moved["fc1.bias"][entry]
            hidden[entry] += moved["fc2.weight"][:, entry].sum()
        moved = {name: (p * p.grad).abs().detach() for name, p in attention.named_parameters()}
        for head in range(4):
            for start in (0, 48, 96):
                rows = slice(start + 12 * head, start + 12 * head + 12)
                heads[head] += moved["qkv.weight"][rows].sum() + moved["qkv.bias"][rows].sum()
            heads[head] += moved["proj.weight"][:, 12 * head : 12 * head + 12].sum()
    torch.testing.assert_close(scores[0], heads / 2)
    torch.testing.assert_close(scores[1], hidden / 2)


def test_magnitude_compares_entries_of_a_group_only() -> None:
    model = tiny("poolformer_s12")
    groups = groups_of(model)
    before = magnitude_importance(model, groups)
    assert all(score.mean().item() == pytest.approx(1) for score in before)
    with torch.no_grad():
        for parameter in model.get_submodule(groups[0].target).parameters():
            parameter.mul_(3)
    torch.testing.assert_close(magnitude_importance(model, groups), before)


def test_calibration_of_no_use_is_refused() -> None:
    model = tiny("vit_tiny_patch16_224")
    with pytest.raises(UserError, match="no calibration batches"):
        taylor_importance(model, groups_of(model), [], Classification())
    broken = Batch(torch.full((2, 3, 32, 32), torch.nan), torch.tensor([0, 1]))
    with pytest.raises(UserError, match="loss is nan on calibration batch 0"):
        taylor_importance(model, groups_of(model), [broken], Classification())


@pytest.mark.parametrize("macs", [True, False])
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet50"])
def test_an_entry_costs_what_the_whole_model_saves_without_it(name: str, macs: bool) -> None:
    model = tiny(name)
    groups = groups_of(model)
    skeleton = Skeleton(model, macs=macs)
    for group, cost in list(zip(groups, skeleton.entry_costs(groups), strict=True))[:3]:
        smaller = tiny(name)
        keep_entries(smaller, group.target, group.axis, range(group.size - 1))
        if macs:
            image = torch.zeros(1, 3, *model.specification.input.size)
            saved = count_macs(model, image) - count_macs(smaller, image)
        else:
            saved = model.parameter_count() - smaller.parameter_count()
        assert cost == saved
        assert skeleton.cost() - skeleton.cost(Choice({(group.target, group.axis): group.size - 1})) == saved

"""Pruned models are smaller, keep what matters, and live on: trained, saved, loaded, pruned again."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from formwright.compression import fold, prune
from formwright.compression.costs import Skeleton
from formwright.errors import UserError
from formwright.measurement import count_macs
from formwright.models import Model, from_pretrained
from formwright.models.choices import Choice
from formwright.nn.edits.groups import groups_of, width_groups
from formwright.objectives import Classification
from tests.compression.models import TINY, batches, tiny


def macs_of(model: Model) -> int:
    return count_macs(model, torch.zeros(1, 3, *model.specification.input.size))


@pytest.mark.parametrize("name", sorted(TINY.keys() - {"efficientvit_m0_distilled"}))
@pytest.mark.parametrize("calibrated", [True, False])
def test_the_target_is_met_by_cutting_no_more_than_needed(name: str, calibrated: bool) -> None:
    model = tiny(name)
    calibration = batches(model) if calibrated else None
    before, image = macs_of(model), torch.randn(2, 3, *model.specification.input.size)
    expected = model(image)
    pruned = prune(model, calibration, keep=0.8, multiple=4)
    assert 0.7 * before < macs_of(pruned) <= 0.8 * before
    assert pruned.parameter_count() < model.parameter_count()
    assert torch.isfinite(pruned(image)).all()
    assert torch.equal(model(image), expected)
    assert not model.specification.edits
    for group, left in zip(groups_of(model), groups_of(pruned), strict=True):
        assert left.size == group.size or left.single or left.size % 4 == 0
        assert left.size >= math.ceil(0.25 * group.size)


def test_other_targets() -> None:
    model = tiny("poolformer_s12")
    assert macs_of(prune(model, None, macs=macs_of(model) - 1)) < macs_of(model)
    parameters = model.parameter_count()
    assert (
        0.65 * parameters < prune(model, None, parameters=int(0.7 * parameters)).parameter_count() <= 0.7 * parameters
    )
    assert prune(model, None, macs=macs_of(model)).specification == model.specification
    assert 0.7 < macs_of(prune(model, batches(model))) / macs_of(model) <= 0.75


def test_what_does_nothing_goes_first() -> None:
    """Channels and heads whose output is multiplied by zero change no loss, so all of them and nothing else is cut."""
    model = tiny("vit_tiny_patch16_224")
    groups = groups_of(model)
    with torch.no_grad():
        for group in groups:
            part = model.get_submodule(group.target)
            if group.axis == "heads":
                part.proj.weight[:, 12:24] = 0  # the second of four heads
            else:
                part.fc2.weight[:, 5::6] = 0
    idle = {"heads": 1, "hidden": 32}
    left = {(group.target, group.axis): group.size - idle[group.axis] for group in groups}
    target = Skeleton(model, macs=True).cost(Choice(left))
    image = torch.randn(2, 3, 32, 32)
    pruned = prune(model, batches(model), macs=target)
    assert [group.size - left.size for group, left in zip(groups, groups_of(pruned), strict=True)] == [1, 32, 1, 32]
    torch.testing.assert_close(pruned(image), model(image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "efficientvit_m0", "resnet50"])
def test_pruned_trained_saved_loaded_and_pruned_again(name: str, tmp_path: Path) -> None:
    model = tiny(name)
    calibration = batches(model)
    pruned = prune(model, calibration, keep=0.85, multiple=4).train()
    optimizer = torch.optim.SGD(pruned.parameters(), lr=1e-3)
    Classification()(pruned, calibration[0], 0.0).loss.backward()
    optimizer.step()
    pruned.eval().save_pretrained(tmp_path / "once")

    loaded = from_pretrained(tmp_path / "once")
    images = calibration[0].inputs
    assert torch.equal(loaded(images), pruned(images))
    assert loaded.specification == pruned.specification

    here, there = (prune(m, calibration, keep=0.85, multiple=4) for m in (pruned, loaded))
    assert macs_of(there) <= 0.85 * macs_of(loaded)
    assert torch.equal(there(images), here(images))
    there.save_pretrained(tmp_path / "twice")
    again = from_pretrained(tmp_path / "twice")
    assert torch.equal(again(images), here(images))
    assert len(again.specification.edits) > len(loaded.specification.edits)


def test_a_pruned_model_loads_in_a_fresh_process(tmp_path: Path) -> None:
    pruned = fold(prune(tiny("efficientvit_m0"), None, keep=0.8))
    pruned.save_pretrained(tmp_path)
    program = (
        "import sys, torch, formwright\n"
        "model = formwright.from_pretrained(sys.argv[1])\n"
        "print(model.parameter_count(), repr(model(torch.ones(1, 3, 64, 64)).double().sum().item()))"
    )
    run = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    count, total = run.stdout.split()
    assert int(count) == pruned.parameter_count()
    assert float(total) == pytest.approx(pruned(torch.ones(1, 3, 64, 64)).double().sum().item(), rel=1e-5)


def test_folding_and_pruning_go_together_in_either_order() -> None:
    model = tiny("efficientvit_m0")
    images = batches(model)[0].inputs
    folded_last = fold(prune(model, None, keep=0.85))
    pruned_last = prune(fold(model), None, keep=0.85)
    assert folded_last.specification.edits[-1].name == "fold"
    assert pruned_last.specification.edits[0].name == "fold"
    for smaller in (folded_last, pruned_last):
        twin = Model(smaller.specification).eval()
        twin.load_state_dict(smaller.state_dict())
        assert torch.equal(twin(images), smaller(images))


def test_what_cannot_be_done_is_said() -> None:
    model = tiny("vit_tiny_patch16_224")
    with pytest.raises(UserError, match=r"to [\d.]+[kM]? multiply-accumulates at best.*raise the target"):
        prune(model, None, keep=0.05)
    with pytest.raises(UserError, match="one target; got keep and macs"):
        prune(model, None, keep=0.5, macs=100)
    with pytest.raises(UserError, match=r"between 0 and 1, got 1\.5"):
        prune(model, None, keep=1.5)
    with pytest.raises(UserError, match="got 2 and 8"):
        prune(model, None, floor=2)
    with pytest.raises(UserError, match="no calibration batches"):
        prune(model, [])


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "poolformer_s12"])
@pytest.mark.parametrize("calibrated", [True, False])
def test_the_width_of_the_tokens_is_cut_where_it_is_asked_for(name: str, calibrated: bool, tmp_path: Path) -> None:
    model = tiny(name)
    target = int(0.3 * macs_of(model))
    pruned = prune(model, batches(model) if calibrated else None, macs=target, multiple=4, width=True)
    assert macs_of(pruned) <= target
    widths = [
        (before.size, after.size) for before, after in zip(width_groups(model), width_groups(pruned), strict=True)
    ]
    assert any(after < before for before, after in widths)
    assert all(after % 4 == 0 for _, after in widths)
    assert "residual" in {edit.options["axis"] for edit in pruned.specification.edits}
    image = torch.randn(2, 3, *model.specification.input.size)
    pruned.save_pretrained(tmp_path)
    assert torch.equal(from_pretrained(tmp_path)(image), pruned.eval()(image))

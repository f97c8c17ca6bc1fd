"""What is particular to denoisers: how they start, what conditions do, what they learn, and what they cannot take.

What they share with all networks is held by ``tests/conformance/test_networks.py``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from formwright.batch import call, moved
from formwright.catalog.reference import reference_figures, reference_state, sample
from formwright.data.array_batches import ArrayBatches
from formwright.errors import UserError
from formwright.inference.samplers import DDIM, Heun, draw
from formwright.measurement import measure
from formwright.measurement.macs import count_macs
from formwright.models import Network, create_model, empty_copy, from_pretrained, load_checkpoint
from formwright.models.topologies.denoiser import Denoiser, DenoiserSpec
from formwright.nn import Context
from formwright.nn.functional.diffusion import NoiseSchedule
from formwright.nn.positions import grid_sine_table
from formwright.nn.specification import BlockSpec, StageSpec, part
from formwright.objectives.diffusion import Diffusion, FlowMatching
from formwright.training import Recipe, Trainer
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


def test_measured_and_counted_by_name() -> None:
    model = tiny().float()
    told = moved(model.example(1), torch.device("meta"))
    macs = count_macs(empty_copy(model.specification), told)
    lines = measure(model, backends=("eager", "onnx"))
    assert [line.macs for line in lines] == [macs, macs]
    assert measure(model, size=(8, 4), backends=("eager",))[0].macs == macs
    with pytest.raises(UserError, match="measured at its own size"):
        measure(model, size=8)
    block = 8 * 16 * (4 * 16 + 2 * 64) + 2 * 8 * 8 * 16 + 6 * 16 * 16
    ends = 8 * 8 * 16 + 8 * 16 * 16 + 2 * 16 * 16  # patches in and out, and the last modulation
    assert macs == 2 * block + ends + 256 * 16 + 16 * 16


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
        ({"input": torch.zeros(2, 2, 8, 8).double()}, "made for images of 8 x 4, and got 8 x 8; build"),
        ({"context": Context(memory=torch.zeros(2, 3, 16))}, "memory"),
    ],
)
def test_what_it_cannot_take_is_said(change: dict[str, Any], message: str) -> None:
    model = tiny()
    with pytest.raises(UserError, match=message):
        model(**inputs(model) | change)


def patterns() -> tuple[np.ndarray, np.ndarray]:
    """Two pictures of 4 x 4, many times each: halves that are light on the left or on top."""
    left = np.where(np.arange(4) < 2, 1.0, -1.0)[None].repeat(4, 0)
    return np.stack([left, left.T] * 32)[:, None].astype(np.float32), np.array([0, 1] * 32)


@pytest.mark.parametrize("kind", ["diffusion", "flow"])
def test_two_pictures_are_learned_and_drawn_by_averaged_weights(kind: str, tmp_path: Path) -> None:
    pictures, labels = patterns()
    schedule = NoiseSchedule("cosine", 100)
    objective = Diffusion(schedule) if kind == "diffusion" else FlowMatching()
    sampler = DDIM(schedule, 20, clip=1.0) if kind == "diffusion" else Heun(8)
    options = {"dim": 32, "depth": 2, "heads": 2, "classes": 2, "channels": 1, "image_size": 4}
    model = create_model("dit_s_2", **options, learned_variance=kind == "diffusion", end=objective.end)
    recipe = Recipe(learning_rate=0.02, batch_size=32, warmup=10, ema_decay=0.98)
    trainer = Trainer(model, objective, ArrayBatches(pictures, labels, batch_size=32), recipe)
    trainer.finish_at(200)
    trainer.train(steps=200)
    averaged = trainer.averaged_model()
    assert isinstance(averaged, Network)
    averaged.save_pretrained(tmp_path)
    again = from_pretrained(tmp_path)
    wanted = torch.tensor([0, 1] * 8)
    drawn = draw(again, sampler, wanted, guidance=1.5, seed=1)
    assert torch.equal(drawn, draw(averaged, sampler, wanted, guidance=1.5, seed=1))
    assert not torch.allclose(drawn, draw(model, sampler, wanted, guidance=1.5, seed=1), atol=1e-6)
    difference = (drawn[:, None] - torch.from_numpy(pictures[:2])[None]).square().mean((2, 3, 4))
    assert torch.equal(difference.argmin(1), wanted)
    assert float(difference.min(1).values.mean()) < 0.1


def test_without_a_table_it_takes_any_whole_number_of_patches() -> None:
    specification = tiny().specification
    stage = dataclasses.replace(specification.stages[0], entry=())
    source = dataclasses.replace(specification.input, fixed=False)
    model = create_model(dataclasses.replace(specification, stages=(stage,), input=source)).double()
    told = inputs(model)
    assert model(torch.zeros(2, 2, 12, 6).double(), told["time"]).shape == (2, 4, 12, 6)
    with pytest.raises(UserError, match="9 x 4 is no whole number of patches: 8 x 4"):
        model(torch.zeros(2, 2, 9, 4).double(), told["time"])


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

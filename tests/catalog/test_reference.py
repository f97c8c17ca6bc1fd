from __future__ import annotations

import numpy as np
import pytest
import torch

from formwright.catalog.reference import (
    FLOAT32_TOLERANCE,
    FLOAT64_TOLERANCE,
    comparable_outputs,
    fill,
    images,
    output_differences,
    reference_figures,
    reference_state,
    reference_systems,
    reference_variants,
    sample,
    tolerances,
)


def test_the_rule_gives_what_it_gave_when_the_references_were_run() -> None:
    first, second = fill("head.weight", (2, 3)).tolist()
    assert first == pytest.approx([0.256262094, 0.001803058, -0.071482429])
    assert second == pytest.approx([0.246677778, 0.213958456, 0.290753491])
    assert fill("norm.weight", (2,)).tolist() == pytest.approx([1.417919708, 0.637750911])
    assert images((1, 1, 1, 2)).reshape(-1).tolist() == pytest.approx([1.764052346, 0.400157208])


@pytest.mark.parametrize(
    ("name", "shape", "low", "high"),
    [
        ("blocks.0.norm.running_var", (4000,), 0.5, 1.5),
        ("blocks.0.norm.weight", (4000,), 0.5, 1.5),
        ("layer_scale", (4000, 1, 1), 0.5, 1.5),
    ],
)
def test_scales_are_about_one(name: str, shape: tuple[int, ...], low: float, high: float) -> None:
    values = fill(name, shape)
    assert values.shape == shape
    assert low <= values.min() < 0.6
    assert 1.4 < values.max() <= high


@pytest.mark.parametrize(
    ("name", "shape", "deviation"),
    [
        ("norm.running_mean", (4000,), 0.1),
        ("pos_embed", (1, 1000, 4), 0.2),
        ("fc.bias", (4000,), 0.1),
        ("attention_biases", (4, 1000), 0.5),
        ("fc.weight", (100, 100), 0.1),
        ("conv.weight", (100, 4, 5, 5), 0.1),
    ],
)
def test_other_values_are_normal(name: str, shape: tuple[int, ...], deviation: float) -> None:
    values = fill(name, shape)
    assert values.std() == pytest.approx(deviation, rel=0.05)
    assert abs(values.mean()) < 0.1 * deviation


def test_samples_are_evenly_spaced() -> None:
    assert sample(np.arange(64.0).reshape(8, 8)) == list(range(64))
    assert sample(np.arange(1000.0))[::63] == [0, 999]


def test_every_system_has_figures_of_outputs() -> None:
    for system in reference_systems():
        of_variants = any(comparable_outputs(figures) for figures in reference_variants(system).values())
        assert of_variants or reference_figures(system).keys() & {"modules", "outputs"}, system


def test_outputs_of_other_options_are_left_to_the_family() -> None:
    outputs = [{"build": {"img_size": 160}}, {}, {"build": {"positional_embedding": "sine"}}]
    assert comparable_outputs({"outputs": outputs}) == outputs[:2]
    assert comparable_outputs({}) == []


def test_nothing_is_asked_that_the_reference_itself_does_not_give() -> None:
    both = {torch.float64: FLOAT64_TOLERANCE, torch.float32: FLOAT32_TOLERANCE}
    assert tolerances({"std": 2.0, "float32_difference": 1e-6}) == both
    assert tolerances({"std": 2.0, "float32_difference": 1e-3}) == {torch.float64: FLOAT64_TOLERANCE}
    assert tolerances({"std": 2.0, "dtype": "float32"}) == {torch.float32: FLOAT32_TOLERANCE}


def test_integers_are_not_filled_and_other_shapes_replace_their_own() -> None:
    layout = [["table", [4, 2], "float32"], ["index", [4], "int64"], ["weight", [3], "float32"]]
    state = reference_state(layout, {"table": [9, 2]})
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {"table": (9, 2), "weight": (3,)}
    assert state["table"].dtype is torch.float64


def test_an_output_of_another_shape_is_infinitely_far() -> None:
    figures = reference_variants("cct")["vit_2_4_32"]
    output = {**figures["outputs"][0], "output_shape": [1, 11]}
    assert output_differences("vit_2_4_32", figures, output, [torch.float32]) == {torch.float32: float("inf")}

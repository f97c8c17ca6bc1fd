"""Small decoders of bytes: their data, their training, and the references they are held to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from formwright.catalog.claims.matformer import nested_differences
from formwright.catalog.claims.polycom import output_differences as activation_differences
from formwright.catalog.claims.pre_rmsnorm import example_differences
from formwright.catalog.experiments.texts import (
    IN_TRAINING,
    LENGTH,
    VOCABULARY,
    TextWindows,
    held_out_loss,
    new_model,
    once,
    small_decoder,
    small_text,
    text_contest,
    train_text,
)
from formwright.catalog.reference import FLOAT32_TOLERANCE, FLOAT64_TOLERANCE
from formwright.nn.specification import ChainSpec, part
from formwright.reporting import SILENT


@pytest.fixture(autouse=True)
def installed_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORMWRIGHT_DATA", raising=False)
    small_text.cache_clear()


def decoder() -> ChainSpec:
    return small_decoder(part("mlp", ratio=2.0), dim=16, depth=1)


def test_without_data_the_text_is_one_that_is_installed() -> None:
    text = small_text()
    assert "torch" in text.source
    assert len(text.train) > 9 * len(text.test) - 10 > 100_000


def test_targets_are_one_byte_ahead_and_batches_continue() -> None:
    text = np.arange(200, dtype=np.uint8)
    batches = TextWindows(text, seed=3)
    batch = next(batches)
    assert batch.inputs.shape == batch.targets.shape == (16, LENGTH)
    assert torch.equal(batch.targets, batch.inputs + 1)
    state, second = batches.state_dict(), next(batches)
    again = TextWindows(text, seed=9)
    again.load_state_dict(state)
    assert torch.equal(next(again).inputs, second.inputs)
    assert not torch.equal(batch.inputs, second.inputs)


def test_a_training_learns_and_the_same_seed_gives_the_same_loss() -> None:
    model = new_model(decoder(), 0)
    untrained = held_out_loss(model, small_text())
    assert untrained == pytest.approx(np.log(VOCABULARY), abs=0.3)
    losses = [train_text(new_model(decoder(), 0), steps=12, seed=1).loss for _ in range(2)]
    assert losses[0] == losses[1] < untrained - 0.1


def test_a_contest_trains_once_and_tells_losses_of_text_or_of_training() -> None:
    contest = text_contest({"one": decoder, "other": lambda: small_decoder(part("glu"), dim=16, depth=1)}, steps=3)
    contest.seeds = (0,)
    first = contest.claim("a", "a", holds=lambda loss: set(loss) == {"one", "other"}).run(SILENT)
    second = contest.claim("b", "b", holds=lambda loss: False, by=IN_TRAINING).run(SILENT)
    assert (first.holds, second.holds) == (True, False)
    assert first.measured in second.details
    assert second.measured in first.details
    trained = contest.results()
    assert contest.results() is trained


def test_an_experiment_is_made_once() -> None:
    made = []

    @once
    def experiment(reporter: object) -> int:
        made.append(reporter)
        return len(made)

    assert experiment(SILENT) == experiment(SILENT) == 1


def test_models_cut_out_are_the_authors_sub_networks() -> None:
    assert max(nested_differences().values()) <= FLOAT32_TOLERANCE


def test_norms_are_replaced_as_in_the_authors_example() -> None:
    differences = example_differences()
    assert set(differences) == {"layer_norm", "rms_norm", "crms_norm"}
    assert max(differences.values()) <= FLOAT64_TOLERANCE


def test_activations_are_the_authors() -> None:
    differences = activation_differences()
    assert set(differences) == {"poly_norm", "poly_relu"}
    assert max(differences.values()) <= FLOAT64_TOLERANCE

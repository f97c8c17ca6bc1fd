"""Matching and losses of sets: against transformers' DETR loss, against all assignments, and what cannot be."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.loss.loss_for_object_detection import HungarianMatcher, ImageLoss

from formwright.errors import UserError
from formwright.nn.functional.boxes import NO_OBJECT
from formwright.objectives import Batch, SetPrediction, means
from formwright.objectives.sets import matched

CLASSES, QUERIES = 4, 7


class Same(nn.Module):
    """Answers with what it is given by name."""

    def forward(self, **answers: Tensor) -> dict[str, Tensor]:
        return answers


def boxes(*shape: int, generator: torch.Generator) -> Tensor:
    size = 0.1 + 0.3 * torch.rand(*shape, 2, generator=generator, dtype=torch.float64)
    centre = size / 2 + (1 - size) * torch.rand(*shape, 2, generator=generator, dtype=torch.float64)
    return torch.cat([centre, size], -1)


def example(layers: int = 1, counts: tuple[int, ...] = (3, 0, 5), seed: int = 0) -> tuple[dict[str, Tensor], Batch]:
    """Answers of ``layers`` sets, and a batch of targets with a number of objects for each picture."""
    generator = torch.Generator().manual_seed(seed)
    answers = {}
    for layer in range(layers):
        name = "" if layer == layers - 1 else f"_{layer}"
        answers[f"classes{name}"] = torch.randn(
            len(counts), QUERIES, CLASSES + 1, generator=generator, dtype=torch.float64
        )
        answers[f"boxes{name}"] = boxes(len(counts), QUERIES, generator=generator)
    classes = torch.randint(CLASSES, (len(counts), 6), generator=generator)
    placed = boxes(len(counts), 6, generator=generator)
    for row, count in enumerate(counts):
        classes[row, count:], placed[row, count:] = NO_OBJECT, 0
    return answers, Batch(answers, {"classes": classes, "boxes": placed})


def theirs(targets: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    return [
        {"class_labels": number[number != NO_OBJECT], "boxes": box[number != NO_OBJECT]}
        for number, box in zip(targets["classes"], targets["boxes"], strict=True)
    ]


@pytest.mark.parametrize("counts", [(3, 0, 5), (1,), (6, 6), (0, 2)])
def test_equal_to_transformers(counts: tuple[int, ...]) -> None:
    answers, batch = example(counts=counts)
    outcome = SetPrediction()(Same(), batch, 0.0)
    matcher = HungarianMatcher(class_cost=1, bbox_cost=5, giou_cost=2)
    loss = ImageLoss(matcher, CLASSES, eos_coef=0.1, losses=["labels", "boxes"]).double()
    given = {"logits": answers["classes"], "pred_boxes": answers["boxes"]}
    parts = loss(given, theirs(batch.targets))
    expected = parts["loss_ce"] + 5 * parts["loss_bbox"] + 2 * parts["loss_giou"]
    torch.testing.assert_close(outcome.loss, expected, rtol=1e-6, atol=1e-6)
    found = matched(
        SetPrediction().costs(answers["classes"], answers["boxes"], **batch.targets), batch.targets["classes"]
    )
    for sample, (queries, objects) in enumerate(matcher(given, theirs(batch.targets))):
        own = found[0] == sample
        assert dict(zip(found[1][own].tolist(), found[2][own].tolist(), strict=True)) == dict(
            zip(queries.tolist(), objects.tolist(), strict=True)
        )


def test_the_assignment_is_the_best_of_all() -> None:
    answers, batch = example(counts=(3, 4), seed=3)
    costs = SetPrediction().costs(answers["classes"], answers["boxes"], **batch.targets)
    sample, answer, target = matched(costs, batch.targets["classes"])
    for row, count in enumerate((3, 4)):
        own = sample == row
        assert sorted(target[own].tolist()) == list(range(count))
        least = min(
            sum(float(costs[row, query, number]) for number, query in enumerate(queries))
            for queries in itertools.permutations(range(QUERIES), count)
        )
        assert float(costs[row, answer[own], target[own]].sum()) == pytest.approx(least, abs=1e-5)


def test_every_layer_has_its_own_matches() -> None:
    answers, batch = example(layers=3)
    whole = SetPrediction()(Same(), batch, 0.0)
    alone = 0.0
    for name in ("", "_0", "_1"):
        one = {"classes": answers[f"classes{name}"], "boxes": answers[f"boxes{name}"]}
        outcome = SetPrediction()(Same(), Batch(one, batch.targets), 0.0)
        alone += float(outcome.loss)
        if not name:
            last = outcome
    assert float(whole.loss) == pytest.approx(alone)
    for name in ("accuracy", "l1", "giou"):
        assert means([whole])[name] == pytest.approx(means([last])[name])


def test_answers_that_are_right_cost_next_to_nothing() -> None:
    _, batch = example(counts=(2, 3))
    scores = torch.full((2, QUERIES, CLASSES + 1), -9.0, dtype=torch.float64)
    scores[..., -1] = 9
    placed = torch.full((2, QUERIES, 4), 0.5, dtype=torch.float64)
    for row, count in enumerate((2, 3)):
        for number in range(count):
            query = QUERIES - 1 - 2 * number
            scores[row, query] = -9
            scores[row, query, batch.targets["classes"][row, number]] = 9
            placed[row, query] = batch.targets["boxes"][row, number]
    outcome = SetPrediction()(Same(), Batch({"classes": scores, "boxes": placed}, batch.targets), 0.0)
    assert float(outcome.loss) < 1e-6
    counted = means([outcome])
    assert counted["accuracy"] == 1
    assert counted["giou"] == pytest.approx(1)
    assert counted["l1"] == pytest.approx(0)
    assert outcome.counts == {"loss": 2, "accuracy": 5, "l1": 5, "giou": 5}


def test_the_order_of_objects_and_empty_rows_does_not_matter() -> None:
    answers, batch = example(counts=(3, 2))
    order = [4, 2, 0, 5, 1, 3]
    moved = {name: x[:, order] for name, x in batch.targets.items()}
    expected = SetPrediction()(Same(), batch, 0.0).loss
    torch.testing.assert_close(SetPrediction()(Same(), Batch(answers, moved), 0.0).loss, expected)


def test_pictures_without_objects_teach_that_there_is_nothing() -> None:
    answers, batch = example(counts=(0, 0))
    scores = answers["classes"].requires_grad_()
    placed = answers["boxes"].requires_grad_()
    outcome = SetPrediction()(Same(), Batch({"classes": scores, "boxes": placed}, batch.targets), 0.0)
    outcome.loss.backward()
    assert (scores.grad[..., -1] < 0).all()
    assert not placed.grad.any()
    assert means([outcome]) == {"loss": float(outcome.loss.detach())}
    none = {name: x[:, :0] for name, x in batch.targets.items()}
    torch.testing.assert_close(SetPrediction()(Same(), Batch(answers, none), 0.0).loss, outcome.loss)


def test_what_is_no_number_is_a_loss_that_is_none() -> None:
    answers, batch = example()
    answers["boxes"][0, 0] = torch.nan
    answers["classes"][0, 0] = torch.nan
    assert torch.isnan(SetPrediction()(Same(), batch, 0.0).loss)


def changed(batch: Batch, **changes: Tensor) -> Batch:
    return Batch(batch.inputs, {**batch.targets, **changes})


def test_what_does_not_fit_is_said() -> None:
    _, batch = example()
    classes, placed = batch.targets["classes"], batch.targets["boxes"]
    outside = placed.clone()
    outside[2, 1] = torch.tensor([0.9, 0.5, 0.4, 0.2])
    pixels = torch.where(placed > 0, placed * 64, placed)
    cases: list[tuple[Any, str]] = [
        (changed(batch, boxes=outside), r"box \(0\.9, 0\.5, 0\.4, 0\.2\) does not lie inside its picture"),
        (changed(batch, boxes=pixels), "does not lie inside its picture"),
        (changed(batch, boxes=placed[:, :2]), r"boxes` \(3, most, 4\); got .* and \(3, 2, 4\)"),
        (changed(batch, classes=classes.double()), "whole numbers"),
        (changed(batch, classes=classes.clamp(min=-3)), "4 classes, from 0, and objects of classes from -3"),
        (changed(batch, classes=torch.where(classes == 3, 4, classes)), "classes from 0 to 4"),
        (Batch(batch.inputs, classes), "mapping with `classes` and `boxes`"),
    ]
    for wrong, message in cases:
        with pytest.raises(UserError, match=message):
            SetPrediction()(Same(), wrong, 0.0)
    few = Batch({name: x[:, :4] for name, x in batch.inputs.items()}, batch.targets)
    with pytest.raises(UserError, match="has 5 objects, and the model gives 4 answers"):
        SetPrediction()(Same(), few, 0.0)

"""Cross entropy and overlap at each place, against loops; places that do not count, and what cannot be."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.objectives import Batch, DenseClassification, means


class Same(nn.Module):
    """Answers with its input."""

    def forward(self, input: Tensor) -> Tensor:
        return input


def example(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    targets = torch.randint(3, (2, 4, 5), generator=generator)
    targets[:, 3] = 9
    targets[0, 0][targets[0, 0] == 2] = 1
    return scores, targets


def looped(scores: Tensor, targets: Tensor, ignored: int) -> tuple[float, float, float, list[float]]:
    """Mean cross entropy, accuracy, mean Dice and each sample's overlaps, one place at a time."""
    entropies, right, overlaps = [], [], []
    both, ours, theirs = [0.0] * 3, [0.0] * 3, [0.0] * 3
    for sample in range(2):
        sets: dict[int, tuple[set, set]] = {k: (set(), set()) for k in range(3)}
        for i in range(4):
            for j in range(5):
                target = int(targets[sample, i, j])
                if target == ignored:
                    continue
                row = scores[sample, :, i, j]
                shares = row.exp() / row.exp().sum()
                entropies.append(-math.log(shares[target]))
                right.append(float(row.argmax() == target))
                sets[target][0].add((i, j))
                sets[int(row.argmax())][1].add((i, j))
                for k in range(3):
                    ours[k] += float(shares[k])
                    theirs[k] += float(target == k)
                    both[k] += float(shares[k]) * (target == k)
        overlaps += [len(given & found) / len(given | found) for given, found in sets.values() if given]
    dices = [2 * both[k] / (ours[k] + theirs[k]) for k in range(3) if theirs[k]]
    return sum(entropies) / len(entropies), sum(right) / len(right), sum(dices) / len(dices), overlaps


@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_what_loops_give(seed: int) -> None:
    scores, targets = example(seed)
    entropy, accuracy, dice, overlaps = looped(scores, targets, 9)
    batch = Batch(scores.requires_grad_(), targets)
    plain = DenseClassification(ignored=9)(Same(), batch, 0.0)
    both = DenseClassification(0.5, ignored=9)(Same(), batch, 0.0)
    assert plain.loss.item() == pytest.approx(entropy, rel=1e-12)
    assert both.loss.item() == pytest.approx(entropy + 0.5 * (1 - dice), rel=1e-12)
    scored = means([plain])
    assert scored["loss"] == pytest.approx(entropy)
    assert scored["accuracy"] == pytest.approx(accuracy)
    assert scored["iou"] == pytest.approx(sum(overlaps) / len(overlaps), rel=1e-6)
    assert plain.counts == {"loss": 30, "accuracy": 30, "iou": len(overlaps)}
    both.loss.backward()
    assert scores.grad is not None
    assert (scores.grad[:, :, 3] == 0).all()
    assert (scores.grad[:, :, :3] != 0).all()


def test_halves_of_a_batch_average_to_the_whole() -> None:
    scores, targets = example()
    objective = DenseClassification(ignored=9)
    whole = means([objective(Same(), Batch(scores, targets), 0.0)])
    halves = means(objective(Same(), Batch(scores[i : i + 1], targets[i : i + 1]), 0.0) for i in range(2))
    assert halves == pytest.approx(whole)


def test_a_batch_in_which_nothing_counts_has_no_loss() -> None:
    scores, targets = example()
    outcome = DenseClassification(1.0, ignored=9)(Same(), Batch(scores, torch.full_like(targets, 9)), 0.0)
    assert float(outcome.loss) == 0
    assert outcome.counts == {"loss": 0, "accuracy": 0, "iou": 0}


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (
            torch.zeros(2, 4, 4, dtype=torch.int64),
            r"whole numbers of shape \(2, 4, 5\).*got torch.int64 of shape \(2, 4, 4\)",
        ),
        (torch.zeros(2, 4, 5), r"got torch.float32"),
        (torch.full((2, 4, 5), 3), "There are 3 classes, from 0, and targets from 3 to 3"),
        (torch.full((2, 4, 5), -1), "targets from -1 to -1; places that do not count have the target -100"),
    ],
)
def test_targets_that_cannot_be_are_said(targets: Tensor, message: str) -> None:
    with pytest.raises(UserError, match=message):
        DenseClassification()(Same(), Batch(example()[0], targets), 0.0)


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(UserError, match="at least 0, got -1"):
        DenseClassification(-1)

"""Boxes: both forms, overlaps worked out by hand and those of transformers, and what lies outside of a picture."""

from __future__ import annotations

import pytest
import torch
from transformers.loss.loss_for_object_detection import box_iou, generalized_box_iou

from formwright.errors import UserError
from formwright.nn.functional.boxes import check_boxes, generalised_overlaps, overlaps, to_centres, to_corners


def corners(*boxes: tuple[float, float, float, float]) -> torch.Tensor:
    return torch.tensor(boxes, dtype=torch.float64)


def drawn(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    low, size = torch.rand(2, count, 2, generator=generator, dtype=torch.float64)
    return torch.cat([low, low + size], 1)


def test_both_forms() -> None:
    assert to_corners(torch.tensor([[0.5, 0.4, 0.2, 0.4]])).tolist() == [
        [pytest.approx(x) for x in (0.4, 0.2, 0.6, 0.6)]
    ]
    boxes = drawn(20, 0)
    torch.testing.assert_close(to_corners(to_centres(boxes)), boxes)


@pytest.mark.parametrize(
    ("first", "second", "iou", "giou"),
    [
        ((0, 0, 2, 2), (0, 0, 2, 2), 1, 1),
        ((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7, 1 / 7 - 2 / 9),
        ((0, 0, 2, 2), (0, 1, 2, 3), 1 / 3, 1 / 3),
        ((0, 0, 1, 1), (2, 0, 3, 1), 0, -1 / 3),
        ((0, 0, 1, 1), (9, 9, 10, 10), 0, -0.98),
        ((1, 1, 1, 1), (1, 1, 1, 1), 0, 0),
        ((0, 0, 4, 4), (1, 1, 1, 3), 0, 0),
    ],
)
def test_worked_out_by_hand(first: tuple[float, ...], second: tuple[float, ...], iou: float, giou: float) -> None:
    one, other = corners(first), corners(second)  # type: ignore[arg-type]
    assert overlaps(one, other)[0].item() == pytest.approx(iou)
    assert generalised_overlaps(one, other).item() == pytest.approx(giou)
    assert generalised_overlaps(other, one).item() == pytest.approx(giou)


def test_equal_to_transformers() -> None:
    first, second = drawn(30, 1), drawn(40, 2)
    ours = overlaps(first[:, None], second[None])
    for own, theirs in zip(ours, box_iou(first, second), strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-12, atol=1e-12)
    expected = generalized_box_iou(first, second)
    torch.testing.assert_close(generalised_overlaps(first[:, None], second[None]), expected, rtol=1e-12, atol=1e-12)


def test_gradients_are_finite_for_boxes_without_area() -> None:
    first = corners((1, 1, 1, 1), (0, 0, 2, 2)).requires_grad_()
    generalised_overlaps(first, corners((1, 1, 1, 1), (3, 3, 3, 4))).sum().backward()
    assert first.grad is not None
    assert torch.isfinite(first.grad).all()


def test_boxes_outside_of_the_picture_are_refused() -> None:
    inside = torch.tensor([[0.5, 0.5, 1.0, 1.0], [0.05, 0.9, 0.1, 0.2]])
    check_boxes(inside)
    check_boxes(inside[:0])
    for wrong in (
        [0.95, 0.5, 0.2, 0.2],
        [0.1, 0.5, 0.3, 0.1],
        [0.5, 0.5, 0.0, 0.1],
        [0.5, 0.5, 0.1, -0.1],
        [32, 32, 8, 8],
    ):
        with pytest.raises(UserError, match=r"The box \(.*\) does not lie inside its picture"):
            check_boxes(torch.cat([inside, torch.tensor([wrong], dtype=torch.float32)]))
    with pytest.raises(UserError, match=r"The box \(nan"):
        check_boxes(torch.full((1, 4), torch.nan))

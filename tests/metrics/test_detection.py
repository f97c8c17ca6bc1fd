"""COCO's average precision: cases worked out by hand, and figures of pycocotools and torchmetrics."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from formwright.errors import UserError
from formwright.metrics.detection import DetectionScores, Objects, box_overlaps, detection_scores


def objects(*rows: tuple[int, tuple[float, float, float, float]], scores: tuple[float, ...] | None = None) -> Objects:
    boxes = np.array([box for _, box in rows], np.float64).reshape(-1, 4)
    classes = np.array([number for number, _ in rows], np.int64)
    return Objects(boxes, classes, None if scores is None else np.array(scores))


A, B, FAR = (0, 0, 10, 10), (20, 20, 40, 40), (60, 60, 70, 70)


def test_all_found_and_nothing_found() -> None:
    truth = [objects((0, A), (1, B)), objects()]
    perfect = [objects((0, A), (1, B), scores=(0.9, 0.2)), objects(scores=())]
    assert detection_scores(perfect, truth, 3) == DetectionScores(1.0, 1.0, 1.0, [1.0, 1.0, None])
    nothing = [objects(scores=()), objects(scores=())]
    assert detection_scores(nothing, truth, 2) == DetectionScores(0.0, 0.0, 0.0, [0.0, 0.0])
    exchanged = [objects((1, A), (0, B), scores=(0.9, 0.2)), objects(scores=())]
    assert detection_scores(exchanged, truth, 2).map_50 == 0


def test_a_false_box_in_front_halves_precision() -> None:
    truth = [objects((0, A))]
    assert detection_scores([objects((0, FAR), (0, A), scores=(0.9, 0.8))], truth, 1).map_50 == pytest.approx(0.5)
    assert detection_scores([objects((0, A), (0, FAR), scores=(0.9, 0.8))], truth, 1).map_50 == pytest.approx(1.0)


def test_a_second_box_on_an_object_is_false() -> None:
    truth = [objects((0, A), (0, B))]
    found = [objects((0, A), (0, A), (0, B), scores=(0.9, 0.8, 0.7))]
    # Precision is 1 up to a recall of a half (51 of 101 places), and 2 / 3 from there on.
    assert detection_scores(found, truth, 1).map_50 == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_half_of_the_objects_found() -> None:
    truth, found = [objects((0, A), (0, B))], [objects((0, B), scores=(0.4,))]
    assert detection_scores(found, truth, 1).mean_average_precision == pytest.approx(51 / 101)


def test_a_shifted_box_counts_at_low_overlaps_only() -> None:
    shifted = (0, 2, 10, 12)  # overlaps A by 80 of 120, which is 0.667: the thresholds 0.5 to 0.65
    assert box_overlaps(np.array([shifted]), np.array([A]))[0, 0] == pytest.approx(2 / 3)
    scores = detection_scores([objects((0, shifted), scores=(1.0,))], [objects((0, A))], 1)
    assert (scores.map_50, scores.map_75) == (1.0, 0.0)
    assert scores.mean_average_precision == pytest.approx(0.4)
    assert scores.to_dict()["of_classes"] == [pytest.approx(0.4)]


def test_a_box_takes_the_free_object_that_it_overlaps_most() -> None:
    near = (1, 0, 11, 10)
    truth = [objects((0, A), (0, near))]
    found = [objects((0, near), (0, near), scores=(0.9, 0.8))]
    assert detection_scores(found, truth, 1).map_50 == pytest.approx(1.0)  # the second takes the other one
    assert detection_scores(found, truth, 1).map_75 == pytest.approx(1.0)
    assert detection_scores(found, truth, 1).mean_average_precision < 1.0


def drawn(seed: int, pictures: int = 30, classes: int = 3) -> tuple[list[Objects], list[Objects]]:
    """Random objects, and random answers near half of them."""
    random = np.random.RandomState(seed)
    truth, found = [], []
    for _ in range(pictures):
        count = random.randint(0, 6)
        low = random.uniform(0, 80, (count, 2))
        boxes = np.concatenate([low, low + random.uniform(5, 40, (count, 2))], 1)
        kinds = random.randint(0, classes, count)
        truth.append(Objects(boxes, kinds))
        moved = boxes + random.uniform(-2.4, 2.4, boxes.shape)
        extra = random.randint(0, 5)
        low = random.uniform(0, 80, (extra, 2))
        noise = np.concatenate([low, low + random.uniform(5, 40, (extra, 2))], 1)
        guessed = np.where(random.uniform(size=count) < 0.8, kinds, random.randint(0, classes, count))
        every = np.concatenate([guessed, random.randint(0, classes, extra)])
        # Few levels of scores, so that there are equal ones.
        scores = np.round(random.uniform(size=count + extra), 1)
        found.append(Objects(np.concatenate([moved, noise]), every, scores))
    return found, truth


def test_equal_to_pycocotools() -> None:
    figures = json.loads((Path(__file__).parent / "detection.json").read_text())
    assert figures["cases"]
    for case in figures["cases"]:
        scores = detection_scores(*drawn(case["seed"]), 3)
        assert scores.mean_average_precision == pytest.approx(case["map"], abs=1e-9)
        assert scores.map_50 == pytest.approx(case["map_50"], abs=1e-9)
        assert scores.map_75 == pytest.approx(case["map_75"], abs=1e-9)


def test_equal_to_torchmetrics() -> None:
    """Given COCO's recalls; its own are rounded to single precision, so that some are read one place further on."""
    for case in json.loads((Path(__file__).parent / "detection.json").read_text())["cases"]:
        scores, theirs = detection_scores(*drawn(case["seed"]), 3), case["torchmetrics"]
        assert scores.mean_average_precision == pytest.approx(theirs["map"], abs=1e-7)
        assert scores.map_50 == pytest.approx(theirs["map_50"], abs=1e-7)
        assert scores.map_75 == pytest.approx(theirs["map_75"], abs=1e-7)
        assert scores.of_classes == pytest.approx(theirs["of_classes"], abs=1e-7)


def test_only_the_best_hundred_of_a_class_count() -> None:
    truth = [objects((0, A))]
    crowd = [objects(*[(0, FAR)] * 100, (0, A), scores=(*[0.9] * 100, 0.1))]
    assert detection_scores(crowd, truth, 1).map_50 == 0
    fewer = [objects(*[(0, FAR)] * 99, (0, A), scores=(*[0.9] * 99, 0.1))]
    assert detection_scores(fewer, truth, 1).map_50 == pytest.approx(0.01)


def test_what_cannot_be_scored_is_said() -> None:
    truth, found = [objects((0, A))], [objects((0, A), scores=(1.0,))]
    with pytest.raises(UserError, match="found in 1 pictures, and there are 2"):
        detection_scores(found, truth * 2, 1)
    with pytest.raises(UserError, match="have scores"):
        detection_scores(truth, truth, 1)
    with pytest.raises(UserError, match="No picture has any object"):
        detection_scores([objects(scores=())], [objects()], 1)
    with pytest.raises(UserError, match="classes from 4 to 4"):
        detection_scores(found, [objects((4, A))], 1)
    with pytest.raises(UserError, match=r"boxes \(1, 3\)"):
        detection_scores([Objects(np.zeros((1, 3)), np.zeros(1, np.int64), np.ones(1))], truth, 1)
    with pytest.raises(UserError, match=r"scores \(2,\)"):
        detection_scores([objects((0, A), scores=(1.0, 1.0))], truth, 1)

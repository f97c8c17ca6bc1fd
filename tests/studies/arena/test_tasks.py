"""Every task has rows to train and to test with, and a frame that takes them, small and as in the paper."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from formwright.batch import call
from formwright.errors import UserError
from formwright.models import create_model, empty_copy
from formwright.studies.arena.tasks import TASKS, Sources, read_documents, task_named


@pytest.mark.parametrize("name", TASKS)
def test_rows_go_into_the_frame(name: str) -> None:
    task = TASKS[name]
    train, test = task.rows(20, 8, sources=Sources(), seed=1)
    assert len(train) == 20
    assert len(test) == 8
    assert train.length == test.length
    both = {row.tobytes() for row in train.ids} & {row.tobytes() for row in test.ids}
    assert not both, "no row is trained and tested with"
    model = create_model(task.specification(train, "local"))
    assert call(model, test.inputs(np.arange(2))).shape == (2, train.classes)


@pytest.mark.parametrize(("name", "length"), [("listops", 2000), ("image", 1024), ("pathfinder", 1024)])
def test_the_papers_sizes(name: str, length: int) -> None:
    task = TASKS[name]
    train, _ = task.rows(4, 4, sources=Sources(), paper=True)
    assert train.length == length
    published = {"listops": 8_948_746, "image": 248_458, "pathfinder": 26_530}[name]
    specification = task.specification(train, "full", paper=True)
    count = empty_copy(specification).parameter_count(trainable=True)
    missing_vocabulary = (17 - train.vocabulary) * 512 if name == "listops" else 0  # theirs has an id for the unknown
    assert count == published - missing_vocabulary


def test_a_frame_may_have_other_sizes() -> None:
    train, _ = TASKS["listops"].rows(4, 4, sources=Sources())
    specification = TASKS["listops"].specification(train, "full", dim=32, depth=3)
    assert (specification.stages[0].dim, len(specification.stages[0].blocks)) == (32, 3)


def test_users_texts_are_read_as_fit_reads_them(tmp_path: Path) -> None:
    lines = ["text,label", *(f"{word} {n},{word}" for n in range(20) for word in ("good", "bad"))]
    (tmp_path / "reviews.csv").write_text("\n".join(lines))
    documents = read_documents(tmp_path / "reviews.csv")
    assert documents.class_names == ("bad", "good")
    train, _ = TASKS["text"].rows(6, 4, sources=Sources(text=documents))
    words = {bytes((row[row > 0] - 1).astype(np.uint8)).split()[0] for row in train.ids}
    assert words == {b"good", b"bad"}


def test_unknown_tasks_are_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match="no task of the arena named 'pathfnder'; did you mean pathfinder"):
        task_named("pathfnder")

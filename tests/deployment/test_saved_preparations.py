"""Files that earlier versions wrote beside their models are read, and written as they were."""

from __future__ import annotations

import json

import pytest

from formwright.data.tokenization import ByteTokenizer, save_tokenizer
from formwright.deployment import load_preparation
from formwright.deployment.preparation import PREPARATIONS
from formwright.errors import UserError

SAVED = {
    "image-classification": {"size": [8, 8], "channels": 1, "mean": [0.3], "std": [0.37], "labels": ["0", "1"]},
    "text-classification": {"length": 8, "labels": ["0", "1"]},
    "language-modelling": {"length": 256},
    "series-classification": {
        "label_column": "kind",
        "value_columns": ["t0", "t1"],
        "series_column": None,
        "time_column": None,
        "length": 2,
        "mean": [0.017],
        "deviation": [1.1],
        "labels": ["a", "b"],
    },
    "forecasting": {
        "layout": {"targets": ["north"], "past": [], "known": ["price"]},
        "frequency": {"name": "1 hour", "step": 3600000000000, "offset": None, "season": 24, "features": ["hour"]},
        "length": 48,
        "horizon": 2,
        "time_column": "date",
        "series_column": None,
        "scalings": {"": [[20.1, 1.0], [3.5, 2.0]]},
        "half_width": [[0.22], [0.25]],
        "coverage": 0.9,
    },
}


@pytest.fixture(params=SAVED)
def folder(tmp_path, request):
    record = {"task": request.param, "schema_version": 1, **SAVED[request.param]}
    (tmp_path / "preprocessing.json").write_text(json.dumps(record))
    save_tokenizer(ByteTokenizer(), tmp_path)
    return tmp_path


def test_they_are_read_and_written_as_they_were(folder):
    before = json.loads((folder / "preprocessing.json").read_text())
    preparation = load_preparation(folder)
    assert preparation.task == before["task"]
    preparation.save(folder)
    assert before.items() <= json.loads((folder / "preprocessing.json").read_text()).items()  # fields are only added


def test_a_later_schema_a_missing_field_and_another_task_are_refused(folder):
    path = folder / "preprocessing.json"
    record = json.loads(path.read_text())
    for change in ({"schema_version": 2}, {"length": None, "size": None, "layout": None}):
        path.write_text(json.dumps({**record, **change}))
        with pytest.raises(UserError, match="does not describe a preparation of"):
            load_preparation(folder)
    path.write_text(json.dumps({**record, "task": "poetry"}))
    with pytest.raises(UserError, match="no task named 'poetry'"):
        load_preparation(folder)


def test_every_task_has_its_preparation():
    assert set(PREPARATIONS) >= set(SAVED)


def test_what_is_printed_alone_cannot_be_written(folder):
    preparation = load_preparation(folder)
    if preparation.task not in ("forecasting", "series-classification", "series-regression"):
        with pytest.raises(UserError, match="nothing of them is written to a file"):
            preparation.write(iter(()), folder / "out")

"""DataFrames and arrays as data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from formwright.errors import UserError
from formwright.fitting import fit
from formwright.fitting.kind import Reading
from formwright.fitting.memory import write_data
from formwright.fitting.task import find_task

RANDOM = np.random.default_rng(0)
DAYS = pd.date_range("2022-01-01", periods=200, freq="D", name="day")
LABELS = np.array(["07", "007"])[np.arange(40) % 2]
TEXTS = [f"a {'fine' if index % 2 else 'poor'} film of the year {index}" for index in range(40)]
GREY = RANDOM.integers(0, 256, (40, 8, 8), dtype=np.uint8)

DATA = {
    "pictures": ((GREY, LABELS), {}, "image-classification"),
    "lists of pictures": ((list(GREY), LABELS.tolist()), {}, "image-classification"),
    "pictures of floats, numbers as classes": ((GREY[..., None] / 255, np.arange(40) % 3), {}, "image-classification"),
    "texts": ((TEXTS, LABELS), {}, "text-classification"),
    "a Series of texts": ((pd.Series(TEXTS), pd.Series(LABELS)), {}, "text-classification"),
    "a table of texts": (pd.DataFrame({"review": TEXTS, "stars": LABELS}), {}, "text-classification"),
    "a table with an index": (
        pd.DataFrame({"units": RANDOM.random(200)}, index=DAYS), {"target": "units"}, "forecasting"
    ),
    "a table with times": (pd.DataFrame({"at": DAYS, "units": RANDOM.random(200)}), {"target": "units"}, "forecasting"),
    "series": ((RANDOM.random((40, 12)), LABELS), {"label_column": "label"}, "series-classification"),
}  # fmt: skip


@pytest.mark.parametrize("name", DATA)
def test_what_a_program_holds_is_read(tmp_path, name):
    data, options, task = DATA[name]
    path = write_data(data, tmp_path)
    kind, _ = find_task(path, task if task.startswith("series") else None, options)
    assert kind.name == task
    read = kind.read(path, Reading(options=options)).data
    assert sum(read.samples_of.values()) >= 30
    if task != "forecasting" and "numbers" not in name:
        assert list(read.class_names) == ["007", "07"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (["a", "b"], "type list"),
        (GREY, "type ndarray"),
        ({"x": 1}, "type dict"),
        (3, "type int"),
        ((GREY, LABELS[:-1]), "40 samples and 39 classes"),
        ((GREY.astype(str), LABELS), "were given"),
        (([GREY[0], GREY[0][:2]], [0, 1]), "not of one shape"),
        ((GREY[:, 0, 0], LABELS), r"Samples of shape \(40,\)"),
    ],
)
def test_what_is_no_data_is_refused_in_a_sentence(tmp_path, data, message):
    with pytest.raises(UserError, match=message):
        fit(data, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_keeps_what_it_was_given(tmp_path, short_runs, monkeypatch):
    images = np.stack([np.clip(GREY[i] // 2 + (100 if i % 2 else 0), 0, 255).astype(np.uint8) for i in range(40)])
    root = tmp_path / "run"
    result = fit((images, LABELS), out=root, max_time=4, threads=1)
    assert result.data["source"] == str((root / "data.npz").resolve())
    assert json.loads((root / "run.json").read_text())["options"]["data"] == result.data["source"]
    with np.load(root / "data.npz") as file:
        np.testing.assert_array_equal(file["images"], images)
    again = fit((images, LABELS), out=root, threads=1, resume=True)
    assert again.time == result.time
    assert not list(Path(result.data["source"]).parent.glob("formwright-*"))

"""Series with classes: one row per series or one row per step, and what is wrong with a table named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from formwright.data.labelled_series import labelled_series, prepared, read_labelled_series
from formwright.data.samples import control_charts
from formwright.data.series import Scaling
from formwright.errors import UserError


def charts(each=8):
    raw, labels, names = control_charts(each)
    return np.stack(raw)[..., 0], np.array(names)[labels]


def wide(tmp_path, change=None):
    values, labels = charts()
    frame = pd.DataFrame(values, columns=[f"t{step}" for step in range(60)])
    frame.insert(0, "kind", labels)
    frame = frame if change is None else change(frame)
    frame.to_csv(tmp_path / "wide.csv", index=False)
    return tmp_path / "wide.csv"


def long(tmp_path, change=None):
    values, labels = charts()
    frame = pd.concat(
        [
            pd.DataFrame({"id": f"s{i:03d}", "time": np.arange(40 + i % 3), "label": label, "x": row[: 40 + i % 3]})
            for i, (row, label) in enumerate(zip(values, labels, strict=True))
        ],
        ignore_index=True,
    )
    frame = frame if change is None else change(frame)
    frame.to_csv(tmp_path / "long.csv", index=False)
    return tmp_path / "long.csv"


def test_a_row_a_series(tmp_path):
    data = read_labelled_series(wide(tmp_path))
    values, labels = charts()
    assert (data.length, data.variates, len(data.raw)) == (60, 1, 48)
    assert data.class_names == tuple(sorted(set(labels)))
    np.testing.assert_allclose(data.raw[5][:, 0], values[5], rtol=1e-9)
    assert data.class_names[data.labels[5]] == labels[5]
    assert any("'kind'" in note for note in data.notes)


def test_a_row_a_step(tmp_path):
    data = read_labelled_series(long(tmp_path))
    values, _ = charts()
    assert (data.length, data.variates, len(data.raw)) == (42, 1, 48)
    assert (data.columns.series, data.columns.time, data.columns.values) == ("id", "time", ("x",))
    np.testing.assert_allclose(data.raw[7][:, 0], values[7, :41], rtol=1e-9)
    assert any("40 to 42 steps" in note for note in data.notes)
    inputs = np.stack([prepared(data.raw[index], data.scaling, data.length) for index in (6, 7)])
    assert inputs.shape == (2, 42, 1)
    assert inputs[0, 39, 0] == inputs[0, 41, 0]  # filled up with its last value


def test_scaling_knows_the_training_part_alone(tmp_path):
    data = read_labelled_series(wide(tmp_path), seed=3)
    training = np.concatenate([data.raw[index] for index in data.split.train])
    np.testing.assert_allclose(data.scaling.mean, training.mean(0))
    np.testing.assert_allclose(data.scaling.deviation, training.std(0))
    parts = [set(data.split.part(part).tolist()) for part in ("train", "val", "test")]
    assert not (parts[0] & parts[1])
    assert not (parts[0] & parts[2])
    assert not (parts[1] & parts[2])
    assert {data.labels[index] for index in parts[2]} == set(range(6))


def test_gaps_and_ends_are_filled():
    values = np.array([[np.nan], [2.0], [np.nan], [4.0]])
    scaling = Scaling(np.array([2.0]), np.array([2.0]))
    np.testing.assert_array_equal(prepared(values, scaling, 6)[:, 0], [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(prepared(values, scaling, 2)[:, 0], [0, 0])


def with_cell(row, column, value):
    def change(frame):
        frame = frame.astype({column: object})
        frame.loc[row, column] = value
        return frame

    return change


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        (wide, with_cell(4, "t7", "high"), "'t7' has 'high' in row 6, which is no number"),
        (wide, with_cell(4, "kind", None), "'kind' has no class in row 6"),
        (wide, lambda frame: frame.assign(kind="same"), "'kind' has 1 different classes"),
        (wide, lambda frame: frame[["kind"]], "no column of numbers"),
        (wide, lambda frame: frame.drop(columns="kind"), "no column of classes"),
        (wide, lambda frame: pd.concat([frame, frame.iloc[:1].assign(kind="rare")]), "too few different series"),
        (long, with_cell(45, "label", "other"), "'s001' has class 'normal' at first and 'other' in row 47"),
        (long, with_cell(45, "time", 0), "'time' has 0 twice of series 's001', in rows 42 and 47"),
        (long, with_cell(45, "id", None), "'id' does not say which series row 47 is of"),
    ],
)
def test_a_mistake_is_named(tmp_path, table, change, message):
    with pytest.raises(UserError, match=message):
        read_labelled_series(table(tmp_path, change))


def test_named_columns_have_to_be_there(tmp_path):
    with pytest.raises(UserError, match="--label-column"):
        read_labelled_series(wide(tmp_path), label="class")
    with pytest.raises(UserError, match="--series"):
        read_labelled_series(wide(tmp_path), series="id")


def test_series_that_never_vary_are_refused():
    with pytest.raises(UserError, match="one and the same value"):
        labelled_series([np.full((5 + index, 1), 3.0) for index in range(12)], np.arange(12) % 2, ("a", "b"))

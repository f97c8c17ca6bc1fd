"""Tables of series in every shape that is read, and every mistake in them named by row and column."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from formwright.data.series_files import read_series, read_table
from formwright.errors import UserError


def wide(rows=48, freq="h"):
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "date": pd.date_range("2024-01-01", periods=rows, freq=freq),
            "load": random.normal(10, 2, rows),
            "wind": random.normal(3, 1, rows),
        }
    )


def long():
    parts = []
    for name in ("b", "a"):
        part = wide().rename(columns={"date": "ds", "load": "y"})
        part.insert(0, "unique_id", name)
        parts.append(part)
    return pd.concat(parts)


def written(frame, tmp_path, name="series.csv"):
    path = tmp_path / name
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.reset_index(drop=True).to_feather(path)
    return path


@pytest.mark.parametrize("name", ["series.csv", "series.parquet", "series.feather"])
def test_a_wide_table(tmp_path, name):
    table = read_table(written(wide(), tmp_path, name))
    assert table.layout.targets == ("load", "wind")
    assert (table.time_column, table.series_column) == ("date", None)
    assert table.frequency.name == "1 hour"
    np.testing.assert_allclose(table.series[0].values, wide()[["load", "wind"]].to_numpy())


@pytest.mark.parametrize("name", ["series.csv", "series.parquet"])
def test_a_long_table(tmp_path, name):
    table = read_table(written(long(), tmp_path, name), target="y")
    assert [one.name for one in table.series] == ["a", "b"]
    assert table.series_column == "unique_id"
    assert table.layout.past == ("wind",)
    assert len(table.series[0].times) == 48


def test_columns_known_ahead(tmp_path):
    table = read_table(written(wide(), tmp_path), target="load", known=["wind"])
    assert (table.layout.targets, table.layout.past, table.layout.known) == (("load",), (), ("wind",))


def test_missing_rows_and_values_are_told_and_kept_missing(tmp_path):
    frame = wide().drop(index=[5, 6])
    frame.loc[9, "load"] = np.nan
    table = read_table(written(frame, tmp_path))
    assert len(table.series[0].times) == 48
    assert np.isnan(table.series[0].values[[5, 6], 0]).all()
    assert np.isnan(table.series[0].values[9, 0])
    assert any("2 of 48 rows are missing" in note for note in table.notes)
    assert any("1 values to forecast are missing" in note for note in table.notes)


@pytest.mark.parametrize(
    ("freq", "name"),
    [
        ("15min", "15 minutes"),
        ("D", "1 day"),
        ("B", "1 business day"),
        ("W", "1 week"),
        ("MS", "1 month"),
        ("ME", "1 month"),
        ("QS", "1 quarter"),
        ("QE-JAN", "1 quarter"),
        ("YS", "1 year"),
        ("YE-MAR", "1 year"),
    ],
)
def test_frequencies_are_inferred(tmp_path, freq, name):
    assert read_table(written(wide(freq=freq), tmp_path)).frequency.name == name


def test_rows_may_be_counted_instead_of_dated(tmp_path):
    frame = wide().assign(date=np.arange(10, 58)).rename(columns={"date": "time"})
    table = read_table(written(frame, tmp_path))
    assert table.frequency.step == 1
    assert table.series[0].times[0] == 10


def test_text_columns_and_useless_covariates_are_left_out_and_told(tmp_path):
    frame = wide().assign(place="north", flag=1.0)
    table = read_table(written(frame, tmp_path), target="load")
    assert table.layout.past == ("wind",)
    assert any("'place'" in note or "place" in note for note in table.notes)
    assert any("'flag'" in note and "constant" in note for note in table.notes)


def test_series_are_read_and_cut(tmp_path):
    _, data = read_series(written(wide(200), tmp_path), horizon=5, target=["load"], length=20)
    assert (data.variates, data.covariates, data.length, data.horizon) == (1, 1 + 4, 20, 5)


def set_cell(frame, row, column, value):
    frame = frame.astype({column: object})
    frame.loc[row, column] = value
    return frame


def swapped(frame):
    order = list(range(len(frame)))
    order[7], order[8] = order[8], order[7]
    return frame.iloc[order]


MISTAKES = {
    "duplicate timestamps": (
        lambda f: pd.concat([f, f.iloc[[4]]]).sort_values("date"),
        r"'date' has 2024-01-01 04:00 twice, in rows 6 and 7",
    ),
    "unparsable date": (lambda f: set_cell(f, 3, "date", "tomorrow"), r"'date' has 'tomorrow' in row 5.*date"),
    "no date": (lambda f: set_cell(f, 3, "date", None), r"'date' has no time in row 5"),
    "constant": (lambda f: f.assign(load=4.0), r"'load' is 4 in all rows 2 to 49.*constant"),
    "empty column": (lambda f: f.assign(load=np.nan), r"'load' is empty in all rows 2 to 49"),
    "text among numbers": (
        lambda f: set_cell(f, 11, "wind", "calm"),
        r"'wind' has 'calm' in row 13, which is no number",
    ),
    "infinite": (lambda f: set_cell(f, 11, "wind", np.inf), r"'wind' is infinite in row 13"),
    "mixed frequencies": (
        lambda f: f.assign(date=[t if i < 30 else t + pd.Timedelta("10min") for i, t in enumerate(f["date"])]),
        r"'date' goes on by 70 minutes in row 32 \(2024-01-02 06:10\), where most rows are 1 hour apart",
    ),
    "days behind hours": (
        lambda f: pd.concat(
            [f, f.head(30).assign(date=f["date"].iloc[-1] + pd.to_timedelta(np.arange(1, 31), unit="D"))]
        ),
        r"'date' goes on by 1 day in row 50 \(2024-01-03 23:00\), where most rows are 1 hour apart",
    ),
}


@pytest.mark.parametrize("order", [swapped, lambda frame: frame.iloc[::-1]], ids=["two rows", "the newest first"])
def test_rows_out_of_order_are_sorted_and_that_is_told(tmp_path, order):
    (expected,) = read_table(written(wide(), tmp_path)).series
    table = read_table(written(order(wide()), tmp_path))
    np.testing.assert_array_equal(table.series[0].times, expected.times)
    np.testing.assert_array_equal(table.series[0].values, expected.values)
    assert any(note.startswith("Rows were sorted by time: row ") for note in table.notes)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_by_row_and_column(tmp_path, mistake):
    change, message = MISTAKES[mistake]
    with pytest.raises(UserError, match=message) as told:
        read_table(written(change(wide()), tmp_path))
    assert "\n" not in str(told.value)


def test_a_mistake_in_one_of_several_series_is_named(tmp_path):
    frame = long().reset_index(drop=True)
    frame.loc[60, "ds"] = frame.loc[59, "ds"]
    table = read_table(written(frame, tmp_path))
    assert [one.name for one in table.series] == ["b"]
    assert "'ds' has 2024-01-01 11:00 twice of series 'a', in rows 61 and 62" in table.left_out["a"]
    assert any("Series 'a' is left out" in note for note in table.notes)


def test_missing_targets_are_refused_with_the_names_there_are(tmp_path):
    path = written(wide(), tmp_path)
    with pytest.raises(UserError, match=r"no column \(asked for by --target\) named 'lode'; did you mean load"):
        read_table(path, target="lode")
    with pytest.raises(UserError, match="--known"):
        read_table(path, known=["price"])
    with pytest.raises(UserError, match="cannot be forecast and be given"):
        read_table(path, target="load", known=["load"])


def test_a_horizon_longer_than_the_data_is_refused(tmp_path):
    with pytest.raises(UserError, match="horizon of 96 steps is too long for 48 rows"):
        read_series(written(wide(), tmp_path), horizon=96)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("series.csv", "", "is empty; series are expected"),
        ("series.csv", "date,load\n", "has no rows"),
        ("series.csv", 'date,load\n"2024', "row 2: unexpected end of data"),
        ("series.parquet", "no parquet", "cannot be read as Parquet"),
        ("series.xlsx", "x", "not a table of a kind that is read"),
        ("series.csv", "load,wind\n1.5,2\n2.5,3\n", "No column of times"),
        ("series.csv", "date,note\n2024-01-01,a\n2024-01-02,b\n", "no column of numbers"),
        ("series.csv", "date,load\n2024-01-01,1\n", "at least two"),
    ],
)
def test_files_that_are_no_series_are_refused(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_table(path)
    with pytest.raises(UserError, match="There is no file"):
        read_table(tmp_path / "other.csv")


def test_constant_and_empty_series_are_left_out(tmp_path):
    frame = pd.concat([wide().assign(shop=name) for name in ("good", "closed", "same")])
    frame.loc[frame["shop"] == "closed", "load"] = np.nan
    frame.loc[frame["shop"] == "same", "load"] = 3.0
    table = read_table(written(frame, tmp_path), target="load")
    assert [one.name for one in table.series] == ["good"]
    assert table.left_out["closed"] == "it has no value of 'load'."
    assert "the same in all of its rows" in table.left_out["same"]
    assert len(read_table(written(frame, tmp_path), target="load", keep_all=True).series) == 3


def test_numbers_that_cannot_be_squared_are_refused(tmp_path):
    with pytest.raises(UserError, match="'load' is too large to be squared in row 5"):
        read_table(written(set_cell(wide(), 3, "load", 1e200), tmp_path))


@pytest.mark.parametrize("name", ["Datum", "year", "when"])
def test_the_column_of_times_is_found(tmp_path, name):
    times = np.arange(1950, 1998) if name == "year" else pd.date_range("2024-01-01", periods=48).strftime("%d.%m.%Y")
    frame = wide().assign(date=times).rename(columns={"date": name}).assign(code="007")
    assert read_table(written(frame[["load", "code", name]], tmp_path), target="load").time_column == name

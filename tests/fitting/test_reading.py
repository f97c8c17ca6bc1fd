"""Files as users of comparable tools reported them, and others of their kinds: what a run reads, or says of each."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from formwright.errors import UserError
from formwright.fitting.kind import Reading
from formwright.fitting.memory import write_data
from formwright.fitting.task import find_task


def read(path, *, skip_bad=False, **options):
    kind, _ = find_task(path, None, options)
    return kind.read(path, Reading(skip_bad=skip_bad, options=options)).data


def daily(name, rows=60, freq="D"):
    times = pd.date_range("2020-01-01", freq=freq, periods=rows)
    return pd.DataFrame({"item_id": name, "timestamp": times, "target": np.sin(np.arange(rows) / 3)})


def texts(count=40):
    words = ["good", "bad"]
    return pd.DataFrame(
        {"text": [f"a {words[i % 2]} thing number {i}" for i in range(count)], "label": ["p", "n"] * 20}
    )


def table(frame, folder):
    frame.to_csv(folder / "data.csv", index=False)
    return folder / "data.csv"


def test_times_that_repeat_are_found_in_every_series(tmp_path):
    frame = pd.concat([*(daily(index) for index in range(120)), daily(119)])
    found = read(table(frame, tmp_path))
    assert len(found.content.series) == 119
    assert "Series '119' is left out: Column 'timestamp' has 2020-01-01 twice" in " ".join(found.notes)


def test_a_series_of_another_frequency_is_left_out_and_named(tmp_path):
    found = read(table(pd.concat([daily(0), daily(1, freq="h"), daily(2)]), tmp_path))
    assert [one.name for one in found.content.series] == ["0", "2"]
    assert "Series '1' is left out: Column 'timestamp' goes on by 1 hour" in " ".join(found.notes)


def test_an_index_of_local_times_keeps_its_zone(tmp_path):
    frame = daily(0, 500, "h").set_index("timestamp")[["target"]].tz_localize("UTC").tz_convert("Europe/Berlin")
    found = read(write_data(frame.shift(freq="4000h"), tmp_path))
    assert found.content.frequency.zone == "Europe/Berlin"
    assert found.describe()["rows"] == 500


def test_milliseconds_with_a_fraction_of_zero_are_times(tmp_path):
    frame = pd.DataFrame({"timestamp": 1664450000000.0 + 200 * np.arange(300), "x": np.sin(np.arange(300))})
    found = read(table(frame, tmp_path))
    assert found.describe()["frequency"] == "0.2 seconds"
    assert found.describe()["first"].startswith("2022-09-29")


def test_the_newest_row_first_is_sorted_and_told(tmp_path):
    frame = daily(0)[::-1].drop(columns="item_id")
    frame["timestamp"] = frame["timestamp"].dt.strftime("%b %d, %Y")
    found = read(table(frame, tmp_path))
    np.testing.assert_allclose(found.content.series[0].values[:, 0], daily(0)["target"], atol=1e-12)
    assert any("Rows were sorted by time" in note for note in found.notes)


def test_a_palette_with_levels_of_transparency_is_a_picture_without_a_warning(tmp_path, recwarn):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(6):
            picture = Image.fromarray(rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)).quantize(16)
            picture.save(tmp_path / name / f"{index}.png", transparency=bytes(range(16)))
        Image.fromarray(rng.integers(0, 255, (20, 24, 4), dtype=np.uint8), "CMYK").save(tmp_path / name / "c.jpg")
    assert read(tmp_path).describe()["pictures"] == 14
    assert not [one for one in recwarn if issubclass(one.category, UserWarning)]


def test_a_row_without_text_is_named_and_a_number_is_text(tmp_path):
    frame = texts()
    frame.loc[3, "text"], frame.loc[7, "text"], frame.loc[9, "text"] = None, "3.5", "nan"
    path = table(frame, tmp_path)
    with pytest.raises(UserError, match="row 5: the column 'text' is empty"):
        read(path)
    found = read(path, skip_bad=True)
    assert found.describe()["texts"] == 39
    assert {"3.5", "nan"} <= set(found.content.texts)


def test_three_columns_without_a_header(tmp_path):
    lines = [f'"{i % 4 + 1}","Title of {i}, short","A longer text, ""quoted"", about {i}"' for i in range(80)]
    (tmp_path / "news.csv").write_text("\n".join(lines))
    found = read(tmp_path / "news.csv")
    assert (found.describe()["texts"], found.class_names) == (80, ("1", "2", "3", "4"))


def test_a_text_of_200_thousand_letters_is_one_text(tmp_path):
    frame = texts()
    frame.loc[0, "text"] = "word " * 40_000
    assert read(table(frame, tmp_path)).describe()["texts"] == 40


def test_a_line_of_json_without_the_column_is_named(tmp_path):
    lines = [json.dumps({"text": f"some words {i}", "label": i % 2} if i != 5 else {"txt": "x"}) for i in range(40)]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines))
    with pytest.raises(UserError, match="row 6: the column 'text' is empty"):
        read(tmp_path / "texts.jsonl")
    assert read(tmp_path / "texts.jsonl", skip_bad=True).describe()["texts"] == 39


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            pd.DataFrame({"group": list("abc") * 10, "t": np.arange(30) // 3, "x": np.arange(30.0)}),
            "among 'group', 't', 'x': say what it holds, by --task forecasting --time COLUMN",
        ),
        (
            pd.DataFrame({"date": pd.date_range("2020-01-01", periods=9), "y": [f"{i} %" for i in range(9)]}),
            "'y' has '0 %' in row 2: write numbers without units",
        ),
        (pd.DataFrame([["2020-01-01", 1, 2]], columns=["date", "y", "y"]), "has two columns named 'y'; rename one"),
    ],
    ids=["counts as times", "numbers with a unit", "a name twice"],
)
def test_a_table_of_which_nothing_can_be_told_is_told_of_in_its_own_terms(tmp_path, frame, message):
    with pytest.raises(UserError, match=message) as told:
        read(table(frame, tmp_path))
    assert "\n" not in str(told.value)

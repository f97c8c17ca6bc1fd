"""A number of each series, from a table to the shipped file."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from formwright.data.numbered_series import read_numbered_series
from formwright.deployment import predict
from formwright.errors import UserError
from formwright.fitting import fit, race
from formwright.shapes import LabelledShape
from tests.fitting.sample import few_candidates
from tests.fitting.test_report import Page


def waves(count, seed=0, steps=24):
    random = np.random.default_rng(seed)
    speed = random.uniform(0.3, 1.2, count)
    rows = np.sin(speed[:, None] * np.arange(steps) + random.uniform(0, 6, count)[:, None])
    return pd.DataFrame(rows, columns=[f"t{step}" for step in range(steps)]).assign(speed=100 + 10 * speed)


def test_a_number_of_each_series_is_learned_and_told(tmp_path, short_runs, monkeypatch):
    few_candidates(monkeypatch, "series-regression", ("spectrum", "patch-attention"), LabelledShape, (16,))
    monkeypatch.setattr(race, "FOLDS_SHARE", 100.0)
    waves(120).to_csv(tmp_path / "waves.csv", index=False)
    options = {"task": "series-regression", "target": "speed", "max_time": 8, "threads": 1}
    result = fit(tmp_path / "waves.csv", out=tmp_path / "run", **options)
    assert result.agreement.same_answer == 1.0
    assert result.test["r2"] > 0.5
    assert result.test["mae"] < min(-one.score for one in result.baselines if one.name == "the mean")
    ridge = next(trial for trial in result.trials if trial.fitted)
    assert ridge.folds.samples == result.data["train"] + result.data["validation"]
    words = Page((tmp_path / "run" / "report.html").read_text(encoding="utf-8")).words
    assert "is the mean absolute error of the test series; R² is" in words
    assert "by folds" in words
    other = waves(20, seed=9)
    other.drop(columns="speed").to_csv(tmp_path / "new.csv", index=False)
    answers = predict(tmp_path / "run", [tmp_path / "new.csv"], out=tmp_path / "told.csv")
    told = pd.read_csv(tmp_path / "told.csv")
    assert list(told) == ["series", "speed"]
    np.testing.assert_allclose(told["speed"], [answer.value for answer in answers], rtol=1e-6)
    assert np.abs(told["speed"] - other["speed"]).mean() < 2 * result.test["mae"]
    assert list(answers[0].to_json()) == ["series", "value"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda frame: frame.assign(speed=1.0), "different numbers"),
        (lambda frame: frame.assign(speed=["fast", *frame["speed"][1:]]), "'fast'"),
        (lambda frame: frame.assign(speed=[None, *frame["speed"][1:]]), "row 2"),
        (lambda frame: frame[:9], "9 series"),
        (lambda frame: frame.rename(columns={"speed": "pace"}), "'speed'"),
    ],
)
def test_what_cannot_be_learned_is_refused(tmp_path, change, words):
    change(waves(12)).to_csv(tmp_path / "waves.csv", index=False)
    with pytest.raises(UserError, match=words):
        read_numbered_series(tmp_path / "waves.csv", target="speed")


def test_the_number_of_a_series_of_many_rows_is_one(tmp_path):
    rows = [(f"s{one}", step, one + step, 5 * one) for one in range(12) for step in range(3 + one % 4)]
    frame = pd.DataFrame(rows, columns=["series", "time", "value", "load"])
    frame.to_csv(tmp_path / "long.csv", index=False)
    read = read_numbered_series(tmp_path / "long.csv", target="load")
    assert [5.0 * int(name[1:]) for name in read.series.names] == read.numbers.tolist()
    assert read.series.length == 6
    frame.loc[1, "load"] = 7
    frame.to_csv(tmp_path / "long.csv", index=False)
    with pytest.raises(UserError, match="'s0' has 0 in column 'load' at first and 7 in row 3"):
        read_numbered_series(tmp_path / "long.csv", target="load")

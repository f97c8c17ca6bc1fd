"""A classifier of series from a file: fitted, reported, asked for the classes of other series."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from formwright.data.array_batches import ArrayBatches
from formwright.data.labelled_series import read_labelled_series
from formwright.data.samples import control_charts
from formwright.deployment.prediction import predict
from formwright.deployment.preparation import Unanswered
from formwright.deployment.preparations.series_classification import SeriesClassPreparation
from formwright.errors import UserError
from formwright.fitting import fit
from formwright.fitting.kind import Reading
from formwright.fitting.task import find_task, task_type
from formwright.shapes import LabelledShape
from tests.fitting.sample import few_candidates


def table(each, seed=0):
    raw, labels, names = control_charts(each, seed=seed)
    frame = pd.DataFrame(np.stack(raw)[..., 0], columns=[f"t{step}" for step in range(60)])
    return frame.assign(kind=np.array(names)[labels])


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    from formwright.fitting import run, shrink

    folder = tmp_path_factory.mktemp("classes")
    table(40).to_csv(folder / "charts.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "SHORTEST_RUN", 1.0)
        patch.setattr(run, "SHRINK_LEAST", 2.0)
        patch.setattr(run, "SHIP_LEAST", 1.0)
        patch.setattr(shrink, "SHORTEST_RECOVERY", 60.0)
        families = ("patch-convolutions", "patch-attention")
        few_candidates(patch, "series-classification", families, LabelledShape, (16, 32))
        result = fit(folder / "charts.csv", out=folder / "run", task="series-classification", max_time=7, threads=1)
    return folder, result


def test_it_learns_more_than_the_majority(fitted):
    _, result = fitted
    assert result.data["classes"][0] == "cyclic"
    assert "majority class" in {baseline.name for baseline in result.baselines}
    assert result.test["accuracy"] > 0.4


def test_the_report_says_where_it_errs(fitted):
    folder, result = fitted
    page = (folder / "run" / "report.html").read_text()
    assert "Confusion matrix" in page
    assert page.count('class="lines series"') == len(result.details["mistakes"])


def test_other_series_are_classified(fitted, tmp_path):
    folder, result = fitted
    other = table(10, seed=9)
    other.drop(columns="kind").to_csv(tmp_path / "new.csv", index=False)
    answers = predict(folder / "run", [tmp_path / "new.csv"])
    right = np.mean([answer.label == label for answer, label in zip(answers, other["kind"], strict=True)])
    assert right > result.test["accuracy"] - 0.25
    assert answers[0].file == "row 2"
    assert next(iter(answers[0].to_json())) == next(iter(answers[0].cells())) == "series"
    other.drop(columns=["kind", "t7"]).to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(UserError, match="'t7'"):
        predict(folder / "run", [tmp_path / "new.csv"])


def test_tables_of_shorter_series_lack_their_last_columns(fitted, tmp_path):
    folder, _ = fitted
    short = table(2, seed=9).iloc[:, :50]
    short.to_csv(tmp_path / "short.csv", index=False)
    short.assign(t50=np.nan, t51=np.nan).to_csv(tmp_path / "empty.csv", index=False)
    whole = short.assign(**{f"t{step}": np.nan for step in range(50, 60)})
    whole.to_csv(tmp_path / "whole.csv", index=False)
    answers = [predict(folder / "run", [tmp_path / f"{name}.csv"]) for name in ("short", "empty", "whole")]
    assert answers[0] == answers[1] == answers[2]


def test_classes_are_written_and_added_to_a_table(fitted, tmp_path):
    folder, _ = fitted
    table(1, seed=9).to_csv(tmp_path / "new.csv", index=False)
    for rows in (6, 12):
        answers = predict(folder / "run", [tmp_path / "new.csv"], out=tmp_path / "classes.csv")
        written = pd.read_csv(tmp_path / "classes.csv")
        assert list(written) == ["series", "class", "probability"]
        assert len(written) == rows
        assert written["class"].tolist()[-6:] == [answer.label for answer in answers]
    with pytest.raises(UserError, match="columns series, class, probability"):
        predict(folder / "run", [tmp_path / "new.csv"], out=tmp_path / "new.csv")


def test_a_table_of_numbers_with_a_column_of_classes_is_recognised(tmp_path):
    table(4).rename(columns={"kind": "form"}).to_csv(tmp_path / "charts.csv", index=False)
    found, reason = find_task(tmp_path / "charts.csv", None, {"label_column": "form"})
    assert (found.name, reason) == ("series-classification", "a table of numbers with a class")


def test_a_bad_series_costs_itself_where_that_is_allowed(tmp_path):
    rows = [(f"s{one}", step, one % 2 + step % (2 + one), "ab"[one % 2]) for one in range(12) for step in range(8)]
    frame = pd.DataFrame(rows, columns=["series", "time", "value", "label"])
    frame.loc[frame["series"] == "s3", "time"] = 0
    frame.to_csv(tmp_path / "long.csv", index=False)
    with pytest.raises(UserError, match="s3"):
        read_labelled_series(tmp_path / "long.csv")
    read = read_labelled_series(tmp_path / "long.csv", skip_bad=True)
    assert len(read.raw) == 11
    assert any("s3" in note for note in read.notes)


def test_a_damaged_preparation_is_refused(tmp_path):
    (tmp_path / "preprocessing.json").write_text('{"task": "series-classification"}')
    with pytest.raises(UserError, match="does not describe a preparation of series"):
        SeriesClassPreparation.load(tmp_path)


def test_the_built_in_charts_need_no_file(tmp_path):
    charts, others = (task_type("series-classification").read(None, Reading(seed=seed)).data for seed in (0, 1))
    assert sum(charts.samples_of.values()) == 600
    charts.content.save_splits(tmp_path / "splits.json")
    charts.content.check_splits(tmp_path / "splits.json")
    with pytest.raises(UserError, match="parts differ"):
        others.content.check_splits(tmp_path / "splits.json")


def test_batches_continue_where_they_stopped():
    inputs = np.arange(20, dtype=np.float32).reshape(20, 1, 1)
    batches = ArrayBatches(inputs, np.arange(20), batch_size=6, seed=1)
    seen = [next(batches).targets for _ in range(7)]
    again = ArrayBatches(inputs, np.arange(20), batch_size=6, seed=1)
    again.load_state_dict({**batches.state_dict(), "step": 4})
    assert next(again).targets.equal(seen[4])
    with pytest.raises(UserError, match="The batches to continue have"):
        ArrayBatches(inputs, np.arange(20), batch_size=6, seed=2).load_state_dict(batches.state_dict())


def test_a_bad_series_does_not_withhold_the_classes_of_others(fitted, tmp_path):
    folder, _ = fitted
    other = table(2, seed=9).drop(columns="kind").astype(object)
    other.loc[3, "t7"] = "n.d."
    other.to_csv(tmp_path / "new.csv", index=False)
    answers = predict(folder / "run", [tmp_path / "none.csv", tmp_path / "new.csv"])
    failed = {one.name: one.reason for one in answers if isinstance(one, Unanswered)}
    assert len(answers) == len(other) + 1  # the file that is not there
    assert "There is no file" in failed[str(tmp_path / "none.csv")]
    assert "'t7' has 'n.d.' in row 5" in failed["row 5"]

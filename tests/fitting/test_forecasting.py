"""A forecaster from a file: fitted, reported beside the baselines, and asked for the steps that come next."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from formwright.cli import main
from formwright.deployment.appending import append_forecasts
from formwright.deployment.prediction import predict
from formwright.deployment.preparations.forecasting import NETWORK, ForecastPreparation
from formwright.errors import UserError
from formwright.files import json_text
from formwright.fitting import fit
from formwright.fitting.forecast_page import forecast_page
from formwright.fitting.kind import Reading
from formwright.fitting.local_answers import LocalAnswers
from formwright.fitting.mean_forecast import MeanForecast
from formwright.fitting.records import Baseline, FitResult
from formwright.fitting.task import find_task, task_type
from formwright.shapes import SeriesShape
from tests.fitting.sample import few_candidates

HORIZON, LOOK_BACK = 6, 12


def read(path, **options):
    return task_type("forecasting").read(path, Reading(options=options))


def exit_code(arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


@pytest.fixture(scope="module")
def table():
    """Two days' rhythm of two sites, a price that is known ahead, and noise."""
    random = np.random.default_rng(0)
    time = np.arange(400)
    price = random.normal(0, 1, 400).cumsum() / 10
    return pd.DataFrame(
        {
            "date": pd.date_range("2024-01-01", periods=400, freq="h"),
            "north": 20 + 5 * np.sin(2 * np.pi * time / 24) + price + random.normal(0, 0.3, 400),
            "south": 100 + 30 * np.cos(2 * np.pi * time / 24) - 5 * price + random.normal(0, 2, 400),
            "price": price,
        }
    )


@pytest.fixture(scope="module")
def monkeymodule():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def fitted(table, tmp_path_factory, monkeymodule):
    from formwright.fitting import run, shrink

    monkeymodule.setattr(run, "SHORTEST_RUN", 1.0)
    monkeymodule.setattr(run, "SHRINK_LEAST", 2.0)
    monkeymodule.setattr(run, "SHIP_LEAST", 1.0)
    monkeymodule.setattr(shrink, "SHORTEST_RECOVERY", 60.0)
    few_candidates(monkeymodule, "forecasting", ("itransformer", "linear_forecaster"), SeriesShape, (16, 32))
    folder = tmp_path_factory.mktemp("forecasting")
    table.to_csv(folder / "sites.csv", index=False)
    result = fit(
        folder / "sites.csv",
        out=folder / "run",
        max_time=7,
        threads=1,
        target="north,south",
        known="price",
        horizon=HORIZON,
        look_back=LOOK_BACK,
    )
    return folder, result


def test_seasons_a_country_and_the_look_back_are_options(table, tmp_path):
    table.to_csv(tmp_path / "sites.csv", index=False)
    task = read(tmp_path / "sites.csv", target="north", known="price", horizon=6, season="12,24", country="DE-BY")
    frequency = task.data.preparation.frequency
    assert (frequency.seasons, frequency.country) == ((12, 24), "DE-BY")
    assert frequency.features[:2] == ("holiday", "holiday_eve")
    shape = task.data.shape
    assert (shape.length, shape.look_backs, shape.ahead, shape.cycles) == (24, (24, 12), 1 + 2 + 4, 2)
    assert "a season has 12 or 24 of them" in " ".join(task.data.notes)
    given = read(tmp_path / "sites.csv", target="north", known="price", horizon=6, look_back=30)
    assert (given.data.shape.length, given.data.shape.look_backs) == (30, ())
    with pytest.raises(UserError, match="or several such as 24,168"):
        read(tmp_path / "sites.csv", target="north", season="day")


def test_the_task_is_recognised(fitted):
    _, result = fitted
    assert result.task == "forecasting"
    assert result.data["frequency"] == "1 hour"
    assert (result.data["targets"], result.data["known"]) == (["north", "south"], ["price"])


def test_baselines_stand_in_the_same_table(fitted):
    _, result = fitted
    rows = {row["name"]: row for row in result.details["table"]}
    assert set(rows) >= {
        "Shipped model",
        "naive",
        "seasonal naive",
        "NLinear, least squares",
        "DLinear, least squares",
        "network",
        "last season",
    }
    for row in rows.values():
        assert {"mse", "mae", "mase", "smape", "quantile_loss", "coverage"} <= set(row)
        assert all(np.isfinite(value) for key, value in row.items() if key != "name")
    assert rows["seasonal naive"]["mse"] < rows["naive"]["mse"]
    assert result.test["mse"] == rows["Shipped model"]["mse"]
    assert {baseline.name for baseline in result.baselines} >= {"naive", "seasonal naive", "NLinear, least squares"}


def test_intervals_hold_about_as_often_as_stated(fitted):
    _, result = fitted
    assert result.test["stated_coverage"] == 0.9
    assert 0.6 <= result.test["coverage"] <= 1.0


def test_int8_is_left_where_the_budget_does_not_demand_it(fitted):
    _, result = fitted
    (step,) = [step for step in result.shrink if step.name.startswith("INT8")]
    assert not step.tried
    assert result.shipped.precision == "float32"


def test_the_report_shows_forecasts(fitted):
    folder, _ = fitted
    page = (folder / "run" / "report.html").read_text()
    assert "How it forecasts" in page
    assert page.count('id="plot-forecast-') == 2
    assert "seasonal naive" in page
    assert "not covered" not in page


def future(table, rows=HORIZON):
    """Rows of the next hours in which the price alone is known."""
    times = pd.date_range("2024-01-17 16:00", periods=rows, freq="h")
    ahead = pd.DataFrame({"date": times, "north": np.nan, "south": np.nan, "price": np.linspace(0, 1, rows)})
    return pd.concat([table, ahead])


def test_the_next_steps_come_from_the_exported_model(fitted, table, tmp_path):
    folder, _ = fitted
    future(table).to_csv(tmp_path / "now.csv", index=False)
    (forecast,) = predict(folder / "run", [tmp_path / "now.csv"])
    assert forecast.times[0] == "2024-01-17 16:00:00"  # as the table writes its own
    assert len(forecast.times) == HORIZON
    assert (forecast.low < forecast.values).all()
    assert (forecast.values < forecast.high).all()
    assert abs(forecast.values[:, 0].mean() - table["north"].tail(48).mean()) < 10
    again = predict(folder / "run", [tmp_path / "now.csv"])[0]
    np.testing.assert_array_equal(again.values, forecast.values)


def test_shipped_inputs_are_those_of_training(fitted, table, tmp_path):
    """The window that ``predict`` makes of the first rows is the one that training would."""
    folder, _ = fitted
    task = read(folder / "sites.csv", target="north,south", known="price", horizon=HORIZON, look_back=LOOK_BACK)
    batch = next(task.data.evaluation_batches("val", most=1))
    start = task.data.content.rows(0, "val")[0]
    rows = table.iloc[: start + LOOK_BACK + HORIZON].copy()
    rows.iloc[start + LOOK_BACK :, 1:3] = np.nan
    rows.to_csv(tmp_path / "cut.csv", index=False)
    preparation = ForecastPreparation.load(folder / "run")
    (series,) = preparation.read(tmp_path / "cut.csv").series
    window, _, end = preparation.window("cut.csv", series)
    assert end == start + LOOK_BACK
    np.testing.assert_allclose(window, batch.inputs[0].numpy(), atol=1e-5)


def test_forecasts_are_appended_to_a_table(fitted, table, tmp_path, capsys):
    folder, _ = fitted
    future(table).to_csv(tmp_path / "now.csv", index=False)
    log = tmp_path / "log.csv"
    assert exit_code(["predict", str(folder / "run"), str(tmp_path / "now.csv"), "--append", str(log), "-q"]) == 0
    rows = list(csv.DictReader(log.open()))
    assert list(rows[0]) == ["date", "north", "north_low", "north_high", "south", "south_low", "south_high"]
    assert len(rows) == HORIZON
    assert exit_code(["predict", str(folder / "run"), str(tmp_path / "now.csv"), "--append", str(log), "-q"]) == 2
    assert "has a row of 2024-01-17 16:00:00 already" in capsys.readouterr().err

    own = tmp_path / "own.csv"
    table.to_csv(own, index=False)
    assert exit_code(["predict", str(folder / "run"), str(tmp_path / "now.csv"), "--append", str(own), "-q"]) == 0
    whole = pd.read_csv(own)
    assert list(whole.columns) == list(table.columns)
    assert len(whole) == len(table) + HORIZON
    assert whole["north"].notna().all()


def test_forecasts_are_printed(fitted, table, tmp_path, capsys):
    folder, _ = fitted
    future(table).to_csv(tmp_path / "now.csv", index=False)
    assert exit_code(["predict", str(folder / "run"), str(tmp_path / "now.csv"), "-q"]) == 0
    assert "2024-01-17 16:00" in capsys.readouterr().out
    assert exit_code(["predict", str(folder / "run"), str(tmp_path / "now.csv"), "--json"]) == 0
    (forecast,) = json.loads(capsys.readouterr().out)
    assert np.shape(forecast["values"]) == (HORIZON, 2)
    assert forecast["columns"] == ["north", "south"]


def test_a_table_without_what_is_known_ahead_is_refused(network_run, table, tmp_path, capsys):
    table.to_csv(tmp_path / "now.csv", index=False)
    assert exit_code(["predict", str(network_run), str(tmp_path / "now.csv"), "-q"]) == 2
    assert "does not say 'price' for the 6 rows after its last value" in capsys.readouterr().err


def test_tables_that_do_not_fit_the_model_are_refused(fitted, network_run, table, tmp_path):
    folder, _ = fitted
    path = tmp_path / "other.csv"
    future(table).tail(HORIZON + 5).to_csv(path, index=False)
    with pytest.raises(UserError, match="has 5 rows to look back on, and the model needs 12"):
        predict(network_run, [path])
    daily = future(table).assign(date=pd.date_range("2024-01-01", periods=len(table) + HORIZON, freq="D"))
    daily.to_csv(path, index=False)
    with pytest.raises(UserError, match="rows 1 day apart, and the model was trained on rows 1 hour apart"):
        predict(folder / "run", [path])
    future(table).drop(columns="south").to_csv(path, index=False)
    with pytest.raises(UserError, match="'south'"):
        predict(folder / "run", [path])


def test_only_forecasts_can_be_appended(tmp_path):
    with pytest.raises(UserError, match="Only forecasts"):
        append_forecasts(tmp_path / "x.csv", ["a class"])


def test_a_damaged_preparation_is_refused(fitted, tmp_path):
    folder, _ = fitted
    record = json.loads((folder / "run" / "preprocessing.json").read_text())
    del record["scalings"]
    (tmp_path / "preprocessing.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="does not describe a preparation of series"):
        ForecastPreparation.load(tmp_path)


def test_splits_are_recorded_and_checked(fitted, table, tmp_path):
    folder, _ = fitted
    options = {"target": "north", "horizon": HORIZON}
    content = read(folder / "sites.csv", **options).data.content
    content.save_splits(tmp_path / "splits.json")
    content.check_splits(tmp_path / "splits.json")
    table.assign(north=table["north"] + 1).to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(UserError, match="not those that"):
        read(tmp_path / "other.csv", **options).data.content.check_splits(tmp_path / "splits.json")


def test_series_are_told_from_other_tables(tmp_path, table):
    path = tmp_path / "table.csv"
    table.to_csv(path, index=False)
    assert find_task(path, None, {})[0].name == "forecasting"
    texts = pd.DataFrame({"date": ["2024-01-01"] * 3, "stars": [1, 2, 3], "review": ["a long text " * 20] * 3})
    texts.to_csv(path, index=False)
    assert find_task(path, None, {})[0].name != "forecasting"


def test_the_built_in_series_needs_no_file():
    data = read(None).data
    assert data.content.frequency.name == "1 week"
    assert data.content.horizon == 26
    assert any("past steps are read" in note for note in data.notes)


def test_a_mistake_leaves_nothing_behind(tmp_path, table, capsys):
    path = tmp_path / "table.csv"
    table.to_csv(path, index=False)
    assert exit_code(["fit", str(path), "--out", str(tmp_path / "run"), "--horizon", "398", "-q", "-y"]) == 2
    message = capsys.readouterr().err
    assert "horizon of 398 steps is too long for 400 rows" in message
    assert not (tmp_path / "run").exists()
    assert exit_code(["fit", str(path), "--out", str(tmp_path / "run"), "--coverage", "1.5", "-q", "-y"]) == 2
    assert "between 0 and 1" in capsys.readouterr().err


def test_a_longer_time_axis_than_columns_keeps_its_scalings(fitted):
    folder, _ = fitted
    preparation = ForecastPreparation.load(folder / "run")
    assert dataclasses.asdict(preparation.layout)["known"] == ("price",)
    assert preparation.intervals.low.shape == (HORIZON, 1)
    assert preparation.spreads[""].shape == (2,)


def sites(table, **others):
    """A long table of one site after the other, with the hours to come."""
    return pd.concat([future(part).assign(site=name) for name, part in {"whole": table, **others}.items()])


@pytest.fixture
def long_run(fitted, tmp_path):
    """The fitted run, as if it had been trained on a long table."""
    folder, _ = fitted
    run = shutil.copytree(folder / "run", tmp_path / "run")
    record = json.loads((run / "preprocessing.json").read_text())
    (run / "preprocessing.json").write_text(json.dumps({**record, "series_column": "site"}))
    return run


def ask_the_network(run):
    """Let the network alone answer."""
    record = json.loads((run / "preprocessing.json").read_text())
    (run / "preprocessing.json").write_text(json.dumps({**record, "weights": {"network": 1.0}}))
    return run


@pytest.fixture
def network_run(fitted, tmp_path):
    return ask_the_network(shutil.copytree(fitted[0] / "run", tmp_path / "network"))


def test_a_bad_series_does_not_withhold_the_forecasts_of_others(long_run, table, tmp_path, capsys):
    bad = {
        "short": table.tail(5),
        "empty": table.assign(north=np.nan, south=np.nan),
        "twice": pd.concat([table.tail(20), table.tail(1)]),
        "words": table.tail(20).astype({"south": object}).assign(south=["x"] * 20),
    }
    frame = sites(table, **bad)
    unknown = table.assign(site="unknown ahead")
    pd.concat([frame, unknown]).to_csv(tmp_path / "now.csv", index=False)
    ask_the_network(long_run)
    *given, _, _, _, _, _ = answers = predict(long_run, [tmp_path / "now.csv"])
    assert [one.series for one in given] == ["whole"]
    reasons = {one.name: one.reason for one in answers[1:]}
    assert set(reasons) == {*bad, "unknown ahead"}
    assert "5 rows to look back on" in reasons["short"]
    assert "no values to look back on" in reasons["empty"]
    assert "twice of series 'twice'" in reasons["twice"]
    assert "'x' in row" in reasons["words"]
    assert "does not say 'price'" in reasons["unknown ahead"]

    arguments = ["predict", str(long_run), str(tmp_path / "now.csv"), "-q"]
    assert exit_code([*arguments, "--append", str(tmp_path / "next.csv")]) == 0
    assert set(pd.read_csv(tmp_path / "next.csv")["site"]) == {"whole"}
    assert capsys.readouterr().err.count("No answer for series") == 5
    assert exit_code([*arguments, "--json"]) == 0
    whole, *others = json.loads(capsys.readouterr().out)
    assert whole["series"] == "whole"
    assert {one["series"]: one["error"] for one in others} == reasons
    assert exit_code(arguments) == 0
    assert "whole" in capsys.readouterr().out


def test_a_bad_file_does_not_withhold_the_forecasts_of_others(fitted, table, tmp_path):
    folder, _ = fitted
    future(table).to_csv(tmp_path / "now.csv", index=False)
    (tmp_path / "other.csv").write_text("date\n")
    given, failed = predict(folder / "run", [tmp_path / "other.csv", tmp_path / "now.csv"])
    assert len(given.times) == HORIZON
    assert failed.to_json() == {"file": str(tmp_path / "other.csv"), "error": failed.reason}


def test_a_short_table_lies_on_the_axis_of_the_model(fitted, table, tmp_path):
    """Gaps, business days alone and a zone of its own change nothing of the step that the model knows."""
    folder, _ = fitted
    rows = future(table.tail(LOOK_BACK + 8)).drop(index=[395, 396, 397])
    rows.to_csv(tmp_path / "now.csv", index=False)
    (forecast,) = predict(folder / "run", [tmp_path / "now.csv"])
    assert forecast.times[0] == "2024-01-17 16:00:00"
    rows.assign(date=rows["date"].dt.strftime("%d/%m/%Y %H:%M")).to_csv(tmp_path / "now.csv", index=False)
    (forecast,) = predict(folder / "run", [tmp_path / "now.csv"])
    assert forecast.times[0] == "17/01/2024 16:00"
    rows.assign(date=rows["date"].dt.tz_localize("Asia/Tokyo").map(str)).to_csv(tmp_path / "now.csv", index=False)
    (forecast,) = predict(folder / "run", [tmp_path / "now.csv"])
    assert forecast.times[0] == "2024-01-17 16:00:00+09:00"


def test_how_times_are_written_is_saved_with_the_model(tmp_path):
    days = pd.date_range("2022-01-13", periods=60, freq="D").strftime("%d/%m/%Y")
    pd.DataFrame({"date": days, "units": np.arange(60.0) % 7}).to_csv(tmp_path / "days.csv", index=False)
    preparation = read(tmp_path / "days.csv").data.preparation
    preparation.save(tmp_path)
    again = ForecastPreparation.load(tmp_path)
    assert (again.time_format, again.frequency) == (preparation.time_format, preparation.frequency)
    early = pd.date_range("2023-01-01", periods=12, freq="D").strftime("%d/%m/%Y")
    pd.DataFrame({"date": early, "units": np.arange(12.0)}).to_csv(tmp_path / "now.csv", index=False)
    assert str(preparation.read(tmp_path / "now.csv").series[0].times[-1])[:10] == "2023-01-12"


def test_months_may_be_told_by_their_ends(tmp_path):
    values = np.arange(60.0) % 12
    for name, freq in (("starts", "MS"), ("ends", "ME"), ("quarters", "QE")):
        days = pd.date_range("2010-01-01", periods=60, freq=freq).strftime("%Y-%m-%d")
        pd.DataFrame({"date": days, "units": values}).to_csv(tmp_path / f"{name}.csv", index=False)
    preparation = read(tmp_path / "starts.csv").data.preparation
    table = preparation.read(tmp_path / "ends.csv")
    assert str(table.frequency.after(table.series[0].times[-1]))[:10] == "2015-01-31"
    with pytest.raises(UserError, match="rows 1 quarter apart, and the model was trained on rows 1 month apart"):
        preparation.read(tmp_path / "quarters.csv")


def test_options_say_how_times_are_written(tmp_path):
    days = pd.date_range("2023-01-01", periods=12, freq="D").strftime("%d/%m/%Y")
    pd.DataFrame({"date": days, "units": np.arange(12.0)}).to_csv(tmp_path / "days.csv", index=False)
    with pytest.raises(UserError, match="which is the month cannot be told; say --time-format day-first"):
        read(tmp_path / "days.csv", horizon=1)
    assert read(tmp_path / "days.csv", horizon=1, time_format="day-first").data.content.frequency.name == "1 day"
    with pytest.raises(UserError, match=r"no time zone 'Europe/Bonn' \(--time-zone\)"):
        read(tmp_path / "days.csv", time_zone="Europe/Bonn")


def test_what_is_undefined_is_null_in_metrics(tmp_path):
    """A series that repeats itself exactly has no MASE."""
    days = pd.date_range("2020-01-01", periods=200, freq="D")
    pd.DataFrame({"date": days, "units": np.arange(200) % 7}).to_csv(tmp_path / "shifts.csv", index=False)
    measuring = read(tmp_path / "shifts.csv").goal.measuring
    figures = measuring.figures(measuring.val.actual, measuring.test.actual)
    assert np.isnan(figures["mase"])
    result = FitResult(test=figures, baselines=[Baseline("none", float("nan"), 0.0)])
    text = json_text(result.to_dict())
    assert json.loads(text, parse_constant=pytest.fail)["test"]["mase"] is None
    again = FitResult.from_dict(json.loads(text))
    assert np.isnan(again.baselines[0].score)
    details = {
        "table": [{"name": "shipped", **figures}],
        "by_step": {},
        "examples": [],
        "residuals": {"counts": [1], "edges": [0.0, 1.0], "mean": 0.0, "deviation": 0.0, "correlation": None},
    }
    again.details, again.test = details, {**again.test, "stated_coverage": 0.9}
    page = forecast_page(again)
    assert ("MASE", "undefined") in [(title, text) for title, _, text in page.figures]


@pytest.fixture
def local_run(fitted, tmp_path):
    """The fitted run, as if it had learned one site of a long table, and three local forecasters alone answered."""
    task = read(fitted[0] / "sites.csv", target="north,south", known="price", horizon=HORIZON, look_back=LOOK_BACK)
    run = shutil.copytree(fitted[0] / "run", tmp_path / "run")
    weights = {"last_season": 0.5, "theta": 0.25, "damped": 0.25}
    models = LocalAnswers(task.data.content).models(weights)
    models.places = {"whole": 0}
    preparation = ForecastPreparation.load(run)
    spreads = {"whole": preparation.spreads[""]}
    dataclasses.replace(preparation, series_column="site", spreads=spreads, weights=weights, local=models).save(run)
    return run


def test_local_forecasters_answer_for_short_and_for_new_series(local_run, table, tmp_path):
    frame = sites(table, short=table.tail(3), new=table.tail(80), empty=table.assign(north=np.nan, south=np.nan))
    frame.to_csv(tmp_path / "now.csv", index=False)
    whole, short, new, empty = predict(local_run, [tmp_path / "now.csv"])
    assert "no values to look back on" in empty.reason
    assert np.abs(whole.values[:, 1] - new.values[:, 1]).mean() < 15
    assert np.isfinite(short.values).all()
    for one in (whole, short, new):
        assert (one.low <= one.values).all()
        assert (one.values <= one.high).all()


def test_new_rows_are_followed_and_earlier_ones_are_fitted(local_run, table, tmp_path):
    """Without new rows a known series is forecast from its saved states; rows that came since move them."""
    path, preparation = tmp_path / "now.csv", ForecastPreparation.load(local_run)
    sites(table).to_csv(path, index=False)
    (known,) = predict(local_run, [path])
    expected = np.mean([preparation.local.members["last_season"].forecast(HORIZON)], axis=0)
    assert np.abs(known.values - expected).max() < 10
    later = future(table)
    later.loc[later["north"].isna(), ["north", "south"]] = [1000.0, 1000.0]
    later["date"] = pd.date_range("2024-01-01", periods=len(later), freq="h")
    later.assign(site="whole").to_csv(path, index=False)
    (moved,) = predict(local_run, [path])
    assert moved.times[0] == "2024-01-17 22:00:00"
    assert np.abs(moved.values - known.values).max() > 50
    later.tail(HORIZON).assign(site="whole").to_csv(path, index=False)  # the new rows alone say the same
    np.testing.assert_allclose(predict(local_run, [path])[0].values, moved.values)
    table.head(300).assign(site="whole").to_csv(path, index=False)
    (earlier,) = predict(local_run, [path])
    assert earlier.times[0] == "2024-01-13 12:00:00"


def test_forecasts_stay_above_nought_where_the_data_does(fitted):
    assert fitted[1].data["targets"] == ["north", "south"]
    preparation = ForecastPreparation.load(fitted[0] / "run")
    assert preparation.lowest.tolist() == [0.0, 0.0]


def test_forecasters_that_do_not_fit_beside_the_network_are_left_out(tmp_path):
    times = pd.date_range("2020-01-01", periods=60, freq="MS").strftime("%Y-%m")
    rows = pd.DataFrame({"month": times, "sold": 50 + 10 * np.sin(np.arange(60) * np.pi / 6) + np.arange(60)})
    rows.to_csv(tmp_path / "sold.csv", index=False)
    goal = read(tmp_path / "sold.csv", horizon=6).goal
    network = np.zeros_like(goal.measuring.val.actual)
    means = [
        MeanForecast(goal.data.content, goal.measuring, network, seconds=9.0, most_bytes=most)
        for most in (1_000_000.0, 100.0)
    ]
    assert NETWORK not in means[0].chosen.weights
    assert means[0].prepared(goal.data.preparation).local is not None
    assert means[1].chosen.weights == {NETWORK: 1.0}
    assert "beyond the limit" in means[1].chosen.reason

"""Columns of times in every way in which people write them: read as what they are, and written alike."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from formwright.data.calendar import calendar_features
from formwright.data.series_files import read_table
from formwright.data.time_axis import Wanted, as_text, read_axis
from formwright.data.times.words import MONTHS as MONTHS_OF
from formwright.errors import UserError

DAYS = pd.date_range("2022-01-13", periods=120, freq="D")
MONTHS = pd.date_range("2010-01-01", periods=60, freq="MS")
QUARTERS = pd.date_range("2001-01-01", periods=30, freq="QS")
WEEKS = pd.date_range("2020-01-06", periods=80, freq="7D")
HOURS = pd.date_range("2022-03-01", periods=200, freq="h")
SECONDS = HOURS.astype("datetime64[ns]").astype("int64").to_numpy() // 10**9
GERMAN = MONTHS_OF["German"][1].split()
BUSINESS = pd.bdate_range("2021-01-04", periods=120).drop(pd.to_datetime(["2021-04-02", "2021-05-31"]))


def axis_of(cells, wanted=None, groups=None):
    column = pd.Series(list(cells))
    column.index += 2  # after the line of names
    return read_axis(column, "time", groups or {"": np.arange(len(column))}, wanted)


def goes_on(cells, wanted=None):
    """The frequency, and the time after the last one as the column would write it."""
    axis = axis_of(cells, wanted)
    after = axis.frequency.after(axis.times[-1])
    return axis.frequency.name, axis.format.write(after, instant=bool(axis.frequency.zone))


def plain(time, pattern):
    """Without leading zeros."""
    return pattern.format(d=time.day, m=time.month, y=time.year, h=time.hour, n=time.minute)


#: How a column is written: all cells but the last are read, and the last is what comes next.
WRITTEN = {
    "ISO": (DAYS.strftime("%Y-%m-%d"), "1 day"),
    "ISO with a T": (HOURS.strftime("%Y-%m-%dT%H:%M:%S"), "1 hour"),
    "ISO in UTC": (HOURS.strftime("%Y-%m-%dT%H:%M:%S.000Z"), "1 hour"),
    "basic ISO": (HOURS.strftime("%Y%m%dT%H%M%SZ"), "1 hour"),
    "fractions": (HOURS.strftime("%Y-%m-%d %H:%M:%S.%f"), "1 hour"),
    "slashes, year first": (DAYS.strftime("%Y/%m/%d"), "1 day"),
    "day first": (DAYS.strftime("%d/%m/%Y"), "1 day"),
    "day first, monthly": (MONTHS.strftime("%d/%m/%Y"), "1 month"),
    "day first, with times": (HOURS.strftime("%d/%m/%Y %H:%M"), "1 hour"),
    "month first": (DAYS.strftime("%m/%d/%Y"), "1 day"),
    "month first, of twelve hours": (HOURS.strftime("%m/%d/%Y %I:%M %p"), "1 hour"),
    "dots without zeros": ([plain(time, "{d}.{m}.{y} {h}:{n:02}") for time in HOURS], "1 hour"),
    "two digits a year": (DAYS.strftime("%d.%m.%y"), "1 day"),
    "two digits a year, month first": (DAYS.strftime("%m/%d/%y"), "1 day"),
    "short months": (DAYS.strftime("%d-%b-%Y"), "1 day"),
    "long months": (DAYS.strftime("%B %d, %Y"), "1 day"),
    "capital months": ([text.upper() for text in DAYS.strftime("%d%b%Y")], "1 day"),
    "German months": ([f"{time.day}. {GERMAN[time.month - 1]} {time.year}" for time in DAYS], "1 day"),
    "months and years": (MONTHS.strftime("%b %Y"), "1 month"),
    "months and short years": (MONTHS.strftime("%b-%y"), "1 month"),
    "months alone": (MONTHS.strftime("%Y-%m"), "1 month"),
    "months of Eurostat": (MONTHS.strftime("%YM%m"), "1 month"),
    "quarters": ([f"{time.year}-Q{time.quarter}" for time in QUARTERS], "1 quarter"),
    "quarters first": ([f"Q{time.quarter} {time.year}" for time in QUARTERS], "1 quarter"),
    "weeks": (WEEKS.strftime("%G-W%V"), "1 week"),
    "days of the year": (DAYS.strftime("%Y-%j"), "1 day"),
    "mails": (HOURS.strftime("%a, %d %b %Y %H:%M:%S GMT"), "1 hour"),
    "month ends": (pd.date_range("2010-01-31", periods=40, freq="ME").strftime("%d/%m/%Y"), "1 month"),
    "last business days": (pd.date_range("2010-01-29", periods=40, freq="BME").strftime("%Y-%m-%d"), "1 month"),
    "quarter ends": (pd.date_range("2010-03-31", periods=20, freq="QE").strftime("%Y-%m-%d"), "1 quarter"),
    "mid months": ([f"{time:%Y-%m}-15" for time in MONTHS], "1 month"),
    "the 30th, or the last": ([f"{time:%Y-%m-}{min(30, time.days_in_month)}" for time in MONTHS], "1 month"),
    "half years": (pd.date_range("2010-01-01", periods=20, freq="6MS").strftime("%Y-%m-%d"), "6 months"),
    "Wednesdays": (pd.date_range("2020-01-01", periods=60, freq="W-WED").strftime("%d.%m.%Y"), "1 week"),
    "half hours": (pd.date_range("2020-01-01", periods=60, freq="30min").strftime("%Y-%m-%d %H:%M"), "30 minutes"),
    "business days": (BUSINESS.strftime("%Y-%m-%d"), "1 business day"),
    "Sunday to Thursday": (
        [f"{time:%Y-%m-%d}" for time in DAYS if time.day_of_week not in (4, 5)],
        "1 day (Sunday to Thursday)",
    ),
    "closed on Sundays": ([f"{time:%d.%m.%Y}" for time in DAYS if time.day_of_week != 6], "1 day (Monday to Saturday)"),
    "hours of an exchange": (
        [f"{day + pd.Timedelta(minutes=570 + 60 * hour):%Y-%m-%d %H:%M}" for day in BUSINESS for hour in range(7)],
        "1 hour (09:30 to 15:30, Monday to Friday)",
    ),
    "years": (np.arange(1950, 2000), "1 year"),
    "every fifth year": (np.arange(1950, 2000, 5), "5 years"),
    "yyyymm": (MONTHS.strftime("%Y%m").astype(int), "1 month"),
    "yyyymm in a year": (MONTHS[:12].strftime("%Y%m").astype(int), "1 month"),
    "yyyymmdd": (DAYS.strftime("%Y%m%d").astype(int), "1 day"),
    "yyyymmdd as text": (DAYS.strftime("%Y%m%d"), "1 day"),
    "ddmmyyyy": (DAYS[:30].strftime("%d%m%Y").astype(int), "1 day"),
    "ddmmyyyy as text": (DAYS[:30].strftime("%d%m%Y"), "1 day"),
    "yyyyq": ([time.year * 10 + time.quarter for time in QUARTERS], "1 quarter"),
    "yyyyww": (WEEKS.strftime("%G%V").astype(int), "1 week"),
    "yyyymmddhh": (HOURS.strftime("%Y%m%d%H").astype(int), "1 hour"),
    "yyyymmddhhmm": (HOURS.strftime("%Y%m%d%H%M").astype(int), "1 hour"),
    "seconds since 1970": (SECONDS, "1 hour"),
    "milliseconds since 1970": (SECONDS * 1000, "1 hour"),
    "microseconds since 1970": (SECONDS * 10**6, "1 hour"),
    "nanoseconds since 1970": (SECONDS * 10**9, "1 hour"),
    "seconds with fractions since 1970": (SECONDS + 0.5, "1 hour"),
    "months as twelfths of a year": (np.round(1949 + np.arange(100) / 12, 3), "1 month"),
    "quarters of a year": (1949.25 + np.arange(100) / 4, "1 quarter"),
    "business days of a spreadsheet": ((BUSINESS - pd.Timestamp("1899-12-30")).days, "1 business day"),
    "hours of a spreadsheet": (np.round(44621 + np.arange(100) / 24, 6), "1 hour"),
    "counted from 40000 on": (np.arange(40_000, 40_100), "1 row"),
    "counted rows": (np.arange(10, 50), "1 row"),
    "halves": (0.5 + np.arange(50), "1 row"),
    "tenths": (np.round(0.1 * np.arange(50), 1), "0.1 units"),
}


@pytest.mark.parametrize("way", WRITTEN)
def test_times_are_read_and_written_as_their_column_does(way):
    cells, name = WRITTEN[way]
    cells = list(cells)
    assert goes_on(cells[:-1]) == (name, str(cells[-1]))


@pytest.mark.parametrize(
    ("zone", "freq", "name"),
    [
        ("Europe/Berlin", "h", "1 hour"),
        ("America/New_York", "30min", "30 minutes"),
        ("Europe/Berlin", "D", "1 day"),
        ("Australia/Sydney", "D", "1 day"),
        ("Asia/Kolkata", "h", "1 hour"),
        ("UTC", "h", "1 hour"),
        ("Europe/London", "MS", "1 month"),
    ],
)
@pytest.mark.parametrize("pattern", ["%Y-%m-%d %H:%M:%S%z", "str"])
def test_zones_are_kept_over_changes_of_clocks(zone, freq, name, pattern):
    times = pd.date_range("2023-03-01", "2023-11-15", freq=freq, tz=zone)
    cells = list(times.map(str) if pattern == "str" else times.strftime(pattern))
    assert goes_on(cells[:-1]) == (name, cells[-1])
    axis = axis_of(cells)
    assert len(axis.times) == len(times)
    told = " ".join(axis.notes)
    assert axis.format.zone in told or "those of UTC" in told or "in UTC" in told


def test_forecasts_cross_a_change_of_clocks():
    """The hour that comes twice in autumn, and the one that does not come in spring."""
    for end, expected in (
        ("2022-10-30 02:00+02:00", "2022-10-30 02:00:00+01:00"),
        ("2022-03-27 01:00+01:00", "2022-03-27 03:00:00+02:00"),
    ):
        times = pd.date_range(end=pd.Timestamp(end).tz_convert("Europe/Berlin"), periods=6000, freq="h")
        assert goes_on(times.map(str)) == ("1 hour", expected)


def test_days_begin_where_clocks_skip_midnight():
    days = pd.date_range("2023-03-01", "2023-11-15", freq="D")
    cells = list(days.tz_localize("Africa/Cairo", nonexistent="shift_forward", ambiguous=True).map(str))
    late = cells.index("2023-04-28 01:00:00+03:00")
    assert goes_on(cells[:-1]) == ("1 day", cells[-1])
    learned = axis_of(cells)
    wanted = Wanted(frequency=learned.frequency, format=learned.format)
    assert goes_on(cells[:late], wanted) == ("1 day", cells[late])


def test_hours_of_an_exchange_stay_over_changes_of_clocks():
    days = pd.bdate_range("2023-02-01", periods=60, tz="America/New_York")
    cells = [str(day + pd.Timedelta(minutes=570 + 60 * hour)) for day in days for hour in range(7)]
    assert goes_on(cells[:-1]) == ("1 hour (09:30 to 15:30, Monday to Friday)", cells[-1])


def test_features_follow_the_clocks_on_the_wall():
    times = pd.date_range("2022-03-26", periods=72, freq="h", tz="Europe/Berlin")
    axis = axis_of(times.map(str))
    hours = (calendar_features(axis.times, axis.frequency)[:, 0] + 0.5) * 23
    np.testing.assert_allclose(hours, times.hour)


def test_abbreviations_of_zones_are_kept():
    times = pd.date_range("2022-03-20", periods=300, freq="h", tz="Europe/Berlin")
    cells = list(times.strftime("%d.%m.%Y %H:%M %Z"))
    assert goes_on(cells[:-1]) == ("1 hour", cells[-1])
    assert cells[-1].endswith("CEST")


def test_hours_that_repeat_ask_for_a_zone_and_are_read_in_it():
    times = pd.date_range("2022-10-01", periods=1000, freq="h", tz="Europe/Berlin").tz_localize(None)
    cells = list(times.map(str))
    with pytest.raises(
        UserError, match=r"2022-10-30 02:00 twice, in rows 700 and 701; if clocks go back then.*--time-zone"
    ):
        axis_of(cells)
    assert goes_on(cells[:-1], Wanted(zone="Europe/Berlin")) == ("1 hour", cells[-1])
    with pytest.raises(UserError, match="2022-03-27 02:00 in row 4, which clocks in Europe/Berlin skip"):
        axis_of(pd.date_range("2022-03-27", periods=9, freq="h").map(str), Wanted(zone="Europe/Berlin"))


def test_offsets_that_are_of_no_zone_are_counted_in_utc():
    times = pd.date_range("2022-01-01", periods=40, freq="h", tz="UTC")
    cells = [str(time.tz_convert(["UTC", "Asia/Tokyo"][place % 2])) for place, time in enumerate(times)]
    axis = axis_of(cells)
    assert axis.frequency.name == "1 hour"
    assert any("change as in no zone" in note for note in axis.notes)
    assert goes_on(cells)[1] == "2022-01-02 16:00:00+00:00"


def test_dates_by_type_keep_their_zone():
    times = pd.Series(pd.date_range("2022-03-01", periods=1000, freq="h", tz="Europe/Berlin"))
    axis = axis_of(times)
    assert (axis.frequency.zone, axis.format.zone) == ("Europe/Berlin", "Europe/Berlin")
    assert goes_on(times)[1] == "2022-04-11 17:00+02:00"
    assert goes_on(pd.Series(pd.period_range("2022-01", periods=20, freq="M"))) == ("1 month", "2023-09-01")


def test_which_is_the_month_is_asked_where_it_cannot_be_told():
    cells = pd.date_range("2023-01-01", periods=10, freq="D").strftime("%d/%m/%Y")
    with pytest.raises(
        UserError,
        match=r"'02/01/2023' in row 3, which may be 2023-01-02 \(day first\) or 2023-02-01 \(month first\)",
    ):
        axis_of(cells)
    assert goes_on(cells, Wanted(order="day-first")) == ("1 day", "11/01/2023")
    assert goes_on(cells, Wanted(order="%d/%m/%Y")) == ("1 day", "11/01/2023")
    assert goes_on(cells, Wanted(order="month-first")) == ("1 month", "11/01/2023")
    with pytest.raises(UserError, match="not written as year-first"):
        axis_of(cells, Wanted(order="year-first"))
    learned = axis_of(DAYS.strftime("%d/%m/%Y")).format
    assert goes_on(cells, Wanted(format=learned)) == ("1 day", "11/01/2023")
    assert goes_on([text.replace("/", ".") for text in cells]) == ("1 day", "11.01.2023")


def test_what_was_decided_is_told():
    assert axis_of(DAYS.strftime("%m/%d/%Y")).notes == ("Column 'time' is read month first: 01/13/2022 is 2022-01-13.",)
    assert axis_of(SECONDS * 1000).notes == (
        "Column 'time' is read as milliseconds since 1970, in UTC: 1646092800000 is 2022-03-01.",
    )
    assert axis_of(DAYS.strftime("%Y-%m-%d")).notes == ()


def test_midnight_may_end_a_day_and_go_without_its_time():
    ends = [f"{time - pd.Timedelta(hours=1):%d.%m.%Y} {time.hour or 24:02}:00" for time in HOURS]
    assert as_text(axis_of(ends).times[0]) == "2022-03-01"
    short = [f"{time:%Y-%m-%d}" if time.hour == 0 else f"{time:%Y-%m-%d %H:%M}" for time in HOURS]
    assert goes_on(short) == ("1 hour", "2022-03-09 08:00")


MISTAKES = {
    "no such day": ([*DAYS.strftime("%d/%m/%Y")[:50], "32/01/2023"], r"'32/01/2023' in row 52, which is no date"),
    "no such February": ([*DAYS.strftime("%Y-%m-%d")[:50], "2023-02-29"], "'2023-02-29' in row 52, which is no date"),
    "another order": ([*DAYS.strftime("%d/%m/%Y")[:50], "2022-03-04"], "'2022-03-04' in row 52, whose year"),
    "a word": ([*DAYS.strftime("%d/%m/%Y")[:50], "total"], r"'total' in row 52, which cannot be read.*like the others"),
    "a word among numbers": ([*map(str, range(50)), "sum"], "'sum' in row 52, which cannot be read"),
    "words": (["north", "south", "west"], "'north' in row 2, which cannot be read as a date or time"),
    "no such hour": ([*HOURS.strftime("%Y-%m-%d %H:%M")[:9], "2022-03-01 25:00"], "'2022-03-01 25:00' in row 11"),
    "out of range": (["0001-01-01", "0001-01-02"] * 9, "'0001-01-01' in row 2, which is no date"),
    "an offset that is unknown": (["2022-03-01 00:00 XYZ", "2022-03-01 01:00 XYZ"], "says no offset from UTC"),
    "an empty one": ([*DAYS.strftime("%Y-%m-%d")[:5], None], "has no time in row 7"),
    "events": (
        pd.to_datetime("2022-01-01") + pd.to_timedelta(np.cumsum(np.arange(1, 400) % 17 + 1), unit="min"),
        "bring all rows to one frequency",
    ),
    "more missing than given": (
        [f"{day:%Y-%m-%d}" for place, day in enumerate(DAYS) if place % 16 in (0, 1)],
        r"has 16 rows, and 98 more would be missing between them, 1 day apart",
    ),
    "two rows far apart": (["2020-01-01", "2020-01-02", "2024-01-01"], "1,459 more would be missing"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named_by_row(mistake):
    cells, message = MISTAKES[mistake]
    with pytest.raises(UserError, match=message) as told:
        axis_of(cells)
    assert "\n" not in str(told.value)


def test_one_bad_series_costs_itself_and_is_named(tmp_path):
    days = pd.date_range("2021-01-01", periods=60, freq="D").strftime("%Y-%m-%d")
    parts = {
        "good": pd.DataFrame({"day": days, "units": np.arange(60.0) % 7}),
        "other": pd.DataFrame({"day": days[:30], "units": np.arange(30.0) % 5}),
        "twice": pd.DataFrame({"day": [*days[:20], days[19]], "units": np.arange(21.0)}),
        "no date": pd.DataFrame({"day": [days[3], "soon"], "units": [1.0, 2.0]}),
        "sparse": pd.DataFrame({"day": [days[0], days[50]], "units": [1.0, 2.0]}),
        "no number": pd.DataFrame({"day": days[:9], "units": [*map(str, range(8)), "many"]}),
    }
    frame = pd.concat([part.assign(shop=name) for name, part in parts.items()])
    frame.to_csv(tmp_path / "shops.csv", index=False)
    table = read_table(tmp_path / "shops.csv", target="units")
    assert [one.name for one in table.series] == ["good", "other"]
    assert set(table.left_out) == set(parts) - {"good", "other"}
    assert "in rows 111 and 112" in table.left_out["twice"]
    assert "'soon' in row 114" in table.left_out["no date"]
    assert "'many' in row 125" in table.left_out["no number"]
    assert sum("is left out" in note for note in table.notes) == 4
    frame[frame["shop"] == "twice"].to_csv(tmp_path / "shops.csv", index=False)
    with pytest.raises(UserError, match="twice"):
        read_table(tmp_path / "shops.csv", target="units", series="shop")

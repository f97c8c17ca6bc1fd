"""Series in parts and windows: nothing of the future reaches the past."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from formwright.data.calendar import clock_frequency, counted_frequency
from formwright.data.series import ColumnRoles, Scaling, Series, arrange, fill_forward
from formwright.data.series_batches import SeriesBatches, Windows, evaluation_windows
from formwright.errors import UserError

HOUR = 3_600_000_000_000
PARTS = ("train", "val", "test")


def hourly(rows=200, columns=3, start="2024-01-01", name="", seed=0):
    times = np.datetime64(start, "ns") + np.arange(rows) * np.timedelta64(1, "h")
    return Series(name, times, np.random.default_rng(seed).normal(5, 3, (rows, columns)))


def data(*series, layout=None, horizon=6, length=12, **options):
    layout = layout or ColumnRoles(("a", "b", "c"))
    return arrange(series or (hourly(),), layout, clock_frequency(HOUR), horizon=horizon, length=length, **options)


def everything(windows):
    (batch,) = evaluation_windows(windows, batch_size=len(windows))
    return batch


def altered(one, row):
    """The series with other values from ``row`` on, some of them missing."""
    values = one.values.copy()
    values[row:] = 1000 - 7 * values[row:]
    values[row::5] = np.nan
    return dataclasses.replace(one, values=values)


@pytest.mark.parametrize(("part", "later"), [("train", "val"), ("val", "test")])
def test_what_comes_after_a_part_changes_nothing_in_it(part, later):
    original = data(hourly(), layout=ColumnRoles(("a",), ("b",), ("c",)))
    border = original.rows(0, later)[1]
    changed = dataclasses.replace(original, series=(altered(original.series[0], border),))
    before, after = (everything(Windows(one, part)) for one in (original, changed))
    torch.testing.assert_close(before.inputs, after.inputs, rtol=0, atol=0)
    torch.testing.assert_close(before.targets, after.targets, rtol=0, atol=0, equal_nan=True)
    np.testing.assert_array_equal(original.scalings[0].mean, changed.scalings[0].mean)
    np.testing.assert_array_equal(original.scalings[0].deviation, changed.scalings[0].deviation)
    with pytest.raises(AssertionError):  # the alteration is seen where it may be
        torch.testing.assert_close(*(everything(Windows(one, later)).targets for one in (original, changed)))


def test_inputs_of_a_window_do_not_depend_on_its_own_future():
    original = data(hourly(), layout=ColumnRoles(("a", "b"), ("c",)))
    windows = Windows(original, "val")
    index = 5
    origin = int(windows.origins[index])
    changed = dataclasses.replace(original, series=(altered(original.series[0], origin),))
    chosen = np.array([index])
    before, after = windows.take(chosen), Windows(changed, "val").take(chosen)
    torch.testing.assert_close(before.inputs, after.inputs, rtol=0, atol=0)
    assert not torch.equal(before.targets, after.targets)


def test_windows_are_the_rows_of_their_part_scaled_by_the_training_part():
    source = data()
    one = source.series[0]
    end = source.rows(0, "train")[2]
    mean, deviation = one.values[:end].mean(0), one.values[:end].std(0)
    count = 0
    for part in PARTS:
        start, begin, stop = source.rows(0, part)
        windows = Windows(source, part)
        batch = everything(windows)
        assert len(windows) == stop - start - source.length - source.horizon + 1
        scaled = (one.values - mean) / deviation
        for index in (0, len(windows) - 1):
            row = start + index
            np.testing.assert_allclose(batch.inputs[index, :, :3], scaled[row : row + 12], atol=1e-5)
            np.testing.assert_allclose(batch.targets[index], scaled[row + 12 : row + 18], atol=1e-5)
        assert part == "train" or begin - start == source.length  # looks back into the part before
        count += stop - begin
    assert count == len(one.times) - source.length


def test_what_is_known_ahead_reaches_into_the_horizon():
    one = hourly(columns=2)
    one.values[:, 1] = np.arange(200)
    source = data(one, layout=ColumnRoles(("a",), (), ("k",)), horizon=6, length=12)
    windows = Windows(source, "train")
    scaling = source.scalings[0]
    ahead = scaling.mean[1] + scaling.deviation[1] * windows.take(np.array([0])).inputs[0, :, 1].numpy()
    np.testing.assert_allclose(ahead, np.arange(6, 18), atol=1e-3)
    unshifted = Windows(source, "train", shift=0).take(np.array([0])).inputs[0, :, 1].numpy()
    np.testing.assert_allclose(scaling.mean[1] + scaling.deviation[1] * unshifted, np.arange(12), atol=1e-3)
    short = dataclasses.replace(source, length=4)  # the future beyond its look-back does not fit in
    ahead = Windows(short, "train").take(np.array([0])).inputs[0, :, 1].numpy()
    np.testing.assert_allclose(scaling.mean[1] + scaling.deviation[1] * ahead, np.arange(4, 8), atol=1e-3)


def test_each_series_is_cut_by_its_own_end():
    early = hourly(120, name="early", seed=1)
    source = data(hourly(name="whole"), early)
    assert source.ends == ((175, 194, 200), (102, 114, 120))
    windows = Windows(source, "test")
    assert windows.owners.tolist() == [0, 1]
    assert windows.origins.tolist() == [194, 114]
    got = windows.take(np.array([1])).targets[0].numpy()
    np.testing.assert_allclose(got, source.scalings[1].apply(early.values)[114:120], atol=1e-5)


def test_rows_without_values_at_the_end_are_the_future():
    one = hourly()
    one.values[190:, :2] = np.nan
    assert data(one, layout=ColumnRoles(("a", "b"), (), ("c",))).ends == ((166, 184, 190),)


def test_short_series_count_for_what_they_can():
    """One has windows that begin before its first row, one has no whole horizon to train on, one is left out."""
    series = [hourly(rows, name=str(rows), columns=1, seed=rows) for rows in (200, 20, 10, 5)]
    source = data(*series, layout=ColumnRoles(("a",)))
    assert source.ends[1:] == ((10, 14, 20), (3, 4, 10), (5, 5, 5))
    windows = Windows(source, "train")
    counts = np.bincount(windows.owners, minlength=4)
    assert counts[0] > 100
    assert counts[1:].tolist() == [3, 1, 0]
    places = np.flatnonzero(windows.owners == 1)
    batch = windows.take(places)
    scaled = source.scalings[1].apply(series[1].values)[:, 0]
    np.testing.assert_allclose(batch.inputs[0, :, 0], [scaled[0]] * 10 + scaled[:2].tolist(), atol=1e-5)
    np.testing.assert_allclose(batch.targets[-1, :, 0], scaled[4:10], atol=1e-5)
    (short,) = windows.take(np.flatnonzero(windows.owners == 2)).targets
    assert torch.isfinite(short[:2]).all()
    assert torch.isnan(short[2:]).all()
    assert source.notes == ("Too short to learn from and to judge by, with 6 steps to forecast: '5' (5 rows).",)


def test_a_horizon_and_three_rows_are_enough():
    source = data(hourly(9), length=None)
    assert source.ends == ((2, 3, 9),)
    assert [len(Windows(source, part)) for part in PARTS] == [1, 1, 1]


def test_at_the_end_windows_go_on_over_all_parts():
    source = data(hourly())
    assert len(Windows(source, "train", last="test")) == 200 - 12 - 6 + 1
    assert len(Windows(source, "train", last="val")) == 194 - 12 - 6 + 1


def test_gaps_are_filled_from_the_past_alone():
    values = np.array([[np.nan, 1.0], [2.0, np.nan], [np.nan, np.nan], [4.0, 3.0]])
    np.testing.assert_array_equal(fill_forward(values), [[0.0, 1.0], [2.0, 1.0], [2.0, 1.0], [4.0, 3.0]])


def test_missing_targets_stay_missing():
    one = hourly()
    one.values[20, 1] = np.nan
    windows = Windows(data(one), "train")
    batch = everything(windows)
    assert torch.isfinite(batch.inputs).all()
    assert torch.isnan(batch.targets[8, 0, 1])  # the row 20 is the first step after rows 8 to 19
    assert int(torch.isnan(batch.targets).sum()) == source_count(one)


def source_count(one):
    """How many training windows of 12 and 6 rows have the row 20 in their horizon."""
    return sum(1 for start in range(200) if start + 12 <= 20 < start + 18)


def test_scaling_comes_back():
    values = np.array([[1.0, 5.0], [3.0, 5.0], [np.nan, 5.0]])
    scaling = Scaling.fit(values)
    np.testing.assert_allclose(scaling.mean, [2.0, 5.0])
    np.testing.assert_allclose(scaling.deviation, [1.0, 1.0])  # a constant keeps its scale
    np.testing.assert_allclose(scaling.undo(scaling.apply(values)), values)


def test_batches_continue_where_they_stopped():
    windows = Windows(data(), "train")
    batches = SeriesBatches(windows, batch_size=8, seed=3)
    seen = [next(batches).targets for _ in range(2 * len(batches) + 3)]
    again = SeriesBatches(windows, batch_size=8, seed=3)
    again.load_state_dict({**batches.state_dict(), "step": 5})
    torch.testing.assert_close(next(again).targets, seen[5], rtol=0, atol=0)
    assert not torch.equal(seen[0], seen[len(batches)])
    with pytest.raises(UserError, match="seed 3"):
        SeriesBatches(windows, batch_size=8, seed=4).load_state_dict(batches.state_dict())


def test_an_epoch_takes_each_window_once():
    windows = Windows(data(hourly(columns=1), layout=ColumnRoles(("a",))), "train")
    batches = SeriesBatches(windows, batch_size=1, seed=0)
    firsts = sorted(float(next(batches).inputs[0, 0, 0]) for _ in range(len(batches)))
    inputs = everything(windows).inputs[:, 0, 0]
    assert firsts == sorted(inputs.tolist())


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r"horizon of 198 steps is too long for 200 rows.*at most 197"):
        data(horizon=198)
    with pytest.raises(UserError, match=r"look-back of 180 steps does not fit into the 175 rows.*at most 174"):
        data(length=180)
    with pytest.raises(UserError, match="at least 1"):
        data(horizon=0)
    counted = Series("", np.arange(30), np.random.default_rng(0).normal(size=(30, 1)))
    source = arrange((counted,), ColumnRoles(("a",)), counted_frequency(1), horizon=2)
    assert source.frequency.features == ()
    assert 1 <= source.length <= 30


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (slice(0, 175), "'b' of arrays has no value in the rows where a model is trained"),
        (slice(175, 194), "'b' of arrays has no value in the rows where candidates"),
        (slice(194, 200), "'b' of arrays has no value in the last 6 rows, where the forecast is judged"),
    ],
)
def test_a_part_without_values_is_refused_before_training(rows, message):
    one = hourly()
    one.values[rows, 1] = np.nan
    with pytest.raises(UserError, match=message):
        data(one)


def test_too_few_rows_are_refused():
    with pytest.raises(UserError, match="3 rows are too few"):
        data(hourly(3), horizon=None, length=None)


def test_a_series_without_values_in_training_is_scaled_like_the_others():
    late = hourly(name="late", seed=1)
    late.values[:175] = np.nan
    source = data(hourly(name="whole"), late)
    np.testing.assert_allclose(source.scalings[1].deviation, source.scalings[0].deviation)

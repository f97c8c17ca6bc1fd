"""Light curves from users' files: read whole, or refused with the row that is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from formwright.data.light_curves import LightCurves, RobustScale, append_features, read_light_curves
from formwright.errors import UserError

ROWS = [
    "a,59001.5,g,10.0,1.0",
    "b,59000.0,r,3.0,0.5",
    "a,59000.5,r,8.0,1.0",
    "a,59003.0,g,-1.0,2.0",
    "b,59002.0,u,4.0,0.5",
]


def write(path: Path, rows: list[str], header: str = "object,time,band,flux,error") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_rows_in_any_order_become_curves_in_order_of_time(tmp_path: Path) -> None:
    curves = read_light_curves(write(tmp_path / "seen.csv", ROWS))
    assert curves.objects == ("a", "b")
    assert curves.bands == ("u", "g", "r")
    assert curves.counts.tolist() == [3, 2]
    assert curves.times.tolist() == [59000.5, 59001.5, 59003.0, 59000.0, 59002.0]
    assert [curves.bands[number] for number in curves.band] == ["r", "g", "g", "r", "u"]
    assert curves.flux.tolist() == [8.0, 10.0, -1.0, 3.0, 4.0]
    assert curves.labels is None


def test_labels_and_features_follow_their_objects(tmp_path: Path) -> None:
    labels = write(tmp_path / "labels.csv", ["b,SN,0.3,7", "c,AGN,1.0,8", "a,AGN,0.1,9"], "object,label,redshift,id")
    curves = read_light_curves(write(tmp_path / "seen.csv", ROWS), labels)
    assert curves.classes == ("AGN", "SN")
    assert curves.labels is not None
    assert curves.labels.tolist() == [0, 1]
    assert curves.feature_names == ("redshift", "id")
    assert curves.features is not None
    assert curves.features.tolist() == [[0.1, 9.0], [0.3, 7.0]]


def test_other_names_and_filters_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "seen.csv", ["1,2,blue,3,1"], "object_id,mjd,filter,f,e")
    columns = {"object": "object_id", "time": "mjd", "band": "filter", "flux": "f", "error": "e"}
    with pytest.raises(UserError, match="'blue', whose wavelength is not known"):
        read_light_curves(path, columns=columns)
    assert read_light_curves(path, columns=columns, wavelengths={"blue": 4400.0}).wavelengths.tolist() == [4400.0]


@pytest.mark.parametrize(
    ("rows", "header", "said"),
    [
        (["a,1,g,2"], "object,time,band,flux", "no column 'error'"),
        (["a,1,g,2,1", "a,2,g,x,1"], "object,time,band,flux,error", "'x' in row 3, column 'flux'"),
        (["a,1,g,2,0"], "object,time,band,flux,error", "error of 0 in row 2"),
        (["a,1,g,2,1", "a,,g,2,1"], "object,time,band,flux,error", "no value in row 3, column 'time'"),
        (["a,inf,g,2,1"], "object,time,band,flux,error", "'inf' in row 2, column 'time'"),
        ([], "object,time,band,flux,error", "no rows"),
    ],
)
def test_what_is_wrong_is_named_with_its_row(tmp_path: Path, rows: list[str], header: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_light_curves(write(tmp_path / "seen.csv", rows, header))


def test_labels_have_to_be_about_every_object_once(tmp_path: Path) -> None:
    seen = write(tmp_path / "seen.csv", ROWS)
    with pytest.raises(UserError, match="nothing about object 'b'"):
        read_light_curves(seen, write(tmp_path / "some.csv", ["a,SN"], "object,label"))
    with pytest.raises(UserError, match="object 'a' more than once"):
        read_light_curves(seen, write(tmp_path / "twice.csv", ["a,SN", "b,SN", "a,AGN"], "object,label"))
    with pytest.raises(UserError, match="no label for object 'b'"):
        read_light_curves(seen, write(tmp_path / "hole.csv", ["a,SN", "b,"], "object,label"))
    with pytest.raises(UserError, match="There is no file"):
        read_light_curves(tmp_path / "missing.csv")


def curves_of(times: list[list[float]], flux: list[list[float]]) -> LightCurves:
    starts = np.concatenate([[0], np.cumsum([len(row) for row in times])])
    total = int(starts[-1])
    return LightCurves(
        tuple(map(str, range(len(times)))), ("r",), np.array([6231.0]), starts, np.concatenate(times),
        np.zeros(total, np.int64), np.concatenate(flux), np.ones(total),
    )  # fmt: skip


def test_what_lies_far_from_all_detections_is_cut_off() -> None:
    times, flux = [[0.0, 100.0, 120.0, 160.0, 300.0], [0.0, 500.0]], [[0.0, 9.0, 7.0, 0.0, 0.0], [1.0, 2.0]]
    kept = curves_of(times, flux).around_detections(days=50.0)
    assert kept.counts.tolist() == [3, 2]
    assert kept.times.tolist() == [100.0, 120.0, 160.0, 0.0, 500.0]


def test_selecting_keeps_each_objects_own_rows() -> None:
    curves = curves_of([[0.0, 1.0], [2.0], [3.0, 4.0, 5.0]], [[1.0, 1.0], [2.0], [3.0, 3.0, 3.0]])
    chosen = curves.select([2, 0])
    assert chosen.objects == ("2", "0")
    assert chosen.flux.tolist() == [3.0, 3.0, 3.0, 1.0, 1.0]
    assert chosen.owner.tolist() == [0, 0, 0, 1, 1]


def test_features_are_the_same_at_every_step() -> None:
    series = np.arange(12.0).reshape(2, 3, 2)
    joined = append_features(series, np.array([[7.0], [8.0]]))
    assert joined.shape == (2, 3, 3)
    assert np.array_equal(joined[..., :2], series)
    assert joined[..., 2].tolist() == [[7.0] * 3, [8.0] * 3]
    with pytest.raises(UserError, match="2 series and 3 rows"):
        append_features(series, np.zeros((3, 1)))


def test_features_as_further_steps_are_the_same_in_every_channel() -> None:
    series = np.arange(12.0).reshape(2, 3, 2)
    joined = append_features(series, np.array([[7.0, 5.0], [8.0, 6.0]]), along="steps")
    assert joined.shape == (2, 5, 2)
    assert np.array_equal(joined[:, :3], series)
    assert joined[:, 3:].tolist() == [[[7.0, 7.0], [5.0, 5.0]], [[8.0, 8.0], [6.0, 6.0]]]
    with pytest.raises(UserError, match="channels or steps"):
        append_features(series, np.zeros((2, 1)), along="rows")  # type: ignore[arg-type]


def test_a_scale_is_that_of_the_series_that_it_was_made_of() -> None:
    series = np.random.default_rng(0).normal([3.0, 0.0], [2.0, 0.0], (50, 20, 2))
    scale = RobustScale.of(series)
    scaled = scale(series)
    low, middle, high = np.percentile(scaled[..., 0], [25, 50, 75])
    assert (high - low, middle) == pytest.approx((1.0, 0.0), abs=1e-12)
    assert np.array_equal(scaled[..., 1], series[..., 1] - scale.median[1])
    assert np.allclose(scale(series + 1.0) - scaled, [1.0 / scale.spread[0], 1.0])

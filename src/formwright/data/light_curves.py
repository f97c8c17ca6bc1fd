"""Light curves: the brightness of many objects, seen now and then through coloured filters."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from formwright.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

#: Central wavelengths in ångström of the filters of the Rubin Observatory (LSST), and of the Zwicky Transient Facility.
LSST_WAVELENGTHS = {"u": 3685.0, "g": 4802.0, "r": 6231.0, "i": 7542.0, "z": 8690.0, "y": 9736.0}
ZTF_WAVELENGTHS = {"ztfg": 4804.79, "ztfr": 6436.92, "ztfi": 7968.22}
WAVELENGTHS = {**LSST_WAVELENGTHS, **{f"lsst{band}": at for band, at in LSST_WAVELENGTHS.items()}, **ZTF_WAVELENGTHS}

_COLUMNS = ("object", "time", "band", "flux", "error")


@dataclass(frozen=True, eq=False)
class LightCurves:
    """Observations of ``n`` objects, those of one object side by side and in order of time.

    Attributes:
        objects: their names.
        bands: names of the filters, from the shortest wavelength to the longest.
        wavelengths: central wavelength of each filter in ångström.
        starts: ``(n + 1,)``, where each object's observations begin, and where the last one's end.
        times: days, of each observation.
        band: the number of its filter.
        flux: its flux, in any unit that is the same for all.
        error: the standard deviation of its flux.
        labels: class of each object, or none where they are not known.
        classes: names of the classes.
        features: ``(n, features)``, what else is known of each object, such as the redshift of its host.
        feature_names: what they are.
    """

    objects: tuple[str, ...]
    bands: tuple[str, ...]
    wavelengths: Floats
    starts: Indices
    times: Floats
    band: Indices
    flux: Floats
    error: Floats
    labels: Indices | None = None
    classes: tuple[str, ...] = ()
    features: Floats | None = None
    feature_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.objects)

    @property
    def counts(self) -> Indices:
        """Observations of each object."""
        return np.diff(self.starts)

    @property
    def owner(self) -> Indices:
        """Which object each observation is of."""
        return np.repeat(np.arange(len(self)), self.counts)

    def select(self, indices: Sequence[int] | Indices) -> LightCurves:
        """The objects ``indices`` alone, in that order."""
        chosen = np.asarray(indices, np.int64)
        counts = self.counts[chosen]
        starts = np.concatenate([[0], np.cumsum(counts)])
        rows = np.arange(starts[-1]) + np.repeat(self.starts[chosen] - starts[:-1], counts)
        return dataclasses.replace(
            self,
            objects=tuple(self.objects[index] for index in chosen),
            starts=starts,
            times=self.times[rows],
            band=self.band[rows],
            flux=self.flux[rows],
            error=self.error[rows],
            labels=None if self.labels is None else self.labels[chosen],
            features=None if self.features is None else self.features[chosen],
        )

    def keep(self, observations: NDArray[np.bool_]) -> LightCurves:
        """Without the observations that ``observations`` is false for.

        Raises:
            UserError: an object would be left without any.
        """
        counts = np.bincount(self.owner[observations], minlength=len(self))
        if len(self) and counts.min() == 0:
            raise UserError(f"No observation of object {self.objects[int(counts.argmin())]!r} would be left.")
        return dataclasses.replace(
            self,
            starts=np.concatenate([[0], np.cumsum(counts)]),
            times=self.times[observations],
            band=self.band[observations],
            flux=self.flux[observations],
            error=self.error[observations],
        )

    def around_detections(self, days: float = 50.0, threshold: float = 5.0) -> LightCurves:
        """What was seen from ``days`` before the first to ``days`` after the last detection.

        A detection is a flux of at least ``threshold`` times its error. An object without any keeps everything.
        """
        detected = self.flux >= threshold * self.error
        if not len(self):
            return self
        first = np.minimum.reduceat(np.where(detected, self.times, np.inf), self.starts[:-1])
        last = np.maximum.reduceat(np.where(detected, self.times, -np.inf), self.starts[:-1])
        never = ~np.isfinite(first)
        first[never], last[never] = -np.inf, np.inf
        return self.keep((self.times >= (first - days)[self.owner]) & (self.times <= (last + days)[self.owner]))


def read_light_curves(
    path: str | Path,
    labels: str | Path | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    wavelengths: Mapping[str, float] | None = None,
) -> LightCurves:
    """Read light curves from a CSV file with a row an observation: ``object, time, band, flux, error``.

    Args:
        path: the observations, in any order.
        labels: a second CSV file with a row an object: ``object``, perhaps ``label``, and numbers that are known of it.
        columns: what the file calls a column, where it is another name, such as ``{"time": "mjd"}``.
        wavelengths: central wavelength in ångström of each filter; those of LSST (``u`` to ``y``) and ZTF (``ztfg``,
            ``ztfr``, ``ztfi``) are known.

    Raises:
        UserError: a file or column is missing, a value is missing or no number, an error is not positive, a filter is
            not known, or the two files are about other objects; the message names the row.
    """
    names = {column: (columns or {}).get(column, column) for column in (*_COLUMNS, "label")}
    table = _read_csv(Path(path), {names["object"]: str, names["band"]: str})
    _check_columns(table, [names[column] for column in _COLUMNS], path)
    numbers = {column: _numbers(table, names[column], path) for column in ("time", "flux", "error")}
    if (numbers["error"] <= 0).any():
        row = int(np.flatnonzero(numbers["error"] <= 0)[0])
        raise UserError(
            f"{path} has an error of {numbers['error'][row]:g} in row {row + 2}; the standard deviation of a flux is "
            "positive."
        )
    known = {**WAVELENGTHS, **(wavelengths or {})}
    band_names = table[names["band"]].to_numpy(str)
    bands = sorted(set(band_names.tolist()), key=lambda name: (known.get(name, 0.0), name))
    unknown = [band for band in bands if band not in known]
    if unknown:
        raise UserError(
            f"{path} has the filter {unknown[0]!r}, whose wavelength is not known; give it as "
            f"wavelengths={{{unknown[0]!r}: ...}} in ångström."
        )
    objects, owner = np.unique(table[names["object"]].to_numpy(str), return_inverse=True)
    order = np.lexsort((numbers["time"], owner))
    index_of = {band: index for index, band in enumerate(bands)}
    curves = LightCurves(
        objects=tuple(objects.tolist()),
        bands=tuple(bands),
        wavelengths=np.array([known[band] for band in bands]),
        starts=np.concatenate([[0], np.cumsum(np.bincount(owner))]),
        times=numbers["time"][order],
        band=np.array([index_of[band] for band in band_names.tolist()], np.int64)[order],
        flux=numbers["flux"][order],
        error=numbers["error"][order],
    )
    return curves if labels is None else _with_labels(curves, Path(labels), names["object"], names["label"])


def _with_labels(curves: LightCurves, path: Path, object_column: str, label_column: str) -> LightCurves:
    table = _read_csv(path, {object_column: str, label_column: str})
    _check_columns(table, [object_column], path)
    names = table[object_column].tolist()
    place = {name: row for row, name in enumerate(names)}
    if len(place) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path} has object {twice!r} more than once; one row an object is expected.")
    missing = [name for name in curves.objects if name not in place]
    if missing:
        raise UserError(f"{path} says nothing about object {missing[0]!r} (and {len(missing) - 1} more) of the curves.")
    table = table.iloc[[place[name] for name in curves.objects]].reset_index(drop=True)
    labels, classes = None, ()
    if label_column in table:
        if table[label_column].isna().any():
            row = int(np.flatnonzero(table[label_column].isna())[0])
            raise UserError(f"{path} has no label for object {curves.objects[row]!r}; every object needs one, or none.")
        found, labels = np.unique(table[label_column].to_numpy(str), return_inverse=True)
        classes = tuple(found.tolist())
    others = [column for column in table.columns if column not in (object_column, label_column)]
    features = np.stack([_numbers(table, column, path) for column in others], axis=1) if others else None
    return dataclasses.replace(
        curves, labels=labels, classes=classes, features=features, feature_names=tuple(map(str, others))
    )


def _read_csv(path: Path, types: Mapping[str, Any]) -> pd.DataFrame:
    import pandas as pd

    if not path.is_file():
        raise UserError(f"There is no file {path}.")
    try:
        return pd.read_csv(path, dtype=dict(types))
    except (ValueError, UnicodeDecodeError) as error:  # pandas' parser errors are ValueErrors
        raise UserError(f"{path} cannot be read as CSV: {error}.") from None


def _check_columns(table: pd.DataFrame, expected: Sequence[str], path: str | Path) -> None:
    absent = [column for column in expected if column not in table]
    if absent:
        raise UserError(
            f"{path} has no column {absent[0]!r}; its columns are {', '.join(map(str, table.columns))}, and "
            f"{', '.join(expected)} are expected (columns={{...}} tells other names)."
        )
    if not len(table):
        raise UserError(f"{path} has no rows.")
    for column in expected:
        if table[column].isna().any():
            row = int(np.flatnonzero(table[column].isna())[0])
            raise UserError(f"{path} has no value in row {row + 2}, column {column!r}.")


def _numbers(table: pd.DataFrame, column: str, path: str | Path) -> Floats:
    import pandas as pd

    values = pd.to_numeric(table[column], errors="coerce").to_numpy(np.float64)
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise UserError(
            f"{path} has {str(table[column].iloc[row])!r} in row {row + 2}, column {column!r}; a number is expected."
        )
    return values


def append_features(series: Floats, features: Floats, *, along: Literal["channels", "steps"] = "channels") -> Floats:
    """Numbers that are known of an object, as further channels, or as further steps, of one value each.

    Shapes: ``(n, steps, bands)`` and ``(n, features)`` to ``(n, steps, bands + features)``, t2's mode "M", or to
    ``(n, steps + features, bands)``, its mode "L", which shows what each feature says among what the steps say.
    Source: Paying Attention to Astronomical Transients, arXiv 2105.06178.

    Raises:
        UserError: the two are not about equally many objects, or ``along`` is neither.
    """
    if len(series) != len(features):
        raise UserError(f"There are {len(series)} series and {len(features)} rows of features; one row each is needed.")
    steps, bands = series.shape[1:]
    if along == "channels":
        return np.concatenate([series, np.repeat(features[:, None], steps, axis=1)], axis=2)
    if along == "steps":
        return np.concatenate([series, np.repeat(features[:, :, None], bands, axis=2)], axis=1)
    raise UserError(f"Features are appended along channels or steps, got {along!r}.")


@dataclass(frozen=True, eq=False)
class RobustScale:
    """``(x - median) / (75th - 25th percentile)`` of each channel; the figures are those of the training series.

    Where the two percentiles are equal, nothing is divided.
    """

    median: Floats
    spread: Floats

    @classmethod
    def of(cls, series: Floats) -> RobustScale:
        """The scale of ``(n, steps, channels)``."""
        low, median, high = np.percentile(series.reshape(-1, series.shape[-1]), [25, 50, 75], axis=0)
        return cls(median, np.where(high > low, high - low, 1.0))

    def __call__(self, series: Floats) -> Floats:
        return (series - self.median) / self.spread

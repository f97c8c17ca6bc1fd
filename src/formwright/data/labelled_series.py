"""Series that each belong to a class: one row per series or per step, brought to one length and cut into parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from formwright.data.folders import copies_note
from formwright.data.series import Scaling, fill_forward
from formwright.data.series_files import (
    SERIES_NAMES,
    TIME_NAMES,
    cells_of,
    column_of,
    drop_bad_cells,
    drop_bad_times,
    groups_of,
    mostly_numbers,
)
from formwright.data.sheets import Sheet, read_sheet
from formwright.data.splits import (
    Split,
    check_splits,
    content_digests,
    fingerprint,
    in_order,
    save_splits,
    split_pictures,
)
from formwright.data.tables import LABEL_NAMES
from formwright.data.time_axis import by_time
from formwright.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

#: Steps that are read of a series at most, and classes that a column of labels has at most.
LONGEST, MOST_CLASSES = 4096, 1000


@dataclass(frozen=True)
class Columns:
    """What a table calls things; without ``series`` each row is a series, whose steps are ``values`` in order."""

    label: str
    values: tuple[str, ...]
    series: str | None = None
    time: str | None = None


@dataclass(frozen=True)
class LabelledSeries:
    """Series with classes.

    Attributes:
        source: where they came from.
        columns: what the table called things.
        raw: one array ``(steps, variates)`` a series, as read, not a number where missing.
        names: of the series.
        labels: the class of each, ``(series,)``.
        class_names: of the classes.
        length: steps that every series is brought to.
        scaling: of the variates, from the training part.
        split: which series is in which part.
        hash: of names, labels and values.
        seed: that the parts were drawn with.
        notes: what the user should know of the reading.
    """

    source: str
    columns: Columns
    raw: tuple[NDArray[np.float64], ...]
    names: tuple[str, ...]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    length: int
    scaling: Scaling
    split: Split
    hash: str
    seed: int
    notes: tuple[str, ...]

    @property
    def variates(self) -> int:
        return self.raw[0].shape[1]

    def save_splits(self, path: str | Path) -> None:
        save_splits(path, self.split, self.names, self.hash, self.seed)

    def check_splits(self, path: str | Path) -> None:
        check_splits(path, self.split, self.names, self.hash, "series")


def prepared(values: NDArray[np.float64], scaling: Scaling, length: int) -> NDArray[np.float32]:
    """A series scaled, its gaps filled from the past, cut to ``length`` steps or filled up with its last value."""
    filled = fill_forward(scaling.apply(values[:length]))
    missing = length - len(filled)
    return np.pad(filled, ((0, missing), (0, 0)), mode="edge").astype(np.float32)


def read_labelled_series(
    path: str | Path,
    *,
    label: str | None = None,
    series: str | None = None,
    time: str | None = None,
    seed: int = 0,
    encoding: str | None = None,
    skip_bad: bool = False,
) -> LabelledSeries:
    """Read series and their classes from a ``.csv``, ``.parquet`` or ``.feather`` table, and split them by class.

    A table in which rows share the name of a series (``series``) has a row for each step; its columns of numbers are
    variates, and the order is that of the column ``time`` or of the rows. In any other table each row is a series.
    Classes and names are texts, as they are written. ``skip_bad`` leaves out rows that cannot be used, and counts them.

    Raises:
        UserError: the table, a column or a cell cannot be used; row and column are named.
    """
    sheet = read_sheet(path, encoding=encoding, skip_bad=skip_bad, keep=(label, series, time))
    columns, guesses = find_columns(sheet.frame, label, series, time)
    if skip_bad:
        drop_bad_rows(sheet, columns)
        drop_bad_cells(sheet, (), columns.label)
    raw, names, bad = split_rows(sheet, columns)
    if bad and (not skip_bad or not raw):
        raise UserError(next(iter(bad.values())))
    found = _labels(sheet, columns)
    texts = [found[name] for name in names]
    class_names = in_order(texts)
    if not 2 <= len(class_names) <= min(MOST_CLASSES, max(2, len(texts) // 3)):
        raise UserError(
            f"Column {columns.label!r} has {len(class_names)} different classes for {len(texts)} series; at least two, "
            "and a few series of each, are expected: name the column of classes with --label-column."
        )
    labels = np.array([class_names.index(text) for text in texts], np.int64)
    notes = [*sheet.notes, *guesses, *(f"Left out: {why}" for why in bad.values())]
    return labelled_series(
        raw,
        labels,
        class_names,
        names=names,
        columns=columns,
        source=str(path),
        seed=seed,
        notes=notes,
    )


def labelled_series(
    raw: Sequence[NDArray[np.float64]],
    labels: NDArray[np.int64],
    class_names: Sequence[str],
    *,
    names: Sequence[str] | None = None,
    columns: Columns | None = None,
    source: str = "arrays",
    seed: int = 0,
    notes: Sequence[str] = (),
) -> LabelledSeries:
    """Series from memory: each ``(steps, variates)``, with its class ``(series,)``, split as :mod:`splits` does.

    Raises:
        UserError: a class has too few different series, or the series hold nothing that varies.
    """
    names = [str(index) for index in range(len(raw))] if names is None else list(names)
    digests = _digests(raw)
    split = split_pictures(labels, digests, np.zeros(len(raw), np.int8), class_names, seed, samples="series")
    lengths = np.array([len(values) for values in raw])
    longest = int(min(lengths.max(), LONGEST))
    training = np.concatenate([raw[index][:longest] for index in split.train])
    there = np.isfinite(training)
    if not any(np.ptp(training[there[:, column], column]) > 0 for column in np.flatnonzero(there.any(0))):
        raise UserError("The series hold one and the same value throughout, so there is nothing to tell classes by.")
    told = list(notes)
    if lengths.min() < longest:
        told.append(
            f"Series have {lengths.min()} to {lengths.max()} steps; shorter ones are filled up with their last value"
            + (f", longer ones are cut after {longest}." if lengths.max() > longest else ".")
        )
    if split.copies:
        told.append(copies_note(split.copies, "series", "series"))
    return LabelledSeries(
        source=source,
        columns=columns or Columns("label", ()),
        raw=tuple(raw),
        names=tuple(names),
        labels=labels,
        class_names=tuple(class_names),
        length=longest,
        scaling=Scaling.fit(training),
        split=split,
        hash=fingerprint(names, labels, digests),
        seed=seed,
        notes=tuple(told),
    )


def find_columns(
    frame: pd.DataFrame, label: str | None, series: str | None, time: str | None
) -> tuple[Columns, list[str]]:
    """The columns as they were named, or as they can be guessed; and what was guessed.

    Raises:
        UserError: a named column is not there, or none can be guessed.
    """
    guesses = []
    if label is None:
        candidates = [name for name in frame.columns if name.lower() in LABEL_NAMES]
        candidates += [
            name for name in frame.columns if not mostly_numbers(frame[name]) and name.lower() not in TIME_NAMES
        ]
        candidates = [name for name in candidates if name not in (series, time)]
        if not candidates:
            raise UserError("There is no column of classes in the table; name it with --label-column.")
        label = candidates[0]
        guesses.append(f"Guessed: classes stand in column {label!r} (--label-column changes it).")
    else:
        column_of(frame, label, "--label-column")
    if series is not None:
        column_of(frame, series, "--series")
    else:
        named = [name for name in frame.columns if name.lower() in SERIES_NAMES and name != label]
        series = next((name for name in named if frame[name].duplicated().any()), None)
        if series is not None:
            guesses.append(f"Guessed: rows of one series share the name in column {series!r} (--series changes it).")
    if time is not None:
        column_of(frame, time, "--time")
    elif series is not None:
        time = next((name for name in frame.columns if name.lower() in TIME_NAMES), None)
    others = [name for name in frame.columns if name not in (label, series, time)]
    unnamed = [name for name in others if name.lower() in SERIES_NAMES] if series is None else []
    values = tuple(name for name in others if mostly_numbers(frame[name]) and name not in unnamed)
    if not values:
        raise UserError(f"Beside the classes in column {label!r} there is no column of numbers to learn from.")
    return Columns(label, values, series, time), guesses


def drop_bad_rows(sheet: Sheet, columns: Columns) -> None:
    """Leave out the rows of a sheet whose numbers, time or series cannot be read."""
    if columns.time is not None:
        drop_bad_times(sheet, columns.time)
    drop_bad_cells(sheet, columns.values, columns.series)
    if columns.series is None:
        empty = sheet.frame[list(columns.values)].isna().all(axis=1).to_numpy()
        if not empty.all():
            sheet.drop(empty, ["it holds no numbers"] * int(empty.sum()))


def split_rows(sheet: Sheet, columns: Columns) -> tuple[list[NDArray[np.float64]], list[str], dict[str, str]]:
    """Each series ``(steps, variates)`` and its name; and by name why others cannot be used.

    That is so where a cell holds no number, or times repeat; row and column are named. Rows are sorted by time.
    """
    frame = sheet.frame
    values, faults = cells_of(frame, columns.values)
    if columns.series is None:
        groups = {f"row {number}": np.array([row]) for row, number in enumerate(frame.index)}
        for row in np.flatnonzero(~np.isfinite(values).any(1)).tolist():
            faults.setdefault(row, f"Row {frame.index[row]} holds no numbers; fill it in, or leave it out.")
    else:
        groups = groups_of(sheet, columns.series)
    bad = {name: faults[row] for name, rows in groups.items() for row in rows.tolist()[::-1] if row in faults}
    if columns.series is not None and columns.time is not None:
        groups, unusable, told = by_time(frame[columns.time], columns.time, groups)
        bad |= unusable
        sheet.told += told
    good = {name: rows for name, rows in groups.items() if name not in bad}
    if columns.series is None:
        raw = [values[rows[0]] for rows in good.values()]
        return [row[: int(np.flatnonzero(np.isfinite(row))[-1]) + 1, None] for row in raw], list(good), bad
    return [values[rows] for rows in good.values()], list(good), bad


def _labels(sheet: Sheet, columns: Columns) -> dict[str, str]:
    """The class of each series by its name, as it is written.

    Raises:
        UserError: a class is missing, or a series has several; names the row.
    """
    texts, numbers = sheet.text(columns.label).tolist(), sheet.frame.index
    if None in texts:
        row = numbers[texts.index(None)]
        raise UserError(f"Column {columns.label!r} has no class in row {row}; fill it in, or leave the row out.")
    if columns.series is None:
        return {f"row {number}": text for number, text in zip(numbers, texts, strict=True)}
    found = {}
    for name, rows in groups_of(sheet, columns.series).items():
        other = next((int(row) for row in rows if texts[row] != texts[rows[0]]), None)
        if other is not None:
            raise UserError(
                f"Series {name!r} has class {texts[rows[0]]!r} at first and {texts[other]!r} in row {numbers[other]}; "
                "a series has one class."
            )
        found[name] = texts[rows[0]]
    return found


def _digests(raw: Sequence[NDArray[np.float64]]) -> NDArray[np.uint64]:
    """One digest a series, equal for equal values."""
    return np.concatenate([content_digests(np.ascontiguousarray(values)[None].view(np.uint8)) for values in raw])

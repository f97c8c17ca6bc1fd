"""Forecasts by column: how far off they are in its own unit, and which columns beside it the model uses at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from formwright.data.series import ColumnRoles
from formwright.data.series_batches import Windows
from formwright.data.splits import evenly_spaced
from formwright.fitting.goal import Run

Values = NDArray[np.floating]

#: Windows that tell whether a column is used, and how little an output may move by chance.
TRIED_WINDOWS, SAME = 16, 1e-6
#: Columns that are told of at most.
MOST_COLUMNS = 12


def errors_by_column(
    names: Sequence[str], actual: Values, forecast: Values, rival: Values | None, scale: Values
) -> list[dict[str, Any]]:
    """Of each column: its name, the mean absolute error in its unit, that of the best baseline, and both as MASE.

    Args:
        names: of the columns.
        actual: in the units of the data, ``(windows, steps, columns)``, not a number where missing.
        forecast: as the truth.
        rival: that of the best baseline; none if there is none.
        scale: what the error of a window is divided by for MASE, ``(windows, columns)``, in the units of the data.
    """
    found = []
    for column, name in enumerate(names[:MOST_COLUMNS]):
        row: dict[str, Any] = {"name": name}
        for key, values in (("mae", forecast), ("rival_mae", rival)):
            if values is not None:
                off = np.abs(values[..., column] - actual[..., column]).astype(np.float64)
                row[key] = float(np.nanmean(off))
                with np.errstate(divide="ignore", invalid="ignore"):
                    scaled = off / scale[:, None, column]
                known = scaled[np.isfinite(scaled)]
                row[key.replace("mae", "mase")] = float(known.mean()) if len(known) else float("nan")
        found.append(row)
    return found


def ignored_columns(run: Run, windows: Windows, layout: ColumnRoles) -> list[str]:
    """The columns beside those to forecast that change no answer of a model, whatever they say.

    The values of a column are drawn anew in some windows; a model that reads it answers otherwise.
    """
    chosen = evenly_spaced(np.arange(len(windows)), TRIED_WINDOWS)
    inputs = windows.take(chosen).inputs
    before = run(inputs)
    first = len(layout.targets)
    generator = torch.Generator().manual_seed(0)
    found = []
    for place, name in enumerate((*layout.past, *layout.known), start=first):
        changed = inputs.clone()
        changed[..., place] = torch.randn(changed[..., place].shape, generator=generator)
        if np.abs(run(changed) - before).max() <= SAME:
            found.append(name)
    return found


def told_ignored(ignored: Sequence[str], layout: ColumnRoles) -> list[str]:
    """What is to be said of columns that were given and are of no use to what is shipped."""
    kinds = (("known ahead", layout.known), ("known up to now", layout.past))
    named = [(words, [name for name in names if name in ignored]) for words, names in kinds]
    return [
        f"What is shipped does not use {'column' if len(names) == 1 else 'the columns'} "
        f"{', '.join(map(repr, names))}, {words}: on the validation windows, nothing "
        f"that reads {'it' if len(names) == 1 else 'them'} was better."
        for words, names in named
        if names
    ]

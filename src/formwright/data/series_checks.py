"""What of a table of series can be learned from: series and columns that say nothing are left out and named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from formwright.data.series import ColumnRoles
from formwright.errors import UserError

#: Series that are named in a note before the others are only counted.
_NAMED = 5


def told_left_out(left_out: Mapping[str, str]) -> list[str]:
    """A sentence for each of a few series that cannot be used, and one for the others."""
    told = [f"Series {name!r} is left out: {why}" for name, why in list(left_out.items())[:_NAMED]]
    more = len(left_out) - len(told)
    return [*told, f"{more:,} more series {'is' if more == 1 else 'are'} left out for such reasons."] if more else told


def useless_series(
    groups: Mapping[str, NDArray[np.int64]], values: NDArray[np.float64], targets: Sequence[str]
) -> dict[str, str]:
    """The series without values to forecast, or with the same in all rows, and what is so of them."""
    found, names = {}, ", ".join(map(repr, targets))
    for name, rows in groups.items():
        own = values[rows]
        given = np.isfinite(own)
        if not given.any():
            found[name] = f"it has no value of {names}."
        elif given.sum() > 1 and (np.nanmax(own, 0, initial=-np.inf) <= np.nanmin(own, 0, initial=np.inf)).all():
            found[name] = f"{names} is the same in all of its rows, and a constant needs no forecast."
    return found


def without_useless(
    layout: ColumnRoles, values: NDArray[np.float64], rows: NDArray[np.int64], lines: tuple[int, int]
) -> tuple[ColumnRoles, NDArray[np.float64], list[str]]:
    """Refuse targets that are empty or constant; leave out covariates that are.

    Raises:
        UserError: names the column, and the rows and value where it is constant.
    """
    kept, notes = [], []
    first, last = lines
    for index, name in enumerate(layout.columns):
        used = values[rows, index]
        given = used[np.isfinite(used)]
        if len(given) and np.ptp(given) > 0:
            kept.append(name)
        elif name in layout.targets and not len(given):
            raise UserError(
                f"Column {name!r} is empty in all rows {first} to {last}, so there is nothing to forecast; "
                "fill it in, or choose other columns with --target."
            )
        elif name in layout.targets:
            raise UserError(
                f"Column {name!r} is {given[0]:g} in all rows {first} to {last}: a constant needs no forecast; "
                "choose other columns with --target."
            )
        else:
            notes.append(
                f"Column {name!r} says nothing (it is {'constant' if len(given) else 'empty'}) and is not used."
            )
    left = ColumnRoles(
        *(tuple(name for name in part if name in kept) for part in (layout.targets, layout.past, layout.known))
    )
    return left, values[:, [layout.columns.index(name) for name in left.columns]], notes

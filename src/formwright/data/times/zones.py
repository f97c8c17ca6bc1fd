"""Zones: instants in UTC and what the clocks on the walls of a place say, with summer time and without."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from formwright.errors import UserError

Times = NDArray[Any]

#: Zones that are tried first: of several that agree with all offsets, the best known one is named.
_WELL_KNOWN = (
    "Europe/Berlin",
    "Europe/London",
    "Europe/Helsinki",
    "America/New_York",
    "America/Chicago",
    "America/Denver",
    "America/Los_Angeles",
    "America/Halifax",
    "America/Sao_Paulo",
    "Australia/Sydney",
    "Australia/Adelaide",
    "Pacific/Auckland",
)
#: Minutes ahead of UTC, by the abbreviation that tables write.
ABBREVIATIONS = {
    **{"Z": 0, "UTC": 0, "GMT": 0, "WET": 0, "WEST": 60, "BST": 60, "CET": 60, "CEST": 120, "EET": 120, "EEST": 180},
    **{"MSK": 180, "IST": 330, "JST": 540, "AEST": 600, "AEDT": 660, "EST": -300, "EDT": -240, "CST": -360},
    **{"CDT": -300, "MST": -420, "MDT": -360, "PST": -480, "PDT": -420},
}
_MINUTE, _HOUR = np.timedelta64(60_000_000_000, "ns"), np.timedelta64(3_600_000_000_000, "ns")


def check_zone(zone: str) -> str:
    """``zone`` if clocks of such a zone are known.

    Raises:
        UserError: they are not.
    """
    import pandas as pd

    try:
        pd.Timestamp("2024-01-01", tz=zone)
    except Exception:  # whatever a library raises on a name that it does not know
        raise UserError(
            f"There is no time zone {zone!r} (--time-zone); name one such as Europe/Berlin, UTC or +01:00."
        ) from None
    return zone


def to_wall(times: Times, zone: str) -> Times:
    """What clocks in ``zone`` say at instants of UTC."""
    import pandas as pd

    index = pd.DatetimeIndex(times).tz_localize("UTC").tz_convert(zone)
    return index.tz_localize(None).to_numpy("datetime64[ns]")


def offsets_of(times: Times, zone: str) -> NDArray[np.int64]:
    """Minutes by which clocks in ``zone`` are ahead of the instants ``times``."""
    found: NDArray[np.int64] = (to_wall(times, zone) - times) // _MINUTE
    return found


def to_utc(walls: Times, zone: str) -> Times:
    """The instants at which clocks in ``zone`` say so, not a time where they never do.

    Of the hour that they say twice a year, the first is meant, unless the rows before it say so too.
    """
    import pandas as pd

    index = pd.DatetimeIndex(walls)
    first = index.tz_localize(zone, ambiguous=np.ones(len(index), bool), nonexistent="NaT")
    second = index.tz_localize(zone, ambiguous=np.zeros(len(index), bool), nonexistent="NaT")
    found = first.tz_convert("UTC").tz_localize(None).to_numpy("datetime64[ns]").copy()
    later = second.tz_convert("UTC").tz_localize(None).to_numpy("datetime64[ns]")
    for place in np.flatnonzero(found != later):
        if place and found[place] <= found[place - 1] and not np.isnat(found[place]):
            found[place] = later[place]
    return found


def days_from_midnight(walls: Times, zone: str) -> Times:
    """Wall times of days as if each began at midnight, also those at which clocks in ``zone`` skip it."""
    days = walls.astype("datetime64[D]").astype("datetime64[ns]")
    late = np.flatnonzero(walls - days == _HOUR)
    if not 0 < len(late) < len(walls) / 2:
        return walls
    skipped = late[np.isnat(to_utc(days[late], zone))]
    found = walls.copy()
    found[skipped] = days[skipped]
    return found


def zone_of(times: Times, offsets: NDArray[np.int64]) -> str | None:
    """The zone whose clocks were so many minutes ahead at the instants ``times``; none if there is no such zone."""
    from zoneinfo import available_timezones

    different = np.unique(offsets)
    if not len(different):
        return None
    if len(different) == 1:
        return fixed(int(different[0]))
    changes = np.flatnonzero(np.diff(offsets)) + 1
    places = np.unique(np.concatenate([changes, changes - 1, np.linspace(0, len(times) - 1, 64).astype(np.int64)]))
    named = sorted(available_timezones())
    for zone in (*(one for one in _WELL_KNOWN if one in named), *(one for one in named if "/" in one)):
        if (offsets_of(times[places], zone) == offsets[places]).all() and (offsets_of(times, zone) == offsets).all():
            return zone
    return None


def fixed(minutes: int) -> str:
    """The zone that is always so many minutes ahead of UTC."""
    return "UTC" if minutes == 0 else offset_text(minutes)


def offset_text(minutes: int, colon: str = ":") -> str:
    """``+01:00`` of 60."""
    hours, rest = divmod(abs(minutes), 60)
    return f"{'-' if minutes < 0 else '+'}{hours:02}{colon}{rest:02}"


def abbreviation(instant: Any, zone: str, minutes: int) -> str:
    """What the clocks of ``zone`` call their time then, such as ``CEST``; the offset if they have no word for it."""
    import pandas as pd

    name = pd.Timestamp(instant, tz="UTC").tz_convert(zone).tzname() or ""
    if name.isalpha():
        return name
    return next(
        (word for word, ahead in ABBREVIATIONS.items() if ahead == minutes and len(word) > 1), offset_text(minutes)
    )

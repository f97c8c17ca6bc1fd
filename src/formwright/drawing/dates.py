"""Times below a chart: where years, months, days or hours begin, as many as there is room for."""

from __future__ import annotations

import re
from collections.abc import Sequence

from formwright.drawing.axes import MARGIN, Scale, Tick

#: Times that a narrow screen has room for.
MOST_TIMES = 4
_DATED = re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d.*)?$")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
#: How many letters of a time tell the year, the month, the day, the hour and the minute.
_YEAR, _MONTH, _DAY = 4, 7, 10
_LEVELS = (_YEAR, _MONTH, _DAY, 13, 16)


def dates_axis(label: str, times: Sequence[str]) -> Scale:
    """A scale of places in a list of times, which are told where one of their larger units begins.

    Args:
        label: of the axis.
        times: as texts, such as ``2024-05-31`` or ``2024-05-31 06:00``, or anything else.
    """
    last = max(len(times) - 1, 1)
    bare = Scale(label, float, -MARGIN * last / 2, last * (1 + MARGIN / 2), ())
    ticks = tuple(Tick(bare.at(place), text) for place, text in _told(times))
    return Scale(bare.label, bare.transform, bare.low, bare.high, ticks)


def _told(times: Sequence[str]) -> list[tuple[int, str]]:
    if not all(_DATED.match(time) for time in times):
        return [(place, times[place]) for place in _thinned(range(len(times)))]
    begins = {level: _beginnings(times, level) for level in _LEVELS}
    level = max((level for level in _LEVELS if 2 <= len(begins[level]) <= MOST_TIMES), default=0)
    if not level:  # the first of which there are too many, or whatever there is
        level = next((level for level in _LEVELS if len(begins[level]) > MOST_TIMES), _LEVELS[-1])
    return [(place, _text(times[place], level, times)) for place in _thinned(begins[level])]


def _beginnings(times: Sequence[str], level: int) -> list[int]:
    return [place for place in range(1, len(times)) if times[place][:level] != times[place - 1][:level]]


def _thinned(places: Sequence[int]) -> Sequence[int]:
    return places[:: -(-len(places) // MOST_TIMES)] if places else []


def _text(time: str, level: int, times: Sequence[str]) -> str:
    year, month, day = time[:4], _MONTHS[int(time[5:7]) - 1], str(int(time[8:10]))
    if level == _YEAR:
        return year
    if level == _MONTH:
        return f"{month} {year}"
    if level == _DAY:
        return f"{day} {month}"
    return time[11:16] if times[0][:_DAY] == times[-1][:_DAY] else f"{day} {month} {time[11:16]}"

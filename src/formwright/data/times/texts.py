"""Texts as times: which parts of them are days, months and years is decided for the column, not for the cell."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formwright.data.times.formats import ENGLISH, Reading, TimeFormat
from formwright.data.times.words import months_by_name, spelling
from formwright.data.times.zones import ABBREVIATIONS, zone_of

Times = NDArray[Any]
Numbers = NDArray[np.int64]
Fields = list[dict[str, str] | None]

_WORD = r"[^\W\d_]{3,}\.?"
_BETWEEN = r"[-/\ ]|\.\ ?|,\ ?"
_LETTERS_BEGIN = r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])"
_PART = rf"\d{{4}}|\d{{1,2}}|{_WORD}"
_DATES = {
    "three": rf"""(?:(?P<weekday>(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*),?\ )?
        (?P<a>\d{{1,4}}|{_WORD})(?P<s1>{_BETWEEN}|{_LETTERS_BEGIN})(?P<b>\d{{1,2}}|{_WORD})(?P<s2>{_BETWEEN}|{_LETTERS_BEGIN})(?P<c>\d{{1,4}})""",
    "digits": r"(?P<digits>\d{8})",
    "ordinal": r"(?P<a>\d{4})(?P<s1>-)(?P<b>\d{3})",
    "week": r"(?P<a>\d{4})(?P<s1>-?)(?P<w>W)(?P<b>\d{2})(?:(?P<s2>-)(?P<c>[1-7]))?",
    "quarter": r"(?P<a>\d{4})(?P<s1>[-/\ ]?)(?P<q>[QHS])(?P<b>[1-4])",
    "quarter first": r"(?P<first>[QHS])(?P<b>[1-4])(?P<s1>[-/\ ]?)(?P<a>\d{4})",
    "month": rf"(?P<a>{_PART})(?P<s1>-?M|{_BETWEEN}|{_LETTERS_BEGIN})(?P<b>{_PART})",
}
_CLOCK = r"""(?:(?P<gap>T|\ +|,\ *|\ -\ |_)
    (?P<H>\d{1,2})(?:(?P<t>[:.h]|(?<=\d\d)(?=\d\d))(?P<M>\d{2})(?:(?P<t2>[:.]|(?=\d\d))(?P<S>\d{2})(?:(?P<t3>[.,])(?P<f>\d{1,9}))?)?)?
    (?:(?P<noon>\ ?)(?P<p>[ap]\.?m\.?))?
    (?:(?P<z0>\ ?)(?P<z>Z|[A-Z]{3,4}|[+-]\d{2}(?:(?P<zc>:?)\d{2})?))?(?P<area>\[[\w/+-]+\])?)?"""
_SHAPES = {name: re.compile(rf"{date}{_CLOCK}", re.VERBOSE | re.IGNORECASE) for name, date in _DATES.items()}
#: Texts that are looked at to tell how a column is written, and how many different ones are too many to read singly.
_LOOKED_AT, _MANY = 200, 2000
_MINUTE = np.timedelta64(60_000_000_000, "ns")
#: Years that the first and the last moment of ``datetime64[ns]`` lie in, both excluded.
_FIRST_YEAR, _LAST_YEAR = 1678, 2261


def readings_of_texts(texts: NDArray[Any]) -> Iterator[Reading]:
    """The ways in which the texts of a column, ``(rows,)``, can be read as times, most usual first.

    Args:
        texts: without blanks around; the empty ones are left to the caller.
    """
    import pandas as pd

    codes, unique = pd.factorize(texts)
    spelled = [str(text) for text in unique]
    if len(spelled) > _MANY:
        sample = unique[np.linspace(0, len(spelled) - 1, _LOOKED_AT).astype(np.int64)]
        quick = [_quickly(way, unique) for way in readings_of_texts(sample)]
        found = [way for way in quick if way is not None]
    else:
        found = []
    found = found or [way for shape in _shapes(spelled) for way in _of_shape(shape, spelled)]
    for way in found:
        wrong = way.faults or {}
        yield dataclasses.replace(
            way,
            times=way.times[codes],
            offsets=None if way.offsets is None else way.offsets[codes],
            faults={row: wrong[code] for row, code in enumerate(codes.tolist()) if code in wrong} if wrong else {},
        )


def _quickly(way: Reading, texts: NDArray[Any]) -> Reading | None:
    """A way that a sample was read in, for all texts, by pandas; none if it cannot read all of them so."""
    import pandas as pd

    pattern, offsets = re.sub(r"%-(?=\w)", "%", re.sub(r"%\d+f", "%f", way.format.pattern)), way.offsets
    if offsets is not None:
        ahead = re.search(r"%:?z$", pattern)
        if ahead is not None:
            width = 6 if ":" in ahead[0] else 5
            codes, tails = pd.factorize(np.array([text[-width:] for text in texts], object))
            minutes = [_minutes(tail) if re.fullmatch(r"[+-]\d{2}:?\d{2}", tail) else None for tail in tails]
            if None in minutes:
                return None
            offsets = np.array(minutes, np.int64)[codes]
            pattern, texts = pattern[: ahead.start()], np.array([text[:-width] for text in texts], object)
        else:
            offsets = np.zeros(len(texts), np.int64)  # of a letter Z
    if re.search(r"%[qhGVuPZ]", pattern) or way.format.months != ENGLISH:
        return None
    times = pd.to_datetime(pd.Series(texts, dtype=object), format=pattern, errors="coerce")
    if times.isna().any() or not times.dt.year.between(_FIRST_YEAR, _LAST_YEAR).all():
        return None
    walls = times.to_numpy("datetime64[ns]")
    zone = "" if offsets is None else zone_of(walls - offsets * _MINUTE, offsets) or "UTC"
    return dataclasses.replace(
        way, times=walls, offsets=offsets, faults={}, format=dataclasses.replace(way.format, zone=zone)
    )


def _shapes(texts: Sequence[str]) -> list[re.Pattern[str]]:
    """The shapes that most of the texts have."""
    looked = [texts[place] for place in np.unique(np.linspace(0, len(texts) - 1, _LOOKED_AT).astype(np.int64))]
    counts = {name: sum(1 for text in looked if shape.fullmatch(text)) for name, shape in _SHAPES.items()}
    most = max(counts.values())
    return [_SHAPES[name] for name, count in counts.items() if count == most > len(looked) / 2]


def _of_shape(shape: re.Pattern[str], texts: Sequence[str]) -> Iterator[Reading]:
    fields: Fields = [found.groupdict() if (found := shape.fullmatch(text)) else None for text in texts]
    first = next((one for one in fields if one is not None), None)
    if first is None:
        return
    unlike = {
        place: f"which cannot be read as a date or time like the others ({_example(fields, texts)})"
        for place, one in enumerate(fields)
        if one is None
    }
    clock, shift, offsets, faults = _clocks(fields, unlike)
    for roles, pattern, words, usual in _orders(first, fields):
        dates, wrong = _dates(fields, roles)
        names = {one[part] for one in fields if one for part in "abc" if roles.get(part) == "b"}
        walls, faulty, zone = dates.astype("datetime64[ns]") + shift, {**wrong, **faults}, ""
        if offsets is not None:
            good = np.array([place for place in range(len(fields)) if place not in faulty], np.int64)
            zone = _area(fields) or zone_of((walls - offsets * _MINUTE)[good], offsets[good]) or "UTC"
        layout = TimeFormat(pattern + clock, zone=zone, months=spelling(names) if names else ENGLISH)
        yield Reading(walls, layout, words, offsets, faulty, usual)


def _example(fields: Fields, texts: Sequence[str]) -> str:
    return next(text for one, text in zip(fields, texts, strict=True) if one is not None)


def _orders(first: dict[str, str], fields: Fields) -> Iterator[tuple[dict[str, str], str, str, bool]]:
    """What the parts may be: directives by part, the pattern, what the user should know, whether it is usual."""
    known = [one for one in fields if one is not None]
    common = {
        name: Counter(one.get(name) or "" for one in known).most_common(1)[0][0] for name in ("s1", "s2", "weekday")
    }

    def widths(part: str) -> set[int]:
        return {len(one[part]) for one in known}

    def directive(part: str, letter: str) -> str:
        return f"%-{letter}" if letter in "md" and 1 in widths(part) else f"%{letter}"

    if first.get("digits"):
        yield {"digits": "Ymd"}, "%Y%m%d", "", True
    elif first.get("w"):
        day = f"{common['s2']}%u" if first.get("c") else ""
        yield {"a": "G", "b": "V", "c": "u"}, f"%G{common['s1']}{first['w']}%V{day}", "as weeks of ISO 8601", True
    elif first.get("q") or first.get("first"):
        name = first.get("q") or first["first"]
        letter = "q" if name in "Qq" else "h"
        both = (f"{name}%{letter}", "%Y") if first.get("first") else ("%Y", f"{name}%{letter}")
        pattern = common["s1"].join(both)
        yield {"a": "Y", "b": letter}, pattern, "", True
    elif "c" not in first and first["b"].isdigit() and len(first["b"]) == 3:
        yield {"a": "Y", "b": "j"}, f"%Y{common['s1']}%j", "as days of the year", True
    else:
        parts = [part for part in "abc" if part in first]
        weekday = common["weekday"]
        before = f"%{'A' if len(weekday) > 3 else 'a'}{', ' if weekday else ''}" if weekday else ""
        for letters, usual in _meanings(parts, known, common["s1"]):
            roles = dict(zip(parts, letters, strict=True))
            pieces = [directive(part, letter) for part, letter in roles.items()]
            pattern = pieces[0] + common["s1"] + pieces[1] + (common["s2"] + pieces[2] if len(pieces) == 3 else "")
            yield roles, before + pattern, _told(letters), usual


def _told(letters: str) -> str:
    order = {"d": "day first", "m": "month first", "y": "year first"}
    return order.get(letters[0], "") if letters in ("dmY", "mdY", "dmy", "mdy", "ymd") else ""


def _meanings(parts: Sequence[str], known: Sequence[dict[str, str]], separator: str) -> Iterator[tuple[str, bool]]:
    """Directives of the parts in each order that names and numbers of four digits leave open."""
    texts = {part: [one[part] for one in known] for part in parts}
    named = [part for part in parts if not texts[part][0][0].isdigit()]
    years = [part for part in parts if len(texts[part][0]) == 4 and texts[part][0].isdigit()]
    if len(parts) == 2:
        if named:
            yield ("bY" if years else "by") if named == ["a"] else ("Yb" if years else "yb"), True
        elif years:
            yield ("Ym" if years == ["a"] else "mY"), True
        return
    if len(years) > 1 or len(named) > 1:
        return
    orders = ("dmY", "mdY", "Ymd", "Ydm") if years else ("dmy", "mdy", "ymd")
    for order in orders:
        if years and order.index("Y") != parts.index(years[0]):
            continue
        if named and order.index("m") != parts.index(named[0]):
            continue
        letters = order.replace("m", "b") if named else order
        yield letters, letters in ("Ymd", "Ybd") or "b" in letters or (separator.startswith(".") and letters[0] == "d")


def _dates(fields: Fields, roles: dict[str, str]) -> tuple[Times, dict[int, str]]:
    """Days by what the parts are, and by place why they are none."""
    count = len(fields)
    values: dict[str, Numbers] = {}
    wrong: dict[int, str] = {}
    for part, letter in roles.items():
        texts = [(one or {}).get(part) or "" for one in fields]
        if letter == "Ymd":
            whole = np.array([int(text or 0) for text in texts])
            values |= {"Y": whole // 10_000, "m": whole // 100 % 100, "d": whole % 100}
        elif letter == "b":
            months = months_by_name()
            values["m"] = np.array([months.get(text.rstrip(".").lower(), 0) for text in texts])
        else:
            values[letter] = np.array([int(text) if text.isdigit() else -1 for text in texts])
        if letter == "Y":
            wrong |= {
                place: "whose year is not written as the others are"
                for place, text in enumerate(texts)
                if text and len(text) != 4
            }
        if letter == "y":
            wrong |= {
                place: "whose year is not written as the others are"
                for place, text in enumerate(texts)
                if text and len(text) != 2
            }
    one = np.ones(count, np.int64)
    if "y" in values:  # as POSIX has it
        values["Y"] = np.where(values["y"] < 69, 2000, 1900) + values["y"]
    year = values.get("Y", values.get("G", one))
    dates, bad = dates_of(year, values)
    return dates, {**{int(place): "which is no date" for place in np.flatnonzero(bad)}, **wrong}


def dates_of(year: Numbers, values: dict[str, Numbers]) -> tuple[Times, NDArray[np.bool_]]:
    """Days of years, and of months, days, quarters, halves, weeks or days of the year where given; and which are none.

    Returns:
        ``datetime64[D]`` and where there is no such day.
    """
    inside = (year >= _FIRST_YEAR) & (year <= _LAST_YEAR)
    years = np.where(inside, year, 1970)
    start = (years - 1970).astype("datetime64[Y]")
    if "V" in values:
        week, day = values["V"], np.maximum(values.get("u", np.ones_like(year)), 1)
        monday = _first_monday(start)
        dates = monday + (7 * (week - 1) + day - 1).astype("timedelta64[D]")
        last = (_first_monday(start + np.timedelta64(1, "Y")) - monday).astype(np.int64) // 7
        return dates, ~inside | (week < 1) | (week > last)
    if "j" in values:
        dates = start.astype("datetime64[D]") + (values["j"] - 1).astype("timedelta64[D]")
        return dates, ~inside | (values["j"] < 1) | (dates.astype("datetime64[Y]") != start)
    month = np.ones_like(year)
    for letter, months in (("m", 1), ("q", 3), ("h", 6)):
        month = (values[letter] - 1) * months + 1 if letter in values else month
    day = values.get("d", np.ones_like(year))
    bad = ~inside | (month < 1) | (month > 12) | (day < 1) | (day > 31)
    months_ = start.astype("datetime64[M]") + np.where(bad, 0, month - 1).astype("timedelta64[M]")
    dates = months_.astype("datetime64[D]") + np.where(bad, 0, day - 1).astype("timedelta64[D]")
    return dates, bad | (dates.astype("datetime64[M]") != months_)


def _first_monday(start: Times) -> Times:
    """The Monday of the first week of ISO 8601, the one with 4 January."""
    fourth = start.astype("datetime64[D]") + np.timedelta64(3, "D")
    return fourth - ((fourth.astype(np.int64) + 3) % 7).astype("timedelta64[D]")


def _clocks(fields: Fields, unlike: dict[int, str]) -> tuple[str, Times, Numbers | None, dict[int, str]]:
    """The pattern of times of the day, their ``timedelta64[ns]``, offsets from UTC in minutes, and faults by place."""
    known = [one for one in fields if one is not None]
    faults = dict(unlike)
    timed = [one for one in known if one.get("H")]

    def integers(part: str, read: Callable[[str], int] = int) -> Numbers:
        return np.array([read(text) if one and (text := one.get(part)) else 0 for one in fields], np.int64)

    hours, minutes, seconds = (integers(part) for part in "HMS")
    fraction = integers("f", lambda text: int(text.ljust(9, "0")))
    for place, one in enumerate(fields):
        if one and one.get("p"):
            if not 1 <= hours[place] <= 12:
                faults[place] = "whose hour is no hour of twelve"
            hours[place] = hours[place] % 12 + (12 if one["p"][0] in "pP" else 0)
    over = (hours > 24) | ((hours == 24) & (minutes + seconds > 0)) | (minutes > 59) | (seconds > 59)
    faults |= {int(place): "whose time of the day is none" for place in np.flatnonzero(over)}
    shift = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000_000 + fraction
    offsets, zoned = None, [one for one in timed if one.get("z")]
    if zoned:
        offsets = np.zeros(len(fields), np.int64)
        for place, one in enumerate(fields):
            if one is None:
                continue
            found = _minutes(one["z"]) if one.get("z") else None
            if found is None:
                faults[place] = "which says no offset from UTC that is known, as others do"
            offsets[place] = found or 0
    return _clock_pattern(timed), shift.astype("timedelta64[ns]"), offsets, faults


def _clock_pattern(timed: Sequence[dict[str, str]]) -> str:
    if not timed:
        return ""
    first = timed[0]
    letter = "I" if first.get("p") else "H"
    pattern = first["gap"] + (f"%-{letter}" if any(len(one["H"]) == 1 for one in timed) else f"%{letter}")
    fullest = max(timed, key=lambda one: len(one.get("M") or "") + len(one.get("S") or "") + len(one.get("f") or ""))
    if fullest.get("M"):
        pattern += f"{fullest['t']}%M"
    if fullest.get("S"):
        pattern += f"{fullest['t2']}%S"
    if fullest.get("f"):
        pattern += f"{fullest['t3']}%{len(fullest['f'])}f"
    if first.get("p"):
        pattern += f"{first['noon']}{'%P' if first['p'].islower() else '%p'}"
    zone = first.get("z")
    if zone:
        pattern += first["z0"] or ""
        names = {one["z"] for one in timed if one.get("z")}
        if zone.isalpha():
            pattern += zone if names == {zone} and _minutes(zone) == 0 else "%Z"
        else:
            pattern += "%z" if first.get("zc") == "" else "%:z"
    return pattern


def _minutes(text: str) -> int | None:
    if text[0] not in "+-":
        return ABBREVIATIONS.get(text.upper())
    digits = text[1:].replace(":", "").ljust(4, "0")
    return (-1 if text[0] == "-" else 1) * (int(digits[:2]) * 60 + int(digits[2:]))


def _area(fields: Fields) -> str:
    areas = {one["area"][1:-1] for one in fields if one and one.get("area")}
    return next(iter(areas)) if len(areas) == 1 else ""

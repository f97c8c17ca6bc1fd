"""Names of months and days, as columns of times spell them."""

from __future__ import annotations

from functools import cache

#: Names of the twelve months, short and long, by language.
MONTHS: dict[str, tuple[str, str]] = {
    "English": (
        "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec",
        "January February March April May June July August September October November December",
    ),
    "German": (
        "Jan Feb Mär Apr Mai Jun Jul Aug Sep Okt Nov Dez",
        "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    ),
    "French": (
        "janv févr mars avr mai juin juil août sept oct nov déc",
        "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    ),
    "Spanish": (
        "ene feb mar abr may jun jul ago sep oct nov dic",
        "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    ),
    "Italian": (
        "gen feb mar apr mag giu lug ago set ott nov dic",
        "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    ),
    "Portuguese": (
        "jan fev mar abr mai jun jul ago set out nov dez",
        "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
    ),
    "Dutch": (
        "jan feb mrt apr mei jun jul aug sep okt nov dec",
        "januari februari maart april mei juni juli augustus september oktober november december",
    ),
}
#: Spellings beside those.
_OTHERS = {"sept": 9, "mrz": 3, "jän": 1, "jänner": 1, "fev": 2, "aout": 8, "fevrier": 2, "decembre": 12}
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@cache
def months_by_name() -> dict[str, int]:
    """The month, 1 to 12, of each name in lower case."""
    found = dict(_OTHERS)
    for both in MONTHS.values():
        for names in both:
            found |= {name.lower(): month for month, name in enumerate(names.split(), start=1)}
    return found


def spelling(names: set[str]) -> tuple[str, ...]:
    """The names of all twelve months in the language, length and case of those that a column has."""
    plain = {name.rstrip(".").lower() for name in names}
    lists = [tuple(both[long].split()) for long in (0, 1) for both in MONTHS.values()]
    best = max(lists, key=lambda months: len(plain & {month.lower() for month in months}))
    first = next(iter(sorted(names)))
    change = str.upper if first.isupper() else str.lower if first.islower() else str.capitalize
    dot = "." if first.endswith(".") else ""
    return tuple(change(month) + dot for month in best)

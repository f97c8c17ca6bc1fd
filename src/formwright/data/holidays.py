"""The holidays of a country, which travel with a model as dates, so that it is asked with those that it learned."""

from __future__ import annotations

from formwright.errors import UserError

#: Years beyond the last one of the data whose holidays are known to a model.
YEARS_AHEAD = 15


def holiday_dates(country: str, first: int, last: int) -> tuple[str, ...]:
    """The holidays from one year to :data:`YEARS_AHEAD` after another, such as ``2024-12-25``, in order.

    Args:
        country: its code of two letters, alone or with a part of it: ``DE``, ``DE-BY``, ``US-CA``.
        first: the first year.
        last: the last year of the data.

    Raises:
        UserError: the country, or the part of it, is not known.
    """
    import holidays

    name, _, part = country.partition("-")
    name, years = name.upper(), range(first - 1, last + YEARS_AHEAD + 1)
    parts = holidays.list_supported_countries(include_aliases=False).get(name)
    if parts is None:
        raise UserError(
            f"No holidays are known of country {country!r} (--country); give a code of two letters, such as DE, or one "
            "with a part of the country, such as DE-BY."
        )
    known = {one.lower(): one for one in parts}
    if part and part.lower() not in known:
        have = f"one of {', '.join(parts)}" if parts else f"{name} alone, which has no parts"
        raise UserError(f"No holidays are known of {part!r} in {name} (--country); give {have}.")
    found = holidays.country_holidays(name, subdiv=known.get(part.lower()), years=years)
    return tuple(sorted(day.isoformat() for day in found))

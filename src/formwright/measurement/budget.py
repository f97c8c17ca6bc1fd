"""Quantities as people write them (``5ms``, ``4MB``, ``1.8G``, ``1h30m``) and the budget that is made of them."""

from __future__ import annotations

import itertools
import math
import re
from typing import Annotated, Protocol

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from formwright.errors import UserError

Quantity = str | int | float | None

_LATENCY_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6}
_DURATION_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0}
_SIZE_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_COUNT_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12}

_NUMBER = r"(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)"
_TERM = re.compile(_NUMBER + r"\s*([^\W\d_]*)")
_TERMS = re.compile(rf"(?:\s*{_NUMBER}\s*[^\W\d_]+)+\s*")


def _positive(value: float, text: object, what: str) -> float:
    if not math.isfinite(value) or value <= 0:
        raise UserError(f"'{text}' is not a {what}: expected a number above zero.")
    return value


def _parse(text: Quantity, what: str, units: dict[str, float], shown: str, example: str) -> float:
    """``text`` as a multiple of the base unit; a bare number counts in base units."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        return _positive(float(text), text, what)
    match = _TERM.fullmatch(str(text).strip())
    scale = None if match is None else _unit(match.group(2), units)
    if match is None or scale is None:
        raise UserError(f"'{text}' is not a {what}: expected a number and a unit of {shown}, such as {example}.")
    return _positive(float(match.group(1)) * scale, text, what)


def _unit(name: str, units: dict[str, float]) -> float | None:
    """The scale of a unit; case is forgiven where no other unit differs by case alone."""
    if name in units:
        return units[name]
    alike = {scale for unit, scale in units.items() if unit.lower() == name.lower()}
    return alike.pop() if len(alike) == 1 and name else None


def parse_latency(text: str | float) -> float:
    """Seconds of ``5ms``, ``0.2s``, ``300us``; a number is seconds already. Raises :class:`UserError`."""
    return _parse(text, "latency", _LATENCY_UNITS, "s, ms, us", "5ms")


def parse_size(text: str | float) -> int:
    """Bytes of ``4MB`` (10⁶) or ``4MiB`` (2²⁰); a number is bytes already. Raises :class:`UserError`."""
    units = {name: float(scale) for name, scale in _SIZE_UNITS.items()}
    return round(_parse(text, "size", units, "B, kB, MB, GB, KiB, MiB, GiB", "4MB"))


def parse_count(text: str | float) -> int:
    """A count such as MACs: ``1.8G``, ``300M``, ``1e9``. Raises :class:`UserError`."""
    units = {name: float(scale) for name, scale in _COUNT_UNITS.items()}
    return round(_parse(text, "count", units, "k, M, G, T or none", "1.8G"))


def parse_duration(text: str | float) -> float:
    """Seconds of ``15m``, ``90s``, ``1h30m``; a number is seconds already. Raises :class:`UserError`."""
    if isinstance(text, str) and _TERMS.fullmatch(text):
        terms = [(float(number), _unit(name, _DURATION_UNITS)) for number, name in _TERM.findall(text)]
        scales = [scale for _, scale in terms if scale is not None]
        # Larger units first, each once: 1h30m is a duration, 30m1h and 5m5m are slips.
        if len(scales) == len(terms) and all(a > b for a, b in itertools.pairwise(scales)):
            total = sum(number * scale for (number, _), scale in zip(terms, scales, strict=True))
            return _positive(total, text, "duration")
    return _parse(text, "duration", _DURATION_UNITS, "d, h, m, s", "15m, 90s or 1h30m")


def _scaled(value: float, units: list[tuple[float, str]], separator: str = " ") -> str:
    # 0.9996 ms reads better as 1 ms than as 1000 us.
    scale, unit = next((pair for pair in units if abs(value) >= 0.9995 * pair[0]), units[-1])
    return f"{value / scale:.3g}".rstrip(".") + (separator + unit if unit else "")


def format_seconds(seconds: float) -> str:
    """``0.0042`` as ``4.2 ms``; from two minutes on ``15m`` and ``1h30m``."""
    if seconds >= 119.5:
        minutes, rest = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        parts = [(hours, "h"), (minutes, "m"), (rest if not hours else 0, "s")]
        return "".join(f"{number}{unit}" for number, unit in parts if number)
    if seconds >= 99.95:
        return f"{seconds:.0f} s"
    return _scaled(seconds, [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs")])


def format_bytes(size: float) -> str:
    """``4_200_000`` as ``4.2 MB`` (decimal units)."""
    return _scaled(size, [(1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")])


def format_count(count: float) -> str:
    """``1_800_000_000`` as ``1.8G``."""
    return _scaled(count, [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")], separator="")


class Measured(Protocol):
    """What a budget is compared with; ``None`` where it was not measured."""

    @property
    def seconds(self) -> float | None: ...

    @property
    def file_size(self) -> int | None: ...

    @property
    def macs(self) -> int | None: ...


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PositiveCount = Annotated[int, Field(gt=0)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Budget:
    """Upper limits; ``None`` is no limit.

    ``latency``: seconds for one call. ``size``: bytes of the shipped file. ``macs``: multiply-accumulates for one
    input. ``time``: seconds that the search for the model may take (not a property of the model, so never violated by
    a measurement).
    """

    latency: Positive | None = None
    size: PositiveCount | None = None
    macs: PositiveCount | None = None
    time: Positive | None = None

    @classmethod
    def parse(
        cls,
        *,
        max_latency: Quantity = None,
        max_size: Quantity = None,
        max_macs: Quantity = None,
        max_time: Quantity = None,
    ) -> Budget:
        """The budget of ``5ms``, ``4MB``, ``1.8G``, ``15m``. Raises :class:`UserError` for what is not understood."""
        return cls(
            latency=None if max_latency is None else parse_latency(max_latency),
            size=None if max_size is None else parse_size(max_size),
            macs=None if max_macs is None else parse_count(max_macs),
            time=None if max_time is None else parse_duration(max_time),
        )

    def violations(self, measurement: Measured) -> list[str]:
        """What is over the budget, one phrase each; a limit whose quantity was not measured counts as violated."""
        checks = [
            ("latency", measurement.seconds, self.latency, format_seconds),
            ("size", measurement.file_size, self.size, format_bytes),
            ("MACs", measurement.macs, self.macs, format_count),
        ]
        found = []
        for what, value, limit, show in checks:
            if limit is None:
                continue
            if value is None:
                found.append(f"{what} was not measured (limit {show(limit)})")
            elif value > limit:
                found.append(f"{what} {show(value)} is over {show(limit)}")
        return found

    def met_by(self, measurement: Measured) -> bool:
        return not self.violations(measurement)

    def __str__(self) -> str:
        limits = [
            ("latency", self.latency, format_seconds),
            ("size", self.size, format_bytes),
            ("MACs", self.macs, format_count),
            ("time", self.time, format_seconds),
        ]
        return ", ".join(f"{what} ≤ {show(value)}" for what, value, show in limits if value is not None) or "no limits"

"""Quantities and budgets."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import pydantic
import pytest

from formwright.errors import UserError
from formwright.measurement.budget import (
    Budget,
    format_bytes,
    format_count,
    format_seconds,
    parse_count,
    parse_duration,
    parse_latency,
    parse_size,
)


@dataclass(frozen=True)
class Point:
    seconds: float | None = None
    file_size: int | None = None
    macs: int | None = None


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_latency, "5ms", 0.005),
        (parse_latency, " 0.2 s ", 0.2),
        (parse_latency, "300us", 3e-4),
        (parse_latency, "300µs", 3e-4),
        (parse_latency, "1.5MS", 0.0015),
        (parse_latency, 0.01, 0.01),
        (parse_size, "4MB", 4_000_000),
        (parse_size, "4MiB", 4 * 2**20),
        (parse_size, "512kb", 512_000),
        (parse_size, "1.5 GB", 1_500_000_000),
        (parse_size, "100B", 100),
        (parse_size, 4096, 4096),
        (parse_count, "1.8G", 1_800_000_000),
        (parse_count, "300M", 300_000_000),
        (parse_count, "1e9", 1_000_000_000),
        (parse_count, "12", 12),
        (parse_duration, "15m", 900),
        (parse_duration, "90s", 90),
        (parse_duration, "1h30m", 5400),
        (parse_duration, "1h 30m 5s", 5405),
        (parse_duration, "0.5h", 1800),
        (parse_duration, 30, 30),
    ],
)
def test_parses(parse, text, value):
    assert parse(text) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_latency, "5 parsecs"),
        (parse_latency, "5"),  # of what?
        (parse_latency, "-5ms"),
        (parse_latency, "0ms"),
        (parse_latency, 0),
        (parse_latency, float("nan")),
        (parse_latency, True),
        (parse_latency, ""),
        (parse_size, "4mb/s"),
        (parse_size, "4 M"),
        (parse_count, "1.8.0G"),
        (parse_count, "many"),
        (parse_duration, "30m1h"),
        (parse_duration, "5m5m"),
        (parse_duration, "1h30"),
        (parse_duration, "soon"),
    ],
)
def test_refuses(parse, text):
    with pytest.raises(UserError, match="is not a"):
        parse(text)


def test_says_what_is_not_understood():
    with pytest.raises(UserError) as caught:
        parse_latency("5 parsecs")
    assert str(caught.value) == (
        "'5 parsecs' is not a latency: expected a number and a unit of s, ms, us, such as 5ms."
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (format_seconds(0.0042), "4.2 ms"),
        (format_seconds(0.9996e-3), "1 ms"),
        (format_seconds(25e-6), "25 µs"),
        (format_seconds(1.5), "1.5 s"),
        (format_seconds(100.2), "100 s"),
        (format_seconds(900), "15m"),
        (format_seconds(130), "2m10s"),
        (format_seconds(5400), "1h30m"),
        (format_bytes(4_200_000), "4.2 MB"),
        (format_bytes(999_900), "1 MB"),
        (format_bytes(12), "12 B"),
        (format_count(1_824_033_792), "1.82G"),
        (format_count(100), "100"),
    ],
)
def test_formats(text, expected):
    assert text == expected


def test_formatted_quantities_parse_again():
    for seconds in (3.2e-5, 0.0042, 0.5, 1.25):
        assert parse_latency(format_seconds(seconds)) == pytest.approx(seconds)
    for seconds in (130, 900, 5400, 86_400):
        assert parse_duration(format_seconds(seconds)) == pytest.approx(seconds)


def test_budget_names_every_violation():
    budget = Budget.parse(max_latency="5ms", max_size="4MB", max_macs="1G", max_time="15m")
    assert budget == Budget(latency=0.005, size=4_000_000, macs=10**9, time=900)
    assert budget.met_by(Point(seconds=0.005, file_size=4_000_000, macs=10**9))
    over = Point(seconds=0.0071, file_size=5_000_000, macs=10**9)
    assert budget.violations(over) == ["latency 7.1 ms is over 5 ms", "size 5 MB is over 4 MB"]
    assert not budget.met_by(over)
    assert budget.violations(Point(seconds=0.001, file_size=1)) == ["MACs was not measured (limit 1G)"]
    assert str(budget) == "latency ≤ 5 ms, size ≤ 4 MB, MACs ≤ 1G, time ≤ 15m"


def test_no_limits_are_always_met():
    assert Budget().met_by(Point())
    assert str(Budget.parse()) == "no limits"


def test_budget_is_frozen_and_checked():
    with pytest.raises(pydantic.ValidationError):
        Budget(latency=-1.0)
    with pytest.raises(AttributeError):
        Budget().latency = 1.0  # type: ignore[misc]


def test_budget_needs_no_torch():
    program = "import sys; from formwright.measurement import Budget; Budget(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_public_name_is_there():
    from formwright import deployment, measurement

    for package in (measurement, deployment):
        for name in package.__all__:
            assert getattr(package, name).__name__ == name
    with pytest.raises(AttributeError):
        measurement.no_such_name  # noqa: B018

"""Pages about models: what they measure in the units of a budget."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from formwright import drawing
from formwright.fitting.metric import percent
from formwright.measurement.budget import format_bytes, format_count, format_seconds

if TYPE_CHECKING:
    from jinja2 import Environment


def page_environment(*packages: str, folders: Sequence[Path] = ()) -> Environment:
    """:func:`formwright.drawing.page_environment` with filters for seconds, bytes, counts and shares."""
    environment = drawing.page_environment(*packages, folders=folders)
    environment.filters |= {
        "seconds": format_seconds,
        "bytes": format_bytes,
        "count": format_count,
        "percent": percent,
    }
    return environment

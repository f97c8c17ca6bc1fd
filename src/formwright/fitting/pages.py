"""Self-contained pages: the templates of a package, and how they write figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from formwright.fitting.metric import percent
from formwright.measurement.budget import format_bytes, format_count, format_seconds

if TYPE_CHECKING:
    from jinja2 import Environment


def page_environment(*packages: str, folders: Sequence[Path] = ()) -> Environment:
    """The templates in the folder ``templates`` of each package, and in folders; what is undefined is an error.

    Earlier ones go before later ones of the same name.
    """
    from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([*map(PackageLoader, packages), FileSystemLoader(folders)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "seconds": format_seconds,
        "bytes": format_bytes,
        "count": format_count,
        "percent": percent,
        "whole": lambda number: f"{number:,}",
        "scientific": scientific,
        "signed": lambda number: f"{number:+.2f}".replace("-", "\N{MINUS SIGN}"),
    }
    return environment


def scientific(number: float) -> str:
    """``3.8e-06`` as ``3.8 × 10⁻⁶``."""
    digits, _, power = f"{number:.1e}".partition("e")
    raised = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{digits}\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}10{raised}"

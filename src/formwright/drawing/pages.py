"""Self-contained pages: the templates of a package above those that all share, and how they write figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


def page_environment(*packages: str, folders: Sequence[Path] = ()) -> Environment:
    """The templates in the folder ``templates`` of each package, and in folders; what is undefined is an error.

    Earlier ones go before later ones of the same name. ``page.html.j2`` is the frame of every page, and
    ``charts.html.j2`` draws what :mod:`formwright.drawing.charts` describes.
    """
    from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([*map(PackageLoader, packages), FileSystemLoader(folders), PackageLoader(__package__)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "whole": lambda number: f"{number:,}",
        "scientific": _scientific,
        "signed": lambda number: f"{number:+.2f}".replace("-", "\N{MINUS SIGN}"),
    }
    return environment


def _scientific(number: float) -> str:
    """``3.8e-06`` as ``3.8 × 10⁻⁶``."""
    digits, _, power = f"{number:.1e}".partition("e")
    raised = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{digits}\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}10{raised}"

"""Imports point down: from the command line over the catalogue, studies, fitting and the library to the registry."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import formwright

SOURCE = Path(formwright.__file__).parent
#: What may look at what: each level at those before it, and at nothing beside it.
LEVELS = (
    ("errors", "interrupts", "reporting"),
    ("batch", "drawing", "files", "hub", "levels", "open_choices", "registry", "resizing"),
    ("nn",),
    ("candidates", "shapes"),
    ("models",),
    ("data", "metrics"),
    ("objectives",),
    ("inference",),
    ("deployment",),
    ("measurement",),
    ("training",),
    ("compression", "search"),
    ("fitting",),
    ("studies",),
    ("catalog",),
    ("cli",),
)
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
#: The package itself knows nothing but its version.
BESIDE = {"__init__", "__version__"}


def imported(path: Path) -> Iterator[str]:
    """The parts of the package that a file imports, at its top or within its functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "formwright":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("formwright."):
            yield str(node.module).split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("formwright."))


FILES = sorted(path for path in SOURCE.rglob("*.py") if path.parent != SOURCE or path.stem not in BESIDE)


def owner(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def test_every_part_of_the_package_has_a_level() -> None:
    assert {owner(path) for path in FILES} == set(LEVEL)


@pytest.mark.parametrize("part", LEVEL)
def test_every_import_points_down(part: str) -> None:
    others = [
        f"{path.relative_to(SOURCE)} imports formwright.{name}"
        for path in FILES
        if owner(path) == part
        for name in imported(path)
        if name not in BESIDE and name != part and LEVEL[name] >= LEVEL[part]
    ]
    assert not others


MODULES = [
    info.name for info in pkgutil.walk_packages(formwright.__path__, "formwright.") if "__main__" not in info.name
]


@pytest.mark.parametrize("name", MODULES)
def test_no_name_hides_a_module(name: str) -> None:
    if name.startswith("formwright.nn.kernels."):
        pytest.importorskip("triton")
    importlib.import_module(name)
    found: dict[str, object] = {}
    exec(f"import {name} as module", found)
    assert found["module"] is sys.modules[name]

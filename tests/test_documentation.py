"""What the pages say exists: snippets, options, fields, dependencies. Links are checked with the catalogue."""

from __future__ import annotations

import ast
import dataclasses
import itertools
import re
import tomllib
from pathlib import Path

import pytest
import typer

from formwright.cli.app import app
from formwright.fitting import records

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")] if "site" not in path.relative_to(ROOT).parts
)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def rows(section: str) -> set[str]:
    """Names in code style in the first column of the tables of a section."""
    cells = re.findall(r"^\| (.+?) \|", section, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


@each_page
def test_python_in_pages_is_python(page: Path) -> None:
    for snippet in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        ast.parse(snippet)


COMMANDS = {
    " ".join(filter(None, (name, inner))): one
    for name, command in typer.main.get_command(app).commands.items()
    for inner, one in getattr(command, "commands", {"": command}).items()
}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_reference_has_every_option_of_a_command(command: str) -> None:
    page = (ROOT / "docs/reference/cli.md").read_text()
    section = re.search(rf"^## `formwright {command}.*?(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert section is not None
    parameters = COMMANDS[command].get_params(typer.Context(COMMANDS[command]))
    options = {name for one in parameters for name in one.opts if name.startswith("-")} - {"--help"}
    assert rows(section[0]) == options


@pytest.mark.parametrize(
    ("heading", "record"),
    [
        ("# metrics.json", records.FitResult),
        ("## `trials[]`", records.Trial),
        ("## `variants[]`", records.Variant),
        ("## `shrink[]`", records.ShrinkStep),
        ("## `agreement`", records.Agreement),
    ],
)
def test_the_reference_has_every_field_of_the_metrics(heading: str, record: type) -> None:
    page = (ROOT / "docs/reference/metrics-json.md").read_text()
    start = page.index(heading)
    end = page.find("\n## ", start + 1)
    assert rows(page[start : end if end > 0 else None]) == {field.name for field in dataclasses.fields(record)}


def test_every_dependency_has_a_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    names = {re.match(r"[\w.-]+", requirement)[0] for requirement in required}
    assert rows((ROOT / "docs/dependencies.md").read_text()) == names

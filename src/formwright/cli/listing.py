"""The named models and their numbers of parameters, as a table that needs neither PyTorch nor the models."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.resources import files
from typing import Any

from formwright.registry import MODEL_PLUGINS


@dataclass(frozen=True)
class Listed:
    """A named model: its family, what it is for, and how many parameters it has."""

    name: str
    family: str
    task: str
    parameters: int


def listed(pattern: str = "*", *, task: str | None = None) -> list[Listed]:
    """The models whose names match a shell-style pattern, and a task, by name.

    Ours are read from the table that ``python -m formwright.models.variants`` writes. Those that other packages add are
    built and counted.
    """
    table = files("formwright").joinpath("models", "variants.json").read_text(encoding="utf-8")
    rows = [_listed(name, facts) for name, facts in json.loads(table).items()]
    if entry_points(group=MODEL_PLUGINS):
        rows = sorted([*rows, *_added({row.name for row in rows})], key=lambda row: row.name)
    names = set(fnmatch.filter([row.name for row in rows], pattern))
    return [row for row in rows if row.name in names and (task is None or row.task == task)]


def _added(ours: set[str]) -> list[Listed]:
    from formwright.models import MODELS
    from formwright.models.variants import facts

    return [_listed(name, facts(name)) for name in MODELS if name not in ours]


def _listed(name: str, facts: Mapping[str, Any]) -> Listed:
    return Listed(name, facts["family"], facts["task"], facts["parameters"])

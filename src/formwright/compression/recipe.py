"""Recipes of compression: files that name steps and their options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from formwright.compression.registry import Step
from formwright.errors import UserError

_FORM = "a list under 'steps', each a name, or a name with its options, such as `- prune: {keep: 0.6}`"


def read_recipe(path: str | Path) -> list[Step]:
    """The steps of a YAML file, checked: names, options and their values.

    Raises:
        UserError: the file is missing or no recipe, or a step or an option of one is unknown or out of range.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"There is no recipe {path}; it is a YAML file with {_FORM}.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is no YAML file ({reason}); a recipe has {_FORM}.") from None
    if not isinstance(content, Mapping) or set(content) != {"steps"} or not isinstance(content["steps"], list):
        raise UserError(f"{path} is no recipe: it has {_FORM}.")
    if not content["steps"]:
        raise UserError(f"{path} names no step; it has {_FORM}.")
    steps = [_step(entry, path) for entry in content["steps"]]
    for step in steps:
        step.build()
    return steps


def _step(entry: Any, path: Path) -> Step:
    if isinstance(entry, str):
        return Step(entry)
    if isinstance(entry, Mapping) and len(entry) == 1:
        ((name, options),) = entry.items()
        if isinstance(options, Mapping) or options is None:
            return Step(str(name), {str(key): value for key, value in (options or {}).items()})
    raise UserError(f"{path} has a step that cannot be read, {entry!r}: a recipe has {_FORM}.")

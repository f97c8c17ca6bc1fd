"""Counts every named model: ``python -m formwright.models.variants`` writes what ``formwright list`` prints."""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from formwright.files import write_atomically
from formwright.models import MODELS, empty_copy, model_specification
from formwright.models.identification import body, values_of
from formwright.registry import MODEL_PLUGINS

TABLE = Path(__file__).with_name("variants.json")


def facts(name: str) -> dict[str, Any]:
    """Family, task and size of a named model, which is built without memory for its weights.

    Its size in parameters, and in the values that its state holds beside those of a classifier.
    """
    variant, model = MODELS[name], empty_copy(model_specification(name))
    size = values_of(body(model.state_dict()))
    return {"family": variant.family, "task": variant.task, "parameters": model.parameter_count(), "body": size}


def ours() -> list[str]:
    """The named models that no other package adds."""
    added = {point.name for point in entry_points(group=MODEL_PLUGINS)}
    return [name for name in MODELS if name not in added]


def main() -> None:
    """Write the table, a line for each model."""
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(facts(name))}" for name in ours())
    write_atomically(TABLE, f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()

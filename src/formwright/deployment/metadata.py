"""What an ONNX file says of itself: its task, the names of its classes and how its input is prepared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx

from formwright.data.encodings import is_unicode
from formwright.deployment.preparation import Preparation
from formwright.files import write_atomically


def copy_described(source: Path, target: Path, preparation: Preparation, *, most: float | None = None) -> int:
    """Copy an ONNX file and write into its metadata what its ``preprocessing.json`` says; the bytes that it has then.

    The entries are ``task``, ``preprocessing`` (JSON) and, of classifiers, ``labels`` (a JSON list); ONNX Runtime has
    them as ``session.get_modelmeta().custom_metadata_map``. They are left out where only so the file has at most
    ``most`` bytes.
    """
    model = onnx.load(source)
    record = preparation.record()
    entries = {"task": preparation.task, "preprocessing": _text(record)}
    if "labels" in record:
        entries["labels"] = _text(record["labels"])
    kept = {entry.key: entry.value for entry in model.metadata_props if entry.key not in entries}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {**kept, **entries})
    content, plain = model.SerializeToString(), source.read_bytes()
    if most is not None and len(plain) <= most < len(content):
        content = plain
    write_atomically(target, content)
    return len(content)


def _text(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if is_unicode(text) else json.dumps(value)

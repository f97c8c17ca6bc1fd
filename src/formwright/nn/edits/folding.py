"""Folding: norms, parallel branches and adapters become part of the layers beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from formwright.nn.edits.axes import module_at
from formwright.nn.edits.layers import set_module
from formwright.nn.layers import Layer


def fold(model: nn.Module, target: str, options: Mapping[str, Any]) -> None:
    """Fold norms and parallel branches of inference into the layers beside them, everywhere below ``target``.

    Adapters are merged before. A target that is itself a layer that an edit put there becomes a plain one.

    Raises:
        UserError: the target is a layer that computes what no plain one does.
    """
    root = module_at(model, target)
    for path, module in list(root.named_modules()):
        if isinstance(module, Layer) and (module.merges or not path):
            set_module(model, f"{target}.{path}".strip("."), module.plain())
    for module in list(module_at(model, target).modules()):
        own_fold = getattr(module, "fold", None)
        if callable(own_fold):
            own_fold()

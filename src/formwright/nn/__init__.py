"""The parts that models are made of. Importing this package registers all of them."""

from __future__ import annotations

import importlib
import pkgutil

from formwright.nn.context import Context
from formwright.nn.parts import PARTS, Axis, Part, Promises, build_part
from formwright.nn.specification import BlockSpec, BranchSpec, ChainSpec, PartSpec, StageSpec, part

__all__ = [
    "PARTS",
    "Axis",
    "BlockSpec",
    "BranchSpec",
    "ChainSpec",
    "Context",
    "Part",
    "PartSpec",
    "Promises",
    "StageSpec",
    "build_part",
    "part",
]

for _package in ("formwright.nn", "formwright.nn.token_mixers", "formwright.nn.channel_mixers"):
    for _module in pkgutil.iter_modules(importlib.import_module(_package).__path__):
        importlib.import_module(f"{_package}.{_module.name}")

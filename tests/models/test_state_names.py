"""Names and shapes of the weights of every registered model are those of saved files: they never change.

``state_names.json`` has, for each variant, its number of tensors and the SHA-256 of the sorted lines ``name [shape]``;
and, for the variant of each family with the fewest, the lines themselves, numbered layers of one shape counted
together, so that a failure shows what moved. After a new model was registered,
``python -m tests.models.test_state_names`` adds it; entries that are there stay as they are.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from formwright.models import MODELS, empty_copy, model_specification

FILE = Path(__file__).with_name("state_names.json")
FROZEN: dict[str, dict[str, dict[str, list[object]]]] = json.loads(FILE.read_text())
FAMILIES = sorted({MODELS[name].family for name in MODELS})


def variants(family: str) -> list[str]:
    return [name for name in MODELS if MODELS[name].family == family]


def lines(name: str) -> list[str]:
    """``name [shape]`` of each tensor of the variant, sorted."""
    state = empty_copy(model_specification(name)).state_dict()
    return sorted(f"{tensor} {list(value.shape)}" for tensor, value in state.items())


def counted(lines: list[str]) -> list[str]:
    """``4 x stages.*.norm.weight [64]``: how many lines are the same but for the numbers in their names."""
    kinds = Counter(re.sub(r"\b\d+\b(?=.* \[)", "*", line) for line in lines)
    return [f"{count} x {kind}" for kind, count in sorted(kinds.items())]


def fingerprint(lines: list[str]) -> list[object]:
    return [len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()]


@pytest.mark.parametrize("family", FAMILIES)
def test_names_and_shapes_of_weights_are_the_frozen_ones(family: str) -> None:
    frozen = FROZEN.get(family)
    assert frozen, f"{family!r} has no frozen names yet: run `python -m tests.models.test_state_names`"
    assert sorted(variants(family)) == sorted(frozen["variants"]), "variants that are new, or gone"
    changed = []
    for name, expected in frozen["variants"].items():
        found = lines(name)
        if name in frozen["lines"]:
            moved = difflib.unified_diff(frozen["lines"][name], counted(found), "frozen", "now", lineterm="", n=0)
            assert frozen["lines"][name] == counted(found), "\n".join([f"{name}:", *moved])
        if fingerprint(found) != expected:
            changed.append(name)
    assert not changed, "files of these models could no longer be read"


def test_every_frozen_family_is_registered() -> None:
    assert sorted(FROZEN) == FAMILIES


def add_new_variants() -> None:
    """Write the names of variants that the file does not have yet."""
    for family in FAMILIES:
        entry = FROZEN.setdefault(family, {"variants": {}, "lines": {}})
        found = {name: lines(name) for name in variants(family) if name not in entry["variants"]}
        entry["variants"] |= {name: fingerprint(of_one) for name, of_one in found.items()}
        if not entry["lines"]:
            fewest = min(found, key=lambda name: len(found[name]))
            entry["lines"][fewest] = [*counted(found[fewest])]
    text = json.dumps(FROZEN, indent=1, sort_keys=True)
    pairs = re.sub(r"\[\s+(\d+),\s+(\"\w+\")\s+\]", r"[\1, \2]", text)
    FILE.write_text(pairs + "\n")


if __name__ == "__main__":
    add_new_variants()

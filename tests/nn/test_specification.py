from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import pytest

from formwright.errors import UserError
from formwright.models import MODELS, model_specification
from formwright.nn import migrations
from formwright.nn.migrations import migrate
from formwright.nn.specification import (
    BlockSpec,
    BranchSpec,
    ChainSpec,
    EditSpec,
    NetworkSpec,
    PartSpec,
    part,
)


@pytest.fixture
def plain() -> dict[str, Any]:
    spec = model_specification("poolformer_s12")
    return json.loads(json.dumps(spec.to_dict()))


@pytest.mark.parametrize("name", MODELS)
def test_every_named_model_survives_json(name: str) -> None:
    spec = model_specification(name)
    assert NetworkSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_edits_survive_json(plain: dict[str, Any]) -> None:
    plain["edits"] = [{"name": "keep", "target": "head", "options": {"axis": "hidden", "kept": 3, "entries": [1, 2]}}]
    spec = ChainSpec.from_dict(plain)
    assert spec.edits == (EditSpec("keep", "head", {"axis": "hidden", "kept": 3, "entries": (1, 2)}),)
    assert NetworkSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_options_are_the_same_before_and_after_json() -> None:
    written = part("chain", parts=[part("layer_norm", eps=1e-6), {"name": "mlp", "options": {"ratio": 2}}])
    assert written.options["parts"] == (PartSpec("layer_norm", {"eps": 1e-6}), PartSpec("mlp", {"ratio": 2}))
    assert written.with_options(grid=[2, 3]).options["grid"] == (2, 3)
    assert "grid" not in written.options


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("colour",), "red", "at 'colour', unexpected keyword argument"),
        (("stages", 0, "colour"), "red", r"at 'stages\.0\.colour', unexpected keyword argument"),
        (("stages", 0, "blocks", 0, "branches", 0, "gate"), 1, r"branches\.0\.gate"),
        (("stages", 1, "dim"), "wide", r"at 'stages\.1\.dim', input should be a valid integer"),
        (("classes",), None, "at 'classes'"),
    ],
)
def test_what_cannot_be_read_is_named(plain: dict[str, Any], path: tuple[Any, ...], value: Any, message: str) -> None:
    inner = plain
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    with pytest.raises(UserError, match=message):
        ChainSpec.from_dict(plain)


def test_a_missing_field_is_named(plain: dict[str, Any]) -> None:
    del plain["head"]
    with pytest.raises(UserError, match="at 'head'"):
        ChainSpec.from_dict(plain)


@pytest.mark.parametrize("version", [migrations.SCHEMA_VERSION + 1, "1", None])
def test_a_newer_schema_is_refused(plain: dict[str, Any], version: object) -> None:
    plain["schema_version"] = version
    with pytest.raises(UserError, match="use a newer formwright"):
        ChainSpec.from_dict(plain)


@pytest.mark.parametrize("version", [0, -1])
def test_a_schema_without_a_way_to_the_present_is_refused(plain: dict[str, Any], version: int) -> None:
    plain["schema_version"] = version
    with pytest.raises(UserError, match="schema version"):
        ChainSpec.from_dict(plain)


def test_older_schemas_are_migrated_step_by_step(plain: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(data: dict[str, Any]) -> dict[str, Any]:
        return {("classes" if key == "labels" else key): value for key, value in data.items()}

    def add(data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "labels": data["labels"] + 1}

    monkeypatch.setattr(migrations, "SCHEMA_VERSION", 3)
    monkeypatch.setattr(migrations, "MIGRATIONS", {1: add, 2: rename})
    plain["schema_version"] = 1
    plain["labels"] = plain.pop("classes")
    before = copy.deepcopy(plain)
    assert migrate(plain)["schema_version"] == 3
    assert ChainSpec.from_dict(plain).classes == 1001
    assert plain == before


def test_files_of_the_first_schema_are_chains(plain: dict[str, Any]) -> None:
    expected = NetworkSpec.from_dict(plain)
    assert isinstance(expected, ChainSpec)
    assert expected.kind == "chain"
    old = {key: value for key, value in plain.items() if key != "kind"} | {"schema_version": 1}
    assert NetworkSpec.from_dict(old) == expected


def test_an_unknown_kind_of_network_is_refused(plain: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="There is no kind of network named 'chains'; did you mean chain"):
        NetworkSpec.from_dict({**plain, "kind": "chains"})


def test_blocks_in_options_survive_json() -> None:
    block = BlockSpec((BranchSpec(part("mlp"), norm=part("layer_norm")),))
    spec = part("group", blocks=(block,), parts=(part("mlp"),))
    again = PartSpec(**json.loads(json.dumps(dataclasses.asdict(spec))))
    assert again == spec
    assert isinstance(again.options["blocks"][0], BlockSpec)


def test_a_damaged_specification_of_an_earlier_schema_is_refused_in_a_sentence(plain: dict[str, Any]) -> None:
    old = {**plain, "schema_version": 2, "embed": {"name": "pair_embedding"}, "input": {}}
    with pytest.raises(UserError, match="specification of schema version 2 cannot be read: KeyError"):
        NetworkSpec.from_dict(old)


@pytest.mark.parametrize("data", [5, "chain", None, [1]])
def test_what_is_no_object_is_no_specification(data: Any) -> None:
    with pytest.raises(UserError, match="A specification is an object of named fields, and got"):
        NetworkSpec.from_dict(data)

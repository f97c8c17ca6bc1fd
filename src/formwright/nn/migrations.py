"""Specifications of earlier versions, brought to the present one; on plain dictionaries, as files hold them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from formwright.errors import UserError

SCHEMA_VERSION = 3


def _name_the_kind(data: dict[str, Any]) -> dict[str, Any]:
    """Version 1 knew chains alone."""
    return {"kind": "chain", **data}


def _name_the_inputs(data: dict[str, Any]) -> dict[str, Any]:
    """Version 2 knew networks of one input: pairs came as one row, types of tokens and steps ahead not at all."""
    embed = data.get("embed")
    if data.get("kind") != "chain" or not isinstance(embed, Mapping):
        return data
    change = {
        "pair_embedding": _pair,
        "typed_token_embedding": _types,
        "temporal_embedding": _forecaster,
    }.get(embed.get("name", ""))
    return data if change is None else change(data, dict(embed.get("options", {})))


def _pair(data: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    source = {**data["input"], "length": data["input"]["length"] // 2}
    data = {key: value for key, value in data.items() if key != "embed_dim"}
    return {**data, "kind": "pair", "input": source, "embed": {"name": "token_embedding", "options": options}}


def _types(data: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    return {**data, "input": {**data["input"], "types": options.get("types", 2)}}


def _forecaster(data: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    own = {name: options.pop(name, default) for name, default in (("covariates", 0), ("normalise", False))}
    horizon = options.pop("horizon", 0)
    embed = {"name": "temporal_embedding", "options": options}
    if not horizon:
        return {**data, "embed": embed}
    head = {"name": "token_scores", "options": {"norm": data["head"]["options"].get("norm"), "bias": True}}
    data = {key: value for key, value in data.items() if key not in ("classes", "embed_dim")}
    return {**data, "kind": "forecaster", "horizon": horizon, "embed": embed, "head": head, **own}


#: From version N to N + 1, one function each; a specification is never rewritten in place.
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _name_the_kind, 2: _name_the_inputs}


def migrate(data: Mapping[str, Any]) -> dict[str, Any]:
    """Bring a specification of an older schema version to the present one.

    Raises:
        UserError: there is no way from its version to the present one.
    """
    if not isinstance(data, Mapping):
        raise UserError(f"A specification is an object of named fields, and got {data!r}.")
    data = dict(data)
    version = data.get("schema_version", SCHEMA_VERSION)
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise UserError(
            f"This specification has schema version {version!r}, and this program reads up to {SCHEMA_VERSION}: "
            "use a newer formwright."
        )
    while version < SCHEMA_VERSION:
        if version not in MIGRATIONS:
            raise UserError(f"There is no schema version {version}; was the specification written by hand?")
        try:
            data = MIGRATIONS[version](data)
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"This specification of schema version {version} cannot be read: {error!r} where an entry was expected."
            ) from None
        version += 1
        data["schema_version"] = version
    return data

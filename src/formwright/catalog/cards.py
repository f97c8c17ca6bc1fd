"""What a system is, where it lives, and whose work it is."""

from __future__ import annotations

import functools
import importlib
from importlib.resources import files
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from formwright.catalog.claim import Claim
from formwright.errors import UnknownNameError, UserError


class Card(BaseModel):
    """One system of the catalogue, as its ``cards/ID.yaml`` says it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    title: str
    #: The paper; none for what is our own.
    arxiv: str | None = Field(default=None, pattern=r"^\d{4}\.\d{5}$")
    year: int
    #: A ``baseline`` is what papers compare with; it makes no headline of its own here. A ``tool`` is our own.
    kind: tuple[Literal["model", "study", "runtime", "survey", "baseline", "tool"], ...] = Field(min_length=1)
    tasks: tuple[str, ...] = Field(min_length=1)
    #: The module that it lives in, and the family that it registers its models under, if it has models.
    module: str = Field(pattern=r"^formwright(\.[a-z_0-9]+)+$")
    family: str | None = None
    #: ``owner/name`` on GitHub, or a package; the code that outputs are compared with.
    authors_code: str | None = None
    licence: str
    #: What it is, in a sentence or two.
    summary: str
    #: Where paper and code differ and which is followed, and what else a reader should know.
    notes: tuple[str, ...] = ()
    #: Names of its claims, without the variants that they are about.
    claims: tuple[str, ...] = Field(min_length=1)


@functools.cache
def read_cards() -> dict[str, Card]:
    """All cards of the catalogue, by id.

    Raises:
        UserError: a card cannot be read; the message names the file and the field.
    """
    entries = files("formwright.catalog").joinpath("cards").iterdir()
    texts = {entry.name: entry.read_text(encoding="utf-8") for entry in entries if entry.name.endswith(".yaml")}
    cards = (parse_card(name.removesuffix(".yaml"), texts[name]) for name in sorted(texts))
    return {card.id: card for card in cards}


def parse_card(name: str, text: str) -> Card:
    """Decode and check the card ``name``."""
    try:
        card = Card.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise UserError(f"The card {name}.yaml is not YAML: {error}.") from None
    except ValidationError as error:
        first: Any = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"]) or "its top"
        raise UserError(f"The card {name}.yaml cannot be read: at {where}, {first['msg'].lower()}.") from None
    if card.id != name:
        raise UserError(f"The card {name}.yaml is about {card.id!r}; file and id must have the same name.")
    return card


def card_of(system: str) -> Card:
    """The card of a system.

    Raises:
        UserError: there is none; the nearest names are suggested.
    """
    cards = read_cards()
    if system not in cards:
        raise UnknownNameError("system", system, cards)
    return cards[system]


def claims_of(system: str) -> list[Claim]:
    """The claims of a system, which ``claims/ID.py`` holds."""
    module = importlib.import_module(f"formwright.catalog.claims.{card_of(system).id.replace('-', '_')}")
    return list(module.CLAIMS)

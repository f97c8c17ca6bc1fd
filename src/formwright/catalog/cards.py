"""What a system is, where it lives, and whose work it is."""

from __future__ import annotations

import functools
import importlib
from importlib.resources import files
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from formwright.catalog.claim import Claim
from formwright.errors import UnknownNameError, UserError

#: What the card of a system says is missing while it is not built.
NOT_BUILT = "Not built here yet."


class Cost(BaseModel):
    """What the token mixer, or the method, costs as functions of the number ``n`` of tokens, as text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    time: str
    memory: str


class Published(BaseModel):
    """A published figure, and what it was measured on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    figure: str
    of: str


class Card(BaseModel):
    """One system of the catalogue, as its ``cards/ID.yaml`` says it.

    What is built here has a ``module`` and ``claims``; what is not has neither.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    title: str
    #: The paper; none for what is our own.
    arxiv: str | None = Field(default=None, pattern=r"^\d{4}\.\d{4,5}$")
    year: int
    #: A ``baseline`` is what papers compare with; it makes no headline of its own here. A ``tool`` is our own.
    kind: tuple[Literal["model", "study", "runtime", "survey", "baseline", "tool"], ...] = Field(min_length=1)
    #: Of :data:`~formwright.catalog.vocabulary.TASKS` and :data:`~formwright.catalog.vocabulary.MECHANISMS`.
    tasks: tuple[str, ...] = Field(min_length=1)
    mechanisms: tuple[str, ...] = Field(min_length=1)
    cost: Cost | None = None
    #: The module that it lives in, and the family that it registers its models under, if it has models.
    module: str | None = Field(default=None, pattern=r"^formwright(\.[a-z_0-9]+)+$")
    family: str | None = None
    #: Registered parts that carry it.
    parts: tuple[str, ...] = ()
    #: ``owner/name`` on GitHub, or a package; the code that outputs are compared with.
    authors_code: str | None = None
    licence: str
    #: What it is, in a few sentences: what is mixed how, what is gained, at what price.
    summary: str
    use_when: str = Field(min_length=1)
    avoid_when: str = Field(min_length=1)
    published: tuple[Published, ...] = Field(default=(), max_length=4)
    #: Where paper and code differ and which is followed, and what else a reader should know.
    notes: tuple[str, ...] = ()
    #: What of it is missing here.
    missing: tuple[str, ...] = ()
    #: Names of its claims, without the variants that they are about.
    claims: tuple[str, ...] = ()

    @property
    def built(self) -> bool:
        return self.module is not None

    @model_validator(mode="after")
    def _is_whole(self) -> Card:
        if self.built and not self.claims:
            raise ValueError("what is built (it has a module) has claims")
        absent = [name for name in ("claims", "family", "parts") if getattr(self, name)]
        if not self.built and absent:
            raise ValueError(f"what is not built (it has no module) has no {' and no '.join(absent)}")
        if not self.built and "survey" not in self.kind and self.missing != (NOT_BUILT,):
            raise ValueError(f"what is not built has this alone as missing: [{NOT_BUILT!r}]")
        return self


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
        said = str(first["msg"]).removeprefix("Value error, ")
        raise UserError(f"The card {name}.yaml cannot be read: at {where}, {said[:1].lower()}{said[1:]}.") from None
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
    """The claims of a system, which ``claims/ID.py`` holds; none of one that is not built."""
    card = card_of(system)
    if not card.built:
        return []
    module = importlib.import_module(f"formwright.catalog.claims.{card.id.replace('-', '_')}")
    return list(module.CLAIMS)


@functools.cache
def read_papers() -> dict[str, str]:
    """Titles by arXiv number of the papers that parts cite and that are no system of the catalogue."""
    text = files("formwright.catalog").joinpath("papers.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))

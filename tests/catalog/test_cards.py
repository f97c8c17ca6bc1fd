from __future__ import annotations

import pytest

from formwright.catalog.cards import card_of, claims_of, parse_card, read_cards
from formwright.errors import UserError

CARD = """
id: weaver
title: Weaving
arxiv: "2101.00001"
year: 2021
kind: [model]
tasks: [image-classification]
mechanisms: [attention]
use_when: Threads are there.
avoid_when: They are not.
module: formwright.models.vision.vit
family: vit
authors_code: someone/weaver
licence: MIT
summary: It weaves.
claims: [parameters]
"""


def test_a_card_is_read() -> None:
    card = parse_card("weaver", CARD)
    assert (card.id, card.year, card.kind, card.notes) == ("weaver", 2021, ("model",), ())


UNBUILT = CARD.replace("module: formwright.models.vision.vit\nfamily: vit\n", "").replace("claims: [parameters]\n", "")


def test_what_is_not_built_says_so_and_nothing_else() -> None:
    card = parse_card("weaver", UNBUILT + 'missing: ["Not built here yet."]\n')
    assert not card.built
    with pytest.raises(UserError, match="what is not built has this alone as missing"):
        parse_card("weaver", UNBUILT + 'missing: ["Not built here yet.", "The loom."]\n')


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("year: 2021", "year: soon"), r"The card weaver\.yaml cannot be read: at year"),
        (("licence: MIT", "license: MIT"), "at licence, field required"),
        (("kind: [model]", "kind: [toy]"), r"at kind\.0"),
        (("claims: [parameters]", "claims: []"), "what is built .* has claims"),
        (("module: formwright.models.vision.vit\n", ""), "what is not built .* has no claims and no family"),
        (("use_when: Threads are there.\n", ""), "at use_when, field required"),
        (("mechanisms: [attention]", "mechanisms: []"), "at mechanisms"),
        (("2101.00001", "2101.1"), "at arxiv"),
        (("id: weaver", "id: spinner"), "is about 'spinner'; file and id must have the same name"),
        (("kind: [model]", "kind: [model"), r"The card weaver\.yaml is not YAML"),
        (("module: formwright.models", "module: os.path"), "at module"),
    ],
)
def test_what_is_wrong_with_a_card_is_named(change: tuple[str, str], message: str) -> None:
    assert change[0] in CARD
    with pytest.raises(UserError, match=message):
        parse_card("weaver", CARD.replace(*change))


def test_unknown_systems_are_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match="no system named 'poolfromer'; did you mean poolformer"):
        card_of("poolfromer")


def test_the_command_fit_is_the_main_job_and_leaves_its_name_to_a_paper() -> None:
    assert card_of("main-job").module == "formwright.fitting"
    assert {claim.id for claim in claims_of("main-job")} >= {"digits", "cifar10", "sst2", "sst2-weights", "shakespeare"}
    assert card_of("fit").title.startswith("FIT: Far-reaching")


@pytest.mark.parametrize(
    "system", [name for name, card in read_cards().items() if card.built and not {"tool", "survey"} & {*card.kind}]
)
def test_every_system_has_claims_of_size_and_of_equality(system: str) -> None:
    kinds = {claim.kind for claim in claims_of(system)}
    assert {"count", "equality"} <= kinds
    assert all(claim.published for claim in claims_of(system))

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from formwright.catalog.cards import read_cards

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
_NAME = re.compile(r"`([a-z0-9-]+)`")


def test_the_guide_to_inference_has_every_card_in_one_branch() -> None:
    text = (GUIDES / "survey-inference.md").read_text(encoding="utf-8")
    tree = text.partition("<!-- tree -->")[2].partition("<!-- end of tree -->")[0]
    leaves = Counter(_NAME.findall(tree))
    assert set(leaves) == set(read_cards())
    assert {name for name, count in leaves.items() if count > 1} == set()


@pytest.mark.parametrize("guide", [path.name for path in sorted(GUIDES.glob("*.md"))])
def test_a_claim_that_a_guide_names_is_on_the_card(guide: str) -> None:
    cards = read_cards()
    for line in (GUIDES / guide).read_text(encoding="utf-8").splitlines():
        named = re.match(r"\| `([a-z0-9-]+)`: ((?:`[a-z0-9-]+`(?:, )?)+) \|", line)
        if named:
            assert set(_NAME.findall(named[2])) <= set(cards[named[1]].claims), line

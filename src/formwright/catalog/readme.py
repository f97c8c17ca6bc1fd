"""``python -m formwright.catalog.readme``: write the README's table of systems from the cards."""

from __future__ import annotations

import re
from pathlib import Path

from formwright.catalog.cards import Card, read_cards
from formwright.catalog.results import read_results, standing
from formwright.catalog.vocabulary import SUBJECTS, subject_of
from formwright.errors import UserError
from formwright.files import write_atomically

BEGIN, END = "<!-- catalogue: begin -->", "<!-- catalogue: end -->"
_BLOCK = re.compile(re.escape(BEGIN) + r"\n(.*?)" + re.escape(END), re.DOTALL)


def table() -> str:
    """The systems by what they are about: those that are built, and how many others have a card."""
    cards = list(read_cards().values())
    lines = ["| about | built here, and the rung that is recorded | described only |", "| --- | --- | --- |"]
    for subject in SUBJECTS:
        ours = [card for card in cards if subject_of(card.tasks[0]) == subject]
        built = ", ".join(f"{card.id}{_rung(card)}" for card in ours if card.built)
        if ours:
            lines.append(f"| {subject} | {built} | {sum(not card.built for card in ours)} |")
    built_count = sum(card.built for card in cards)
    total = f"{len(cards)} cards: {built_count} systems are built here, {len(cards) - built_count} are described only."
    return "\n".join([*lines, "", total]) + "\n"


def _rung(card: Card) -> str:
    rung = standing(card, read_results()[0].get(card.id)).rung
    return "" if rung == "none" else f" ({rung})"


def outdated(readme: Path) -> str | None:
    """What is wrong with the table of a README, if anything is."""
    found = _BLOCK.search(readme.read_text(encoding="utf-8"))
    if found is None:
        return f"{readme.name} lacks the lines {BEGIN} and {END}, between which the table of systems stands."
    if found[1] != table():
        return f"The table of systems in {readme.name} is not that of the cards: python -m formwright.catalog.readme."
    return None


def main(readme: Path = Path("README.md")) -> None:
    """Write the table between the two marks.

    Raises:
        UserError: the marks are missing.
    """
    text = readme.read_text(encoding="utf-8")
    if _BLOCK.search(text) is None:
        raise UserError(str(outdated(readme)))
    write_atomically(readme, _BLOCK.sub(lambda _: f"{BEGIN}\n{table()}{END}", text))


if __name__ == "__main__":
    main()

"""``python -m formwright.catalog.check``: cards, claims, results, the README's table and links are in order."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote

from formwright.catalog.cards import Card, claims_of, read_cards, read_papers
from formwright.catalog.readme import outdated
from formwright.catalog.results import read_results
from formwright.catalog.vocabulary import MECHANISMS, TASKS
from formwright.errors import UserError
from formwright.models import MODELS
from formwright.nn.parts import PARTS

#: Folders whose Markdown is not ours.
SKIPPED = {".git", ".venv", "build", "dist", "node_modules", "runs"}
_ARXIV = re.compile(r"\barXiv\s+(\d{4}\.\d{4,5})\b")
_LINK = re.compile(r"(?<!\\)\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_CODE = re.compile(r"```.*?```|~~~.*?~~~|`[^`\n]*`", re.DOTALL)


def check_cards() -> list[str]:
    """What is wrong with the cards and their claims; nothing if all is well."""
    try:
        cards = read_cards()
    except UserError as error:
        return [str(error)]
    problems = [problem for card in cards.values() for problem in _check_card(card)]
    told = {card.family for card in cards.values() if card.family is not None}
    families = {MODELS[name].family for name in MODELS}
    problems += [f"The family {family!r} has no card." for family in sorted(families - told)]
    return problems + list(_unknown_papers(cards.values()))


def _unknown_papers(cards: Iterable[Card]) -> Iterator[str]:
    """Parts that cite a paper which neither a card nor the list of papers knows."""
    known = {card.arxiv for card in cards} | read_papers().keys()
    for name in PARTS:
        cited = set(_ARXIV.findall(inspect.getdoc(PARTS[name]) or ""))
        for number in sorted(cited - known):
            yield f"The part {name!r} cites arXiv {number}, which neither a card nor papers.yaml knows."


def _check_words(card: Card) -> Iterator[str]:
    """Tags that are not in the vocabulary."""
    for field, words in (("tasks", TASKS), ("mechanisms", MECHANISMS)):
        tags: tuple[str, ...] = getattr(card, field)
        for tag in tags:
            if tag not in words:
                near = difflib.get_close_matches(tag, words, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else "."
                yield f"The card {card.id} has {tag!r} among its {field}, which vocabulary.py does not know{hint}"


def _check_card(card: Card) -> Iterator[str]:
    yield from _check_words(card)
    if card.module is None:
        return
    try:
        importlib.import_module(card.module)
    except ImportError as error:
        yield f"The card {card.id} says that it lives in {card.module}, which cannot be imported: {error}."
        return
    for name in card.parts:
        if name not in PARTS:
            yield f"The card {card.id} names the part {name!r}, which is not registered; see formwright parts."
    if card.family is not None and card.family not in {MODELS[name].family for name in MODELS}:
        yield f"The card {card.id} names the family {card.family!r}, which no model is registered under."
    try:
        claims = claims_of(card.id)
    except ImportError as error:
        yield f"The claims of {card.id} cannot be imported: {error}."
        return
    names = [claim.id for claim in claims]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        yield f"The claims of {card.id} have the same name more than once: {', '.join(repeated)}."
    groups = {claim.group for claim in claims}
    if groups != set(card.claims):
        yield f"The card {card.id} lists the claims {sorted(card.claims)}, and its program has {sorted(groups)}."
    for claim in claims:
        variant = claim.id.partition(":")[2].partition(":")[0]
        known = variant in MODELS or variant.rpartition("-")[0] in MODELS or variant.replace("-", "_") in PARTS
        if variant and not known:
            yield f"The claim {claim.id} of {card.id} is about a model or part that is not registered."


def dead_links(root: Path) -> list[str]:
    """Relative links and pictures in the Markdown files below ``root`` whose target does not exist."""
    problems = []
    for path in sorted(root.rglob("*.md")):
        if SKIPPED.isdisjoint(path.relative_to(root).parts):
            problems += [
                f"{path.relative_to(root)} links to {target}, which does not exist."
                for target in _relative_links(path.read_text(encoding="utf-8"))
                if not (path.parent / target).exists()
            ]
    return problems


def _relative_links(text: str) -> Iterator[str]:
    for target in _LINK.findall(_CODE.sub("", text)):
        path = unquote(target.partition("#")[0])
        if path and not re.match(r"[a-z][a-z0-9+.-]*:|/", path):
            yield path


def main() -> int:
    problems = [*check_cards(), *read_results()[1], *dead_links(Path.cwd())]
    readme = Path("README.md")
    if readme.is_file() and (wrong := outdated(readme)) is not None:
        problems.append(wrong)
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print(f"{len(read_cards())} cards, their claims and all links are in order.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

"""Finding systems by words: BM25 over what cards say, with tags and with what words stand for, and the reason why."""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from formwright.catalog.cards import Card, read_cards
from formwright.catalog.concepts import CONCEPTS
from formwright.catalog.results import Standing, read_results, standing
from formwright.catalog.vocabulary import MECHANISMS, TASKS
from formwright.errors import UnknownNameError, UserError

RUNGS = ("none", "built", "equal", "trained", "measured")
#: How often the words of a field count.
WEIGHTS = {"title": 3, "tags": 3, "use_when": 2, "summary": 1}
#: BM25: how soon further occurrences of a word count less, and how much long cards are held back.
SATURATION, LENGTH_NORM = 1.2, 0.5
#: How much a concept counts beside a word that is as rare.
CONCEPT_WEIGHT = 1.5
_STOPWORDS = frozenset(
    re.findall(
        r"\w+",
        """a an and are as at be by can do for from have how i if in into is it its make me my need of on one or that
        the this to use want what when which with without""",
    )
)
_ENDINGS = ((r"i[sz](?:ations?|ing|ed|ers?|es?)$", "iz"), (r"ies$", "y"), (r"(?:ing|ed|es|s|e)$", ""))


@dataclass(frozen=True)
class Filters:
    """What systems must be; ``rung`` is the least that they reach, or ``guide``, ``none`` or ``stale`` exactly."""

    task: str | None = None
    mechanism: str | None = None
    rung: str | None = None
    year: str | None = None

    def __post_init__(self) -> None:
        for what, value, words in (
            ("task", self.task, TASKS),
            ("mechanism", self.mechanism, MECHANISMS),
            ("rung", self.rung, (*RUNGS, "guide", "stale")),
        ):
            if value is not None and value not in words:
                raise UnknownNameError(what, value, words)
        if self.year is not None:
            self._years()

    def _years(self) -> tuple[int, int]:
        assert self.year is not None
        found = re.fullmatch(r"(\d{4})|(\d{4})?-(\d{4})?", self.year.strip())
        if found is None or self.year.strip() == "-":
            raise UserError(
                f"{self.year!r} is not a year; give one such as 2023, or a range such as 2021-2023 or 2023-."
            )
        if found[1]:
            return int(found[1]), int(found[1])
        first, last = int(found[2] or 0), int(found[3] or 9999)
        if first > last:
            raise UserError(f"The years {self.year} run backwards; put the earlier one first: {last}-{first}.")
        return first, last

    def tests(self, entry: Entry) -> dict[str, bool]:
        """Whether a system passes each of the filters that are set."""
        card, now = entry.card, entry.standing
        passed: dict[str, bool] = {}
        if self.task is not None:
            passed[f"the task {self.task}"] = bool({self.task, "any"} & {*card.tasks})
        if self.mechanism is not None:
            passed[f"the mechanism {self.mechanism}"] = self.mechanism in card.mechanisms
        if self.rung == "stale":
            passed["stale results"] = now.stale
        elif self.rung in ("none", "guide"):
            passed[f"the rung {self.rung}"] = now.rung == self.rung
        elif self.rung is not None:
            least = RUNGS.index(self.rung)
            passed[f"the rung {self.rung}"] = now.rung in RUNGS[least:] and not now.stale
        if self.year is not None:
            first, last = self._years()
            passed[f"the year {self.year}"] = first <= card.year <= last
        return passed


@dataclass(frozen=True)
class Entry:
    """A system with how far it has come."""

    card: Card
    standing: Standing


@dataclass(frozen=True)
class Match:
    """A system that was found: how well it matches, and the words, tags and concepts that it does by."""

    entry: Entry
    score: float = 0.0
    why: tuple[str, ...] = field(default=())


def entries() -> list[Entry]:
    """All systems, by id."""
    results, _ = read_results()
    return [Entry(card, standing(card, results.get(card.id))) for card in read_cards().values()]


def search(words: str | None = None, filters: Filters | None = None) -> list[Match]:
    """The systems that pass the filters, best match first; without words all of them, by id.

    >>> search("make a ViT faster without retraining")[0].entry.card.id
    'pitome'

    Raises:
        UserError: there are no words in ``words``, nothing matches, or filters exclude each other; the message says
            which.
    """
    if words is not None and not _words(words):
        raise UserError("The search holds no word to look for; describe what is needed, or leave it out to list all.")
    found = _filtered(entries(), filters or Filters())
    if words is None:
        return [Match(entry) for entry in found]
    matches = [_match(words, entry) for entry in found]
    ranked = sorted((match for match in matches if match.score > 0), key=lambda match: -match.score)
    if not ranked:
        raise UserError(
            f"Nothing matches {words!r}; use fewer or other words, or formwright catalog alone to list all."
        )
    return ranked


def _filtered(everything: Sequence[Entry], filters: Filters) -> list[Entry]:
    tested = [(entry, filters.tests(entry)) for entry in everything]
    found = [entry for entry, tests in tested if all(tests.values())]
    if not found:
        counts = Counter(name for _, tests in tested for name, passed in tests.items() if passed)
        names = list(tested[0][1])
        each = ", ".join(f"{counts[name]} {'has' if counts[name] == 1 else 'have'} {name}" for name in names)
        if len(names) == 1:
            raise UserError(f"No system has {names[0]}.")
        raise UserError(f"No system has {', '.join(names[:-1])} and {names[-1]} together: {each}.")
    return found


def _match(words: str, entry: Entry) -> Match:
    index = _index()
    card, asked = entry.card, _words(words)
    counts = index.counts[card.id]
    length = sum(counts.values()) / index.mean_length
    score, why = 0.0, []
    for word, stem in asked.items():
        if counts[stem]:
            damped = counts[stem] + SATURATION * (1 - LENGTH_NORM + LENGTH_NORM * length)
            score += _rarity(index.holders[stem]) * counts[stem] * (SATURATION + 1) / damped
            why.append(word)
    question = words.lower()
    concepts = [concept for concept in CONCEPTS if concept.is_asked(question)]
    for concept in concepts:
        if card.id in index.answers[concept.name]:
            score += CONCEPT_WEIGHT * _rarity(len(index.answers[concept.name]))
            tags = sorted(concept.tags & {*card.tasks, *card.mechanisms})
            why.append(f"{concept.name} ({', '.join(tags)})" if tags else concept.name)
    share = len(why) / max(len(asked) + len(concepts), 1)
    named = card.id == "-".join(question.split())
    return Match(entry, score * (0.5 + share) + (100.0 if named else 0.0), tuple(why or ([card.id] if named else [])))


def _rarity(holders: int) -> float:
    """BM25's weight of a word that so many cards hold."""
    return math.log(1 + (len(read_cards()) - holders + 0.5) / (holders + 0.5))


@dataclass(frozen=True)
class _Index:
    counts: Mapping[str, Counter[str]]
    holders: Counter[str]
    mean_length: float
    #: The cards that answer each concept.
    answers: Mapping[str, frozenset[str]]


@functools.cache
def _index() -> _Index:
    cards = read_cards().values()
    counts = {card.id: _counted(card) for card in cards}
    answers = {
        concept.name: frozenset(
            card.id for card in cards if concept.answered({*card.tasks, *card.mechanisms}, _told(card))
        )
        for concept in CONCEPTS
    }
    holders = Counter(stem for count in counts.values() for stem in count)
    mean = sum(sum(count.values()) for count in counts.values()) / len(counts)
    return _Index(counts, holders, mean, answers)


def _counted(card: Card) -> Counter[str]:
    texts = {
        "title": f"{card.id} {card.title}",
        "tags": " ".join((*card.tasks, *card.mechanisms, *card.parts)).replace("_", " "),
        "use_when": card.use_when,
        "summary": card.summary,
    }
    counts: Counter[str] = Counter()
    for name, weight in WEIGHTS.items():
        for stem in _stems(texts[name]):
            counts[stem] += weight
    return counts


def _told(card: Card) -> str:
    cost = f"cost: {card.cost.time}" if card.cost is not None else ""
    return f"{card.title} {card.summary} {card.use_when} {cost}".lower()


def _words(text: str) -> dict[str, str]:
    """The words that are looked for, and their stems."""
    found = re.findall(r"[a-z0-9]+", text.lower())
    return {word: _stem(word) for word in found if word not in _STOPWORDS}


def _stems(text: str) -> list[str]:
    return [_stem(word) for word in re.findall(r"[a-z0-9]+", text.lower()) if word not in _STOPWORDS]


def _stem(word: str) -> str:
    """The word without its ending, so that merging finds merge and quantization finds quantisation."""
    for ending, rest in _ENDINGS:
        short = re.sub(ending, rest, word)
        if short != word and len(short) >= 3:
            return short
    return word

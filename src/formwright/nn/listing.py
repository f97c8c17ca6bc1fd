"""What parts there are, and what each says of itself, as a table."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass

from formwright.nn.parts import PARTS, Part

#: What the parts of a module or a package of ``nn`` are; the others are ``other``.
KINDS = {
    "token_mixers": "token mixer",
    "channel_mixers": "channel mixer",
    "composites": "composite",
    "norms": "norm",
    "heads": "head",
    "forecast_heads": "head",
    "embeddings": "embedding",
    "positions": "embedding",
    "texts": "embedding",
    "stems": "stem",
    "text_stems": "stem",
    "subsampling": "stem",
    "resampling": "resampling",
    "token_merging": "token merging",
}


@dataclass(frozen=True)
class PartFacts:
    """A registered part.

    Attributes:
        name: to build it by.
        kind: a value of :data:`KINDS`, or ``other``.
        axes: numbers of grid axes that it takes.
        causal: whether no token sees later ones: ``yes``, ``no``, or ``option``.
        streams: whether it goes on token by token, for some of its options.
        options: names of what can be given beside the channels.
        summary: the first line of its documentation.
    """

    name: str
    kind: str
    axes: tuple[int, ...]
    causal: str
    streams: bool
    options: tuple[str, ...]
    summary: str


def listed_parts(pattern: str = "*", *, kind: str | None = None) -> list[PartFacts]:
    """The parts whose names match a shell-style pattern, of a kind if that is asked, by name."""
    found = [_facts(name, PARTS[name]) for name in PARTS.names(pattern)]
    return [facts for facts in found if kind in (None, facts.kind)]


def _facts(name: str, constructor: type) -> PartFacts:
    where = constructor.__module__.split(".")
    kind = next((KINDS[step] for step in reversed(where) if step in KINDS), "other")
    parameters = inspect.signature(constructor).parameters.values()
    options = tuple(one.name for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY)
    summary = re.sub(r" \(:\w+:`.*?`\)|:\w+:|`", "", (inspect.getdoc(constructor) or "").partition("\n")[0])
    if not (isinstance(constructor, type) and issubclass(constructor, Part)):
        return PartFacts(name, kind, (), "no", False, options, summary)
    promises = constructor.promises
    causal = "yes" if promises.causal else "option" if "causal" in options else "no"
    streams = promises.per_token or constructor.stream is not Part.stream
    return PartFacts(name, kind, promises.dimensions, causal, streams, options, summary)

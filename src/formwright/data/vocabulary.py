"""A smaller vocabulary for texts of one kind: the word pieces that occur in them, and the most frequent others."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formwright.data.tokenization import LibraryTokenizer, Tokenizer

Ids = NDArray[np.int64]


def fewest_tokens(tokenizer: Tokenizer, rows: Iterable[Sequence[int]]) -> int | None:
    """How many tokens :func:`with_fewer_tokens` leaves at least; none where it can leave none out."""
    pieces = _word_pieces(tokenizer)
    return None if pieces is None else len(_needed(tokenizer, pieces) | _used(rows).keys())


def with_fewer_tokens(
    tokenizer: Tokenizer, rows: Iterable[Sequence[int]], most: int
) -> tuple[LibraryTokenizer, Ids] | None:
    """A tokeniser of word pieces with ``most`` of its tokens, and which ones these are of all, in order.

    Texts are split into the longest pieces that there are, so one whose pieces are all left is split as before, and
    another into shorter pieces. What stays, in this order: special tokens and single characters; what occurs in
    ``rows`` of ids, the most frequent first; the rest by id, since vocabularies list frequent words first.

    Args:
        tokenizer: with a vocabulary of word pieces; none comes back for any other.
        rows: the ids of texts.
        most: how many tokens to leave; special tokens and single characters stay in any case.

    Source: How Good is Your Tokenizer?, arXiv 2012.15613, on word pieces that a kind of text needs.
    """
    pieces = _word_pieces(tokenizer)
    if pieces is None:
        return None
    needed = _needed(tokenizer, pieces)
    used = [id_ for id_, _ in _used(rows).most_common()]
    order = dict.fromkeys([*sorted(needed), *used, *sorted(pieces.values())])
    kept = sorted(list(order)[: max(most, len(needed))])
    places = {old: new for new, old in enumerate(kept)}
    content = copy.deepcopy(tokenizer.to_json())
    content["model"]["vocab"] = {piece: places[id_] for piece, id_ in pieces.items() if id_ in places}
    for token in content.get("added_tokens", ()):
        token["id"] = places[token["id"]]
    _renumber(content.get("post_processor"), places)
    return LibraryTokenizer(json.dumps(content)), np.array(kept, np.int64)


def _word_pieces(tokenizer: Tokenizer) -> dict[str, int] | None:
    model = tokenizer.to_json().get("model") or {}
    return model["vocab"] if model.get("type") == "WordPiece" else None


def _needed(tokenizer: Tokenizer, pieces: dict[str, int]) -> set[int]:
    content: dict[str, Any] = tokenizer.to_json()
    special = {token["id"] for token in content.get("added_tokens", ())}
    prefix = content["model"].get("continuing_subword_prefix", "##")
    single = {id_ for piece, id_ in pieces.items() if len(piece.removeprefix(prefix)) == 1}
    unknown = pieces.get(content["model"].get("unk_token", "[UNK]"))
    return special | single | ({unknown} if unknown is not None else set())


def _used(rows: Iterable[Sequence[int]]) -> Counter[int]:
    counts: Counter[int] = Counter()
    for row in rows:
        counts.update(row)
    return counts


def _renumber(processor: dict[str, Any] | None, places: dict[int, int]) -> None:
    """Give the ids that a post-processor adds their new places."""
    if processor is None:
        return
    for inner in processor.get("processors", ()):
        _renumber(inner, places)
    for name in ("sep", "cls"):  # pairs of a token and its id
        if name in processor:
            processor[name] = [processor[name][0], places[processor[name][1]]]
    special = processor.get("special_tokens")
    for token in special.values() if isinstance(special, dict) else ():
        token["ids"] = [places[id_] for id_ in token["ids"]]

"""From scores to the next token, and from token to token.

Without PyTorch, so that all that can run a model draws the same text from the same scores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from formwright.errors import UserError

Array = NDArray[Any]


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        temperature: scores are divided by it before they become probabilities; at 0 the likeliest token is taken.
        top_k: only so many likeliest tokens can be drawn.
        top_p: only the likeliest tokens that together reach this probability can be drawn (arXiv 1904.09751).
        repetition_penalty: positive scores of tokens that occurred before are divided by it, negative ones multiplied
            (arXiv 1909.05858).
        seed: decides what is drawn; row ``i`` of a batch draws as if it were alone with ``seed + i``.

    Raises:
        UserError: a value is out of its range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {
            "temperature": (self.temperature >= 0, "0 (the likeliest token) or more"),
            "top_k": (self.top_k is None or self.top_k >= 1, "1 or more"),
            "top_p": (self.top_p is None or 0 < self.top_p <= 1, "above 0 and at most 1"),
            "repetition_penalty": (self.repetition_penalty > 0, "above 0"),
            "seed": (self.seed >= 0, "0 or more"),
        }
        for field in dataclasses.fields(self):
            good, range_ = limits.get(field.name, (True, ""))
            if not good:
                raise UserError(f"{field.name} must be {range_}, and {getattr(self, field.name)} was given.")

    def generators(self, batch: int) -> list[np.random.Generator]:
        """A source of chance for each row."""
        return [np.random.default_rng(self.seed + row) for row in range(batch)]

    def probabilities(
        self, scores: Float[Array, "batch vocabulary"], seen: Bool[Array, "batch vocabulary"] | None = None
    ) -> Float[Array, "batch vocabulary"]:
        """The probability of each token to be chosen, in the type of the scores.

        Args:
            scores: the model's scores of the next token.
            seen: true for tokens that occurred in the row before.
        """
        scores = self._penalised(scores, seen)
        if self.temperature == 0:
            return (np.arange(scores.shape[-1]) == scores.argmax(-1)[:, None]).astype(scores.dtype)
        scores = scores / self.temperature
        if self.top_k is not None and self.top_k < scores.shape[-1]:
            least = np.partition(scores, -self.top_k)[:, -self.top_k, None]
            scores = np.where(scores < least, -np.inf, scores)
        probabilities = np.exp(scores - scores.max(-1, keepdims=True))
        probabilities /= probabilities.sum(-1, keepdims=True)
        if self.top_p is None:
            return probabilities
        order = np.argsort(-probabilities, axis=-1, kind="stable")
        ranked = np.take_along_axis(probabilities, order, -1)
        ranked[np.cumsum(ranked, -1) - ranked >= self.top_p] = 0  # what is likelier reaches it already
        np.put_along_axis(probabilities, order, ranked, -1)
        return probabilities / probabilities.sum(-1, keepdims=True)

    def choose(
        self,
        scores: Float[Array, "batch vocabulary"],
        generators: Sequence[np.random.Generator],
        seen: Bool[Array, "batch vocabulary"] | None = None,
    ) -> Int[Array, " batch"]:
        """The next token of each row."""
        if self.temperature == 0:
            return self._penalised(scores, seen).argmax(-1)
        reached = np.cumsum(self.probabilities(scores, seen), -1, dtype=np.float64)
        drawn = np.array([generator.random() for generator in generators])[:, None]
        # Rounded, the sum of all may not be one, and its product with what was drawn not below it.
        return np.minimum((reached <= drawn * reached[:, -1:]).sum(-1), (reached < reached[:, -1:]).sum(-1))

    def _penalised(self, scores: Array, seen: Array | None) -> Array:
        if seen is None or self.repetition_penalty == 1:
            return scores
        penalty = scores.dtype.type(self.repetition_penalty)
        return np.where(seen, np.where(scores > 0, scores / penalty, scores * penalty), scores)


#: The likeliest token, always.
GREEDY = Sampling(temperature=0.0)

#: Given the rows that go on (none if all do) and the token that each of them got, the scores of the token after it.
Advance = Callable[[Int[Array, " rows"] | None, Int[Array, " rows"]], Float[Array, "rows vocabulary"]]


def draw(
    scores: Float[Array, "batch vocabulary"],
    advance: Advance,
    rows: Sequence[Sequence[int]],
    *,
    tokens: int,
    sampling: Sampling = GREEDY,
    stops: Collection[int] = (),
) -> Iterator[list[int | None]]:
    """Continue texts by up to ``tokens`` tokens each; yields the next token of each row, ``None`` once it has ended.

    Args:
        scores: of the first token after each row.
        advance: the model, which forgets the rows that have ended.
        rows: the ids before, which a repetition penalty counts.
        tokens: how many tokens each row gets at most.
        sampling: how a token is chosen.
        stops: ids that end a row and are not given out.
    """
    seen = None
    if sampling.repetition_penalty != 1:
        seen = np.zeros(scores.shape, bool)
        for index, row in enumerate(rows):
            seen[index, list(row)] = True
    generators, going, ends = sampling.generators(len(rows)), list(range(len(rows))), np.array(sorted(stops), np.int64)
    for remaining in reversed(range(tokens)):
        chosen = sampling.choose(scores, generators, seen)
        kept = np.flatnonzero(~np.isin(chosen, ends))
        all_stay = len(kept) == len(chosen)
        if not all_stay:
            chosen, seen = chosen[kept], None if seen is None else seen[kept]
            rows_kept: list[int] = kept.tolist()
            going, generators = [going[row] for row in rows_kept], [generators[row] for row in rows_kept]
        if not going:
            return
        answer: list[int | None] = [None] * len(rows)
        for place, token in zip(going, chosen.tolist(), strict=True):
            answer[place] = token
        yield answer
        if not remaining:
            return
        if seen is not None:
            seen[np.arange(len(going)), chosen] = True
        scores = advance(None if all_stay else kept, chosen)

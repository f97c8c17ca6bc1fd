"""From scores to the next token."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from formwright.errors import UserError


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
        }
        for field in dataclasses.fields(self):
            good, range_ = limits.get(field.name, (True, ""))
            if not good:
                raise UserError(f"{field.name} must be {range_}, and {getattr(self, field.name)} was given.")

    def generators(self, batch: int, device: torch.device) -> list[torch.Generator]:
        """A source of chance for each row."""
        return [torch.Generator(device).manual_seed(self.seed + row) for row in range(batch)]

    def probabilities(
        self, scores: Float[Tensor, "batch vocabulary"], seen: Bool[Tensor, "batch vocabulary"] | None = None
    ) -> Float[Tensor, "batch vocabulary"]:
        """The probability of each token to be chosen, in float32 at least.

        Args:
            scores: the model's scores of the next token.
            seen: true for tokens that occurred in the row before.
        """
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        if seen is not None and self.repetition_penalty != 1:
            penalised = torch.where(scores > 0, scores / self.repetition_penalty, scores * self.repetition_penalty)
            scores = torch.where(seen, penalised, scores)
        if self.temperature == 0:
            return torch.nn.functional.one_hot(scores.argmax(-1), scores.shape[-1]).to(scores.dtype)
        scores = scores / self.temperature
        if self.top_k is not None and self.top_k < scores.shape[-1]:
            least = scores.topk(self.top_k).values[..., -1:]
            scores = scores.masked_fill(scores < least, -torch.inf)
        probabilities = scores.softmax(-1)
        if self.top_p is None:
            return probabilities
        ranked, order = probabilities.sort(descending=True, stable=True)
        beyond = ranked.cumsum(-1) - ranked >= self.top_p  # what is likelier reaches it already
        probabilities = probabilities.masked_fill(beyond.gather(-1, order.argsort(-1)), 0)
        return probabilities / probabilities.sum(-1, keepdim=True)

    def choose(
        self,
        scores: Float[Tensor, "batch vocabulary"],
        generators: Sequence[torch.Generator],
        seen: Bool[Tensor, "batch vocabulary"] | None = None,
    ) -> Int[Tensor, " batch"]:
        """The next token of each row."""
        probabilities = self.probabilities(scores, seen)
        if self.temperature == 0:
            return probabilities.argmax(-1)
        drawn = [
            torch.multinomial(row, 1, generator=generator)
            for row, generator in zip(probabilities, generators, strict=True)
        ]
        return torch.cat(drawn)


#: The likeliest token, always.
GREEDY = Sampling(temperature=0.0)

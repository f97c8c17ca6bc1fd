"""Beam search: the likeliest texts that a model writes, several candidates of each followed side by side."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.inference.generation import begin, stopping_ids
from formwright.models import Network
from formwright.nn.streaming import select

#: Stands behind the ids of a text that is shorter than others.
_NOTHING = -1


class Hypothesis(NamedTuple):
    """A text that was found, without the id that ended it, and the sum of its log probabilities over length^penalty."""

    tokens: list[int]
    score: float


class _Texts(NamedTuple):
    """Texts ``(batch, count, longest)`` and their scores ``(batch, count)``."""

    ids: Int[Tensor, "batch count longest"]
    scores: Float[Tensor, "batch count"]

    def best(self, count: int) -> tuple[_Texts, Int[Tensor, "batch count"]]:
        """The texts of the highest scores, and where they were."""
        scores, order = self.scores.topk(min(count, self.scores.shape[1]))
        return _Texts(_taken(self.ids, order), scores), order


def _taken(x: Tensor, order: Int[Tensor, "batch count"]) -> Tensor:
    """Entries of the second axis, chosen for each row."""
    return torch.take_along_dim(x, order.view(*order.shape, *[1] * (x.ndim - 2)), dim=1)


@torch.inference_mode()
def beam_search(
    model: Network,
    prompts: Sequence[Sequence[int]] | Tensor,
    *,
    beams: int = 4,
    tokens: int = 100,
    length_penalty: float = 1.0,
    early_stopping: bool | Literal["never"] = False,
    stop: Collection[int] = (),
) -> list[list[Hypothesis]]:
    """The likeliest continuations of each prompt (or answers to it, of an encoder-decoder), best first.

    A text ends with an id of ``stop``, the model's own end, or after ``tokens`` ids. Its score is
    ``sum_t log p(id_t | ids before) / length ^ length_penalty``, the end counted. Each step extends the ``beams``
    likeliest texts that have not ended; a text that ends is kept if it is among the ``beams`` likeliest of its step
    and among the best that have ended. Prompts do not disturb each other.

    Args:
        model: a decoder or an encoder-decoder that streams.
        prompts: ids of each prompt, or a tensor of what an encoder reads.
        beams: how many texts are followed, and found, for each prompt.
        tokens: how many ids each text gets at most, its end included.
        length_penalty: above 0 favours longer texts, below 0 shorter ones.
        early_stopping: when the search for a prompt is over, once ``beams`` texts have ended: true, at once; false,
            when none that goes on could be better if it ended now; ``"never"``, when none could be at any length, with
            a positive penalty taken at the longest.
        stop: ids that end a text, besides the model's own.

    Raises:
        UserError: there are no beams, ``early_stopping`` is none of the three, or as
            :func:`~formwright.inference.generation.generate`.

    Source: the stopping rules are those of transformers, whose texts it finds.
    """
    if beams < 1:
        raise UserError(f"A beam search follows at least one text, and beams={beams} was given.")
    if early_stopping not in (True, False, "never"):
        raise UserError(f"early_stopping is true, false or 'never', and {early_stopping!r} was given.")
    training = model.training
    model.eval()
    try:
        _, scores, state = begin(model, prompts, tokens)
        stops = stopping_ids(model, stop, scores.device)
        batch, vocabulary = scores.shape
        dtype = torch.promote_types(scores.dtype, torch.float32)
        going = _Texts(stops.new_empty(batch, 1, 0), torch.zeros(batch, 1, dtype=dtype, device=scores.device))
        ended = _Texts(
            stops.new_full((batch, beams, tokens), _NOTHING),
            going.scores.new_full((batch, beams), -torch.inf),
        )
        over = torch.zeros(batch, dtype=torch.bool, device=scores.device)
        for length in range(1, tokens + 1):
            width = going.scores.shape[1]
            likelihood = F.log_softmax(scores.to(dtype), dim=-1).view(batch, width, vocabulary)
            candidates = (likelihood + going.scores[..., None]).flatten(1)
            # So many that enough go on, even if every beam's likeliest ids are those that end it.
            likeliest, index = candidates.topk(min(max(2, 1 + len(stops)) * beams, candidates.shape[1]))
            parents, chosen = index // vocabulary, index % vocabulary
            grown = torch.cat([_taken(going.ids, parents), chosen[..., None]], dim=2)
            ends = torch.isin(chosen, stops) | (length == tokens)

            found = ends & (torch.arange(ends.shape[1], device=ends.device) < beams) & ~over[:, None]
            worth = (likeliest / length**length_penalty).masked_fill(~found, -torch.inf)
            longest = F.pad(grown, (0, tokens - length), value=_NOTHING)
            ended, _ = _Texts(torch.cat([ended.ids, longest], 1), torch.cat([ended.scores, worth], 1)).best(beams)
            if length == tokens:
                break
            going, order = _Texts(grown, likeliest.masked_fill(ends, -torch.inf)).best(beams)

            reach = tokens if early_stopping == "never" and length_penalty > 0 else length
            enough = ended.scores.isfinite().all(1)
            hopeless = going.scores[:, 0] / reach**length_penalty <= ended.scores.amin(1)
            over = over | (enough & (hopeless | (early_stopping is True)))
            if bool(over.all()):
                break
            rows = torch.arange(batch, device=scores.device)[:, None] * width + _taken(parents, order)
            # A beam goes on in the place of another one of its prompt, once there are as many as there will be.
            state = select(state, rows.flatten(), same_memory=width == going.scores.shape[1])
            scores, state = model.stream(going.ids[..., -1].reshape(-1, 1), state)
            scores = scores[:, -1]
    finally:
        model.train(training)
    return [
        [
            Hypothesis([token for token in ids if token != _NOTHING and token not in stops.tolist()], score)
            for ids, score in zip(row, values, strict=True)
            if score > -torch.inf
        ]
        for row, values in zip(ended.ids.tolist(), ended.scores.tolist(), strict=True)
    ]

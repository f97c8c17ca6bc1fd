"""Learned tokens that stand in front of others."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError


class PromptPool(nn.Module):
    """Prompts with keys; those whose keys are most similar to a summary of the tokens stand before them.

    ``similarity_p = cosine(key_p, w · tokens + b)``, the ``chosen`` largest.

    Args:
        dim: channels.
        patches: tokens that are summarised.
        size: how many prompts there are.
        chosen: how many of them are taken.
        length: vectors of one prompt.
        reshaped: reshape the tokens where they should be transposed, so that the summary mixes tokens and channels: the
            authors' form.

    Shapes: ``(batch, patches, dim)`` to ``(batch, chosen * length, dim)``, the most similar first.

    Raises:
        UserError: more prompts are to be chosen than there are, or none.

    Source: TEMPO, arXiv 2310.04948, after Learning to Prompt for Continual Learning, arXiv 2112.08654.
    """

    def __init__(self, dim: int, *, patches: int, size: int, chosen: int, length: int, reshaped: bool = False) -> None:
        super().__init__()
        if not 1 <= chosen <= size:
            raise UserError(f"Of a pool of {size} prompts, {chosen} cannot be chosen.")
        self.chosen, self.reshaped = chosen, reshaped
        self.keys = nn.Parameter(torch.randn(size, dim))
        self.prompts = nn.Parameter(torch.randn(size, length, dim))
        self.summary = nn.Linear(patches, 1)

    def forward(self, tokens: Float[Tensor, "batch patches dim"]) -> Float[Tensor, "batch prompts dim"]:
        by_channel = tokens.reshape(tokens.shape[0], -1, tokens.shape[1]) if self.reshaped else tokens.transpose(1, 2)
        query = F.normalize(self.summary(by_channel)[..., 0], dim=1, eps=1e-6)
        similarity = query @ F.normalize(self.keys, dim=1, eps=1e-6).T
        return self.prompts[similarity.topk(self.chosen, dim=1).indices].flatten(1, 2)

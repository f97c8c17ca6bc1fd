"""Tokens that are alike become one token, weighted by how many original tokens each stands for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Matching:
    """Which tokens merge into which: those at even places into those at odd places.

    Attributes:
        kept: even tokens that stay, by their number among the even ones.
        merged: even tokens that merge, likewise.
        targets: the odd token that each of them merges into, by its number among the odd ones.
        protected: how many leading tokens keep their places.
    """

    kept: Int[Tensor, "batch kept"]
    merged: Int[Tensor, "batch merged"]
    targets: Int[Tensor, "batch merged"]
    protected: int = 0

    def sums(self, x: Float[Tensor, "batch tokens channels"]) -> Float[Tensor, "batch rest channels"]:
        """The tokens after merging, each the sum of those that became it: protected ones, kept even ones, odd ones."""
        even, odd = x[:, ::2], x[:, 1::2]
        kept, moved = _rows(even, self.kept), _rows(even, self.merged)
        odd = odd.scatter_add(1, self.targets[..., None].expand_as(moved), moved)
        if self.protected < 2:
            return torch.cat([kept, odd], dim=1)
        ahead = self.protected // 2
        pairs = torch.stack([kept[:, :ahead], odd[:, :ahead]], dim=2).flatten(1, 2)
        return torch.cat([pairs, kept[:, ahead:], odd[:, ahead:]], dim=1)


def _rows(x: Tensor, index: Tensor) -> Tensor:
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))


@torch.no_grad()
def bipartite_soft_matching(
    metric: Float[Tensor, "batch tokens channels"], remove: int, protected: int = 0
) -> Matching | None:
    """Match the ``remove`` tokens at even places that are most like one at an odd place, by the cosine of ``metric``.

    Args:
        metric: what tokens are compared by, such as the keys of attention.
        remove: how many tokens disappear; at most half of those that are not protected do.
        protected: leading tokens (class token, registers) that neither merge nor are merged into.

    Returns:
        The matching; nothing where no token would disappear.

    Source: Token Merging: Your ViT But Faster, arXiv 2210.09461.
    """
    remove = min(remove, (metric.shape[1] - protected) // 2)
    if remove <= 0:
        return None
    directions = metric / metric.norm(dim=-1, keepdim=True)
    likeness = directions[:, ::2] @ directions[:, 1::2].transpose(1, 2)
    rows, columns = (protected + 1) // 2, protected // 2
    if columns:
        likeness[:, :, :columns] = -math.inf
    if rows:
        likeness[:, :rows] = -math.inf
    best, targets = likeness.max(dim=-1)
    order = best.argsort(dim=-1, descending=True)
    kept, merged = order[:, remove:], order[:, :remove]
    if protected:
        kept = kept.sort(dim=1).values
    return Matching(kept, merged, targets.gather(1, merged), protected)


def merge_tokens(
    matching: Matching, x: Float[Tensor, "batch tokens channels"], size: Float[Tensor, "batch tokens"]
) -> tuple[Float[Tensor, "batch rest channels"], Float[Tensor, "batch rest"]]:
    """Tokens after merging, each the mean of the original tokens that it stands for, and how many those are.

    ``x' = sum(size * x) / sum(size)`` over the tokens that become one, ``size' = sum(size)``; in float32 at least.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    size = size.to(wide)[..., None]
    sums, sizes = matching.sums(x * size), matching.sums(size)
    return (sums / sizes).to(x.dtype), sizes.squeeze(-1)

"""Reformer's attention: tokens whose queries hash alike."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from formwright.errors import UserError
from formwright.nn.functional.hashed_attention import hash_buckets, lsh_attention
from formwright.nn.parts import PARTS, Axis
from formwright.nn.token_mixers.multi_head import Heads, Mask, MultiHeadMixer, check_positive, refuse_causal


@PARTS.register("lsh_attention")
class LSHAttention(MultiHeadMixer):
    """Multi-head attention with shared queries and keys, among tokens that a random hash sorts side by side.

    See :func:`~formwright.nn.functional.hashed_attention.lsh_attention`. The random rotations are drawn once and saved
    with the weights, so that the same input always gives the same answer (the authors draw them anew in every call).
    The Long Range Arena's code does not divide keys by their lengths, multiplies the scores by ``sqrt(head_dim)``, sees
    padding, and has no output projection. With several hashes, transformers' first chunk of a hash sees the last one of
    the hash before; here that of its own. With one hash both are equal.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim``.
        hashes: how many times tokens are hashed.
        buckets: of each hash, an even number.
        chunk: tokens that are compared at once, with those of the chunk before.
        causal: refused: which tokens share a chunk depends on all of them.

    Shapes: ``(batch, time, dim)`` to the same; ``context.mask`` ``(batch, time)`` true for real tokens.

    Raises:
        UserError: ``dim`` cannot be split over the heads, a size is below 1, the number of buckets is odd, or it is
            asked to be causal.

    Source: Reformer: The Efficient Transformer, arXiv 2001.04451.
    """

    projected: ClassVar[tuple[str, ...]] = ("queries_and_keys", "values")
    taps: ClassVar[tuple[str, ...]] = (*projected, "mixed")
    rotations: Tensor

    def __init__(
        self,
        dim: int,
        *,
        heads: int = 4,
        hashes: int = 1,
        buckets: int = 32,
        chunk: int = 64,
        causal: bool = False,
    ) -> None:
        check_positive(hashes=hashes, buckets=buckets, chunk=chunk)
        if buckets % 2:
            raise UserError(
                f"Buckets come in pairs of opposite directions, and {buckets} is odd; choose an even number."
            )
        refuse_causal("Reformer", "which tokens share a chunk depends on later ones", causal)
        super().__init__(dim, heads)
        self.chunk = chunk
        self.register_buffer("rotations", torch.randn(heads, hashes, self.head_dim, buckets // 2))

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return super().axes() | {"rotations": (Axis("heads"), None, None, None)}

    def attend(self, heads: tuple[Heads, ...], mask: Mask | None, prefix: int) -> Heads:
        qk, v = heads
        return lsh_attention(qk, v, hash_buckets(qk.detach(), self.rotations), chunk=self.chunk, mask=mask)

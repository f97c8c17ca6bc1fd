"""Softmax attention between tokens whose queries fall into the same buckets of a hash."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from formwright.nn.functional.blocks import real_tokens, split_axis

#: Added to the score of a token with itself, which it sees only where there is nothing else to see.
SELF_SCORE = -1e5
_EPS = 1e-6  # of the mean square of a key's channels, as the authors have it


def hash_buckets(
    x: Float[Tensor, "batch time heads channels"],
    rotations: Float[Tensor, "heads hashes channels half_buckets"],
) -> Int[Tensor, "batch heads hashes time"]:
    """Random-rotation hash: ``argmax([x R, -x R])``, near vectors in one bucket with high probability.

    Source: Practical and Optimal LSH for Angular Distance, arXiv 1509.02897.
    """
    rotated = torch.einsum("bthc,hrcn->bhrtn", x, rotations.to(x.dtype))
    return torch.cat([rotated, -rotated], dim=-1).argmax(-1)


def lsh_attention(
    qk: Float[Tensor, "batch time heads channels"],
    v: Float[Tensor, "batch time heads channels"],
    buckets: Int[Tensor, "batch heads hashes time"],
    *,
    chunk: int,
    mask: Bool[Tensor, "batch time"] | None = None,
) -> Float[Tensor, "batch time heads channels"]:
    """Attention with one vector for query and key, among tokens that a hash puts side by side.

    For each hash, tokens are sorted by bucket (and place), cut into chunks, and see their own chunk and the one before
    it (the first sees the last): ``y_i = sum_j softmax(q_i k_j) v_j`` with ``k_j = q_j / |q_j|``, a token itself only
    if there is nothing else. Results of several hashes are weighted by their softmax denominators.
    Cost grows with ``hashes * time * chunk``. A bucket holds tokens of all times and so do chunks: which tokens share
    one depends on later tokens too, so that this attention cannot be causal.

    Args:
        qk: queries; divided by their lengths they are the keys.
        buckets: from :func:`hash_buckets`.
        chunk: tokens of a chunk.
        mask: true for real tokens; the others are sorted to the end and seen by nobody.

    Source: Reformer: The Efficient Transformer, arXiv 2001.04451.
    """
    batch, time, heads, channels = qk.shape
    hashes = buckets.shape[2]
    real = real_tokens(mask, qk).expand(batch, -1)
    missing = -time % chunk
    order_key = torch.where(real[:, None, None], buckets, buckets.amax(-1, keepdim=True) + 1)
    order = (order_key * time + torch.arange(time, device=qk.device)).argsort(-1)
    slots = torch.cat([order, order[..., -1:].expand(-1, -1, -1, missing)], dim=-1).flatten(1, 2)  # all hashes
    filled = torch.arange(time + missing, device=qk.device) < time

    def sort(x: Tensor) -> Tensor:
        """``(batch, heads, time, ...)`` to ``(batch, heads * hashes, chunks, chunk, ...)``."""
        x = x.repeat_interleave(hashes, 1)
        index = slots.view(*slots.shape, *[1] * (x.ndim - 3)).expand(*slots.shape, *x.shape[3:])
        return split_axis(x.gather(2, index), 2, -1, chunk)

    queries, values = sort(qk.transpose(1, 2)), sort(v.transpose(1, 2))
    keys = queries * (queries.square().sum(-1, keepdim=True) + _EPS * channels).rsqrt()
    seen = sort(real[:, None].expand(-1, heads, -1)) & filled.view(-1, chunk)
    place = split_axis(slots, 2, -1, chunk)
    chunks = place.shape[2]
    last = (real.sum(1) - 1).clamp(min=0) // chunk  # the last chunk that holds a real token
    before = torch.arange(-1, chunks - 1, device=qk.device).expand(batch, -1)
    before = torch.where(before < 0, last[:, None], before)

    def with_previous(x: Tensor) -> Tensor:
        """Each chunk and the one before it, on one axis."""
        index = before.view(batch, 1, chunks, *[1] * (x.ndim - 3)).expand_as(x)
        return torch.cat([x, x.gather(2, index)], dim=3)

    keys, values, seen, key_place = map(with_previous, (keys, values, seen, place))
    logits = torch.einsum("bhnqc,bhnkc->bhnqk", queries, keys)
    logits = torch.where(place[..., None] == key_place[..., None, :], SELF_SCORE, logits)
    logits = logits.masked_fill(~seen[..., None, :], torch.finfo(logits.dtype).min)
    total = logits.logsumexp(-1, keepdim=True)
    y = torch.einsum("bhnqk,bhnkc->bhnqc", logits.softmax(-1), values)
    back = order.flatten(1, 2).argsort(-1)[..., None]
    y = y.flatten(2, 3)[:, :, :time].gather(2, back.expand(-1, -1, -1, channels))
    total = total.flatten(2, 3)[:, :, :time].gather(2, back)
    y, total = (split_axis(x, 1, heads, hashes) for x in (y, total))
    return (y * total.softmax(2)).sum(2).transpose(1, 2)

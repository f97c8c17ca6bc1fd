"""Softmax attention within a sliding window and to a few tokens that see, and are seen by, all others."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from formwright.nn.functional.block_attention import attend_to_all
from formwright.nn.functional.blocks import attend_in_blocks, join_blocks, real_tokens, split_blocks

Tokens = Float[Tensor, "batch time heads channels"]
Triple = tuple[Tokens, Tokens, Tokens]


def global_window_attention(
    local: Triple,
    whole: Triple | None,
    *,
    window: int,
    leading: int = 0,
    mask: Bool[Tensor, "batch time"] | None = None,
) -> Tokens:
    """Tokens see keys at most ``window // 2`` places away and the first ``leading`` ones, which see all.

    ``y_i = softmax(q_i [k_near, k_leading]ᵀ / sqrt(channels)) [v_near, v_leading]`` for the others, and for the
    leading tokens full attention with queries, keys and values of their own. Cost grows with ``time * window``.

    Args:
        local: queries, keys and values of the window (and keys and values of the leading tokens in it).
        whole: queries, keys and values of the leading tokens' attention; none where there are none.
        window: how many places are seen, half of them on each side.
        leading: how many tokens at the beginning are global.
        mask: true for real tokens.

    Source: Longformer: The Long-Document Transformer, arXiv 2004.05150.
    """
    q, k, v = local
    time = q.shape[1]
    reach = window // 2
    block = max(min(reach, time), 1)
    before = -(-reach // block)  # blocks on each side that a window reaches into
    real = real_tokens(mask, q)
    places = torch.arange(time, device=q.device)
    in_window = real & (places >= leading)
    queries = split_blocks(q, block)
    blocks = queries.shape[1]
    margin = before * block
    span = block + 2 * margin

    def around(x: Tensor) -> Tensor:
        """``(batch, blocks, span, ...)``: each block with what its windows reach."""
        fill = [0, 0] * (x.ndim - 2) + [margin, margin + blocks * block - time]
        return F.pad(x, fill).unfold(1, span, block).movedim(-1, 2)

    distance = torch.arange(block, device=q.device)[:, None] + margin - torch.arange(span, device=q.device)
    allowed = around(in_window)[:, :, None] & (distance.abs() <= reach)
    near_keys, near_values = around(k), around(v)
    if leading:
        first = real[:, None, None, :leading].expand(-1, blocks, block, -1)
        allowed = torch.cat([allowed, first], dim=-1)
        near_keys, near_values = (
            torch.cat([near, x[:, None, :leading].expand(-1, blocks, -1, -1, -1)], dim=2)
            for near, x in ((near_keys, k), (near_values, v))
        )
    y = join_blocks(attend_in_blocks(queries, near_keys, near_values, allowed), time)
    if not leading:
        return y
    assert whole is not None
    first = attend_to_all(whole[0][:, :leading], whole[1], whole[2], real)
    return torch.cat([first, y[:, leading:]], dim=1)

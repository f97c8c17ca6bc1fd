"""LSH attention sees the chunks that sorting by bucket makes, and weighs several hashes by what they saw."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor

from formwright.nn.functional.hashed_attention import SELF_SCORE, hash_buckets, lsh_attention
from tests.nn.functional.naive import LENGTHS, heads, hold, normal, some_mask

CHUNK = 4


def naive_lsh(qk: Tensor, v: Tensor, buckets: Tensor, mask: Tensor) -> Tensor:
    """Row by row, head by head, hash by hash, with lists."""
    y = torch.zeros_like(qk)
    keys = qk / (qk.square().sum(-1, keepdim=True) + 1e-6 * qk.shape[-1]).sqrt()
    for row in range(len(qk)):
        real = mask[row].nonzero().flatten().tolist()
        for head in range(qk.shape[2]):
            outputs, totals = {}, {}
            for number, bucket in enumerate(buckets[row, head].tolist()):
                order = sorted(real, key=lambda place, bucket=bucket: (bucket[place], place))
                chunks = [order[start : start + CHUNK] for start in range(0, len(order), CHUNK)]
                for place, chunk in enumerate(chunks):
                    seen = chunk + chunks[place - 1]
                    for query in chunk:
                        logits = keys[row, seen, head] @ qk[row, query, head]
                        own = torch.tensor([key == query for key in seen])
                        logits = torch.where(own, SELF_SCORE, logits)
                        outputs[number, query] = logits.softmax(0) @ v[row, seen, head]
                        totals[number, query] = logits.logsumexp(0)
            for query in real:
                hashes = range(buckets.shape[2])
                weights = torch.stack([totals[number, query] for number in hashes]).softmax(0)
                y[row, query, head] = sum(weights[number] * outputs[number, query] for number in hashes)
    return y


@pytest.mark.parametrize("time", LENGTHS)
@pytest.mark.parametrize("hashes", [1, 3])
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_lsh(time: int, hashes: int, masked: bool) -> None:
    qk, v = heads(time, 2)
    mask = some_mask(time) if masked else None
    buckets = hash_buckets(qk, normal(2, hashes, 4, 3, seed=3))
    real = torch.ones(2, time, dtype=torch.bool) if mask is None else mask
    fast = functools.partial(lsh_attention, buckets=buckets, chunk=CHUNK, mask=mask)
    hold(fast, functools.partial(naive_lsh, buckets=buckets, mask=real), [qk, v], real)


def test_like_vectors_share_buckets_and_opposite_ones_do_not() -> None:
    x = normal(1, 50, 2, 8)
    rotations = normal(2, 4, 8, 8, seed=1)
    buckets = hash_buckets(x, rotations)
    assert buckets.shape == (1, 2, 4, 50)
    assert buckets.min() >= 0
    assert buckets.max() < 16
    near = hash_buckets(x + 1e-3 * normal(1, 50, 2, 8, seed=2), rotations)
    assert (near == buckets).double().mean() > 0.95
    assert (hash_buckets(3 * x, rotations) == buckets).all()
    assert (hash_buckets(-x, rotations) != buckets).all()

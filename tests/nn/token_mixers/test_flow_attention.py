"""Flow attention against its equations, result by result."""

from __future__ import annotations

import torch

from formwright.nn.token_mixers.flow_attention import flow_attention


def naive(q, k, v, real):
    """One head, ``(tokens, channels)``, loops over results; tokens that are not ``real`` do not exist."""
    q, k, v = torch.sigmoid(q[real]), torch.sigmoid(k[real]), v[real]
    e = 1e-6
    incoming = [(a + e) @ (k.sum(0) + e) for a in q]
    outgoing = [(b + e) @ (q.sum(0) + e) for b in k]
    conserved_in = [(a + e) @ (sum(b / o for b, o in zip(k, outgoing, strict=True)) + e) for a in q]
    conserved_out = [(b + e) @ (sum(a / i for a, i in zip(q, incoming, strict=True)) + e) for b in k]
    share = torch.softmax(torch.stack(conserved_out), 0) * len(k)
    rows = []
    for index, a in enumerate(q):
        flow = sum((a @ b) * s * value for b, s, value in zip(k, share, v, strict=True))
        rows.append(torch.sigmoid(conserved_in[index]) * flow / incoming[index])
    return torch.stack(rows)


def test_it_follows_its_equations():
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 3, 7, 4, generator=generator, dtype=torch.float64)
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[1, [2, 5]] = False
    whole = flow_attention(q, k, v)
    masked = flow_attention(q, k, v, mask[:, None, :, None])
    for batch in range(2):
        for head in range(3):
            expected = naive(q[batch, head], k[batch, head], v[batch, head], torch.ones(7, dtype=torch.bool))
            torch.testing.assert_close(whole[batch, head], expected, rtol=1e-9, atol=1e-12)
            expected = naive(q[batch, head], k[batch, head], v[batch, head], mask[batch])
            torch.testing.assert_close(masked[batch, head][mask[batch]], expected, rtol=1e-9, atol=1e-12)

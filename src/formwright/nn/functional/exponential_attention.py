"""Linear attention whose features are exponentials, ``exp(q)`` and ``exp(k)``, given by their exponents.

``y_t = sum over s of w_ts v_s / sum over s of w_ts`` with ``w_ts = sum over features f of exp(q_tf + k_sf)``. Exponents
of hundreds are common, so whoever sums the exponentials themselves loses what a query sees to underflow, or to whatever
constant keeps the quotient from 0 / 0. Here the keys' exponents are taken relative to each feature's largest, its
*peak*, and a query's relative to the largest of its sums with the peaks. Both cancel in the quotient, and the sum of
the weights is then at least one, without any constant.

A peak must be of keys that the query sees. If all tokens of a text have much the same running peaks, as is usual, they
share the last ones, and attention is :func:`causal_linear_attention`. Otherwise chunks are halved again and again:
queries of a second half see all keys of the first, whose peaks are theirs, and what a query has found in different
places is put together by the logarithms of its scales.

Source: Rethinking Attention with Performers, arXiv 2009.14794 (whose features are such; the authors' code takes all
keys' exponents relative to one and adds 1e-6 to the features, which replaces those of queries and keys that are long).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from formwright.nn.functional.blocks import split_axis
from formwright.nn.functional.chunks import (
    SEGMENT,
    accumulation_type,
    chained,
    chunk_length,
    from_chunks,
    to_chunks,
    without_autocast,
)
from formwright.nn.functional.linear_attention import causal_linear_attention
from formwright.nn.functional.transforms import values_are_known

#: Tokens of a chunk where running peaks differ much.
CHUNK = 32
#: The peak of a feature that no key had yet: below all, and still a number.
_LOWEST = -1e30
#: How far running peaks may lie apart: a query's largest term is then no smaller than ``exp(-60)``, and what float32
#: cannot hold beside it does not matter.
_MILDEST_RISE = 60.0


@without_autocast
def exponential_attention(
    q: Float[Tensor, "batch time heads features"],
    k: Float[Tensor, "batch time heads features"],
    v: Float[Tensor, "batch time heads values"],
    *,
    mask: Bool[Tensor, "batch time"] | None = None,
) -> Float[Tensor, "batch time heads values"]:
    """Every token sees all of them.

    Args:
        q: exponents of the queries' features.
        k: exponents of the keys' features.
        v: values.
        mask: false for keys that nobody sees; a query that sees none gets zeros.

    Returns:
        The outputs in the type of ``v``.
    """
    if q.shape[1] == 0:
        return v
    dtype = accumulation_type(q.dtype)
    q, k, values = q.to(dtype), _real(k, mask).to(dtype), F.pad(v.to(dtype), (0, 1), value=1.0)
    peaks = _peaks(k, 1).unsqueeze(1)
    sums = (k - peaks).exp_().permute(0, 2, 3, 1) @ values.transpose(1, 2)
    return _quotient((_relative(q + peaks)[0].transpose(1, 2) @ sums).transpose(1, 2)).to(v.dtype)


@without_autocast
def causal_exponential_attention(
    q: Float[Tensor, "batch time heads features"],
    k: Float[Tensor, "batch time heads features"],
    v: Float[Tensor, "batch time heads values"],
    *,
    initial_state: tuple[Float[Tensor, "batch heads features columns"], Float[Tensor, "batch heads features"]]
    | None = None,
    mask: Bool[Tensor, "batch time"] | None = None,
) -> tuple[
    Float[Tensor, "batch time heads values"],
    tuple[Float[Tensor, "batch heads features columns"], Float[Tensor, "batch heads features"]],
]:
    """Every token sees those before it, and itself.

    Args:
        q, k, v, mask: as for :func:`exponential_attention`.
        initial_state: the final state of what came before; zeros are the state before the first token.

    Returns:
        The outputs in the type of ``v``; and the state in at least float32: for each feature the sums of
        ``exp(k - peak)`` times the values, with one column more for the sum without them, and the peak.
    """
    dtype = accumulation_type(q.dtype)
    q, k, values = q.to(dtype), _real(k, mask).to(dtype), F.pad(v.to(dtype), (0, 1), value=1.0)
    batch, _, heads, features = q.shape
    if initial_state is None:
        sums = q.new_zeros(batch, heads, features, values.shape[-1])
        peaks = q.new_full((batch, heads, features), _LOWEST)
    else:
        sums, peaks = (part.to(dtype) for part in initial_state)
        peaks = torch.where(sums[..., -1] > 0, peaks, _LOWEST)
    if q.shape[1] == 0:
        return v, (sums, peaks)
    outputs = []
    pieces = (torch.split(x, SEGMENT, dim=1) for x in (q, k, values))
    for some_q, some_k, some_v in zip(*pieces, strict=True):
        y, sums, peaks = _segment(some_q, some_k, some_v, sums, peaks)
        outputs.append(y.to(v.dtype))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1), (sums, peaks)


def _segment(q: Tensor, k: Tensor, v: Tensor, sums: Tensor, peaks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    last = torch.maximum(peaks, _peaks(k, 1))
    if _mild(last - torch.maximum(peaks, _peaks(k[:, :1], 1))):
        fading = (peaks - last).exp().unsqueeze(-1)
        queries = _relative(q + last.unsqueeze(1))[0]
        y, sums = causal_linear_attention(queries, (k - last.unsqueeze(1)).exp_(), v, initial_state=sums * fading)
        return _quotient(y), sums, last
    time, heads = q.shape[1:3]
    length = chunk_length(time, CHUNK)
    # Padding behind the end has no features.
    k = F.pad(k, (0, 0, 0, 0, 0, -time % length), value=-torch.inf)
    q, k, v = (to_chunks(x, length, x.dtype) for x in (q, k, v))
    rows = q.shape[0]
    chunk_peaks = torch.cat([peaks.flatten(0, 1).unsqueeze(1), _peaks(k, 2)], dim=1).cummax(1).values
    fading = (chunk_peaks[:, :-1] - chunk_peaks[:, 1:]).exp().unsqueeze(-1)
    added = (k - chunk_peaks[:, 1:, None]).exp_().mT @ v
    before, after = chained(sums.reshape(rows, *sums.shape[2:]), added, fading)
    queries, scale = _relative(q + chunk_peaks[:, :-1, None])
    y, scale = _together(queries @ before, scale, *_within(q, k, v))
    y = from_chunks(_quotient(y), heads, time)
    return y, after.view(sums.shape), chunk_peaks[:, -1].reshape(peaks.shape)


def _within(
    q: Float[Tensor, "rows chunks length features"],
    k: Float[Tensor, "rows chunks length features"],
    v: Float[Tensor, "rows chunks length columns"],
) -> tuple[Float[Tensor, "rows chunks length columns"], Float[Tensor, "rows chunks length 1"]]:
    """What every token of a chunk sees of the chunk, and the logarithm of the scale that it is given in."""
    own, scale = _relative(q + k)
    y = own.sum(-1, keepdim=True) * v
    block, length = 1, q.shape[2]
    while block < length:
        halves = (length // (2 * block), 2, block)
        early_k, early_v = (split_axis(x, 2, *halves)[:, :, :, 0] for x in (k, v))
        late_q = split_axis(q, 2, *halves)[:, :, :, 1]
        (early_y, late_y), (early_scale, late_scale) = (split_axis(x, 2, *halves).unbind(3) for x in (y, scale))
        peaks = _peaks(early_k, 3).unsqueeze(3)
        queries, across_scale = _relative(late_q + peaks)
        across = (queries @ (early_k - peaks).exp_().mT) @ early_v
        late_y, late_scale = _together(late_y, late_scale, across, across_scale)
        y = torch.stack([early_y, late_y], dim=3).flatten(2, 4)
        scale = torch.stack([early_scale, late_scale], dim=3).flatten(2, 4)
        block *= 2
    return y, scale


def _together(y: Tensor, scale: Tensor, other: Tensor, other_scale: Tensor) -> tuple[Tensor, Tensor]:
    """``exp(scale) y + exp(other_scale) other``, in the larger scale."""
    largest = torch.maximum(scale, other_scale)
    return torch.addcmul(y * (scale - largest).exp(), other, (other_scale - largest).exp()), largest


def _real(k: Tensor, mask: Tensor | None) -> Tensor:
    return k if mask is None else k.masked_fill(~mask[..., None, None], -torch.inf)


def _peaks(k: Tensor, dim: int) -> Tensor:
    """Each feature's largest exponent; the quotient does not depend on it, and neither do gradients."""
    return k.detach().amax(dim).clamp(min=_LOWEST)


def _relative(exponents: Tensor) -> tuple[Tensor, Tensor]:
    """Exponentials over each query's largest, in place of the exponents, and its exponent."""
    largest = exponents.detach().amax(-1, keepdim=True).clamp_(min=_LOWEST)
    return exponents.sub_(largest).exp_(), largest


def _quotient(y: Tensor) -> Tensor:
    """The last column is the sum of the weights, zero where nothing was seen."""
    weights = y[..., -1:]
    return y[..., :-1] / (weights + (weights == 0))


def _mild(rise: Tensor) -> bool:
    """Whether a peak that rises as much for later keys may be used for the first one, too."""
    return rise.is_meta or (values_are_known(rise) and bool((rise <= _MILDEST_RISE).all()))

"""How tokens spread over experts."""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor


def load_shares(
    chosen: Int[Tensor, "tokens active"], experts: int, real: Bool[Tensor, "tokens"] | None = None
) -> Float[Tensor, "experts"]:
    """The share of all choices of (real) tokens that fell on each expert; the shares add up to 1."""
    counted = chosen.new_ones(len(chosen)) if real is None else real.to(chosen.dtype)
    counts = chosen.new_zeros(experts).index_add(0, chosen.flatten(), counted.repeat_interleave(chosen.shape[1]))
    return counts / counts.sum().clamp(min=1)


def balance_loss(
    probabilities: Float[Tensor, "tokens experts"],
    chosen: Int[Tensor, "tokens active"],
    real: Bool[Tensor, "tokens"] | None = None,
) -> Float[Tensor, ""]:
    """``E sum_e f_e P_e``: the load-balancing loss of ``E`` experts, 1 where all are chosen alike.

    ``f_e`` is the share of all choices that fell on expert ``e``, and ``P_e`` the mean of its probability. Gradients go
    through ``P`` alone, and lower the probability of experts that are chosen too often. It is at most ``E / active``.

    Args:
        probabilities: of each token's experts, rows that add up to 1.
        chosen: the experts that each token sees.
        real: false for padding, which counts in neither share.

    Source: Switch Transformers, arXiv 2101.03961, equations 4 to 6 (there with one expert per token).
    """
    experts = probabilities.shape[-1]
    shares = load_shares(chosen, experts, real).to(probabilities.dtype)
    if real is None:
        return experts * (shares * probabilities.mean(0)).sum()
    weights = real.to(probabilities.dtype)[:, None]
    return experts * (shares * (weights * probabilities).sum(0)).sum() / weights.sum().clamp(min=1)

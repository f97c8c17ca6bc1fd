"""Kernels that make patches of an input uncorrelated and of equal size."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def patches(
    x: Float[Tensor, "batch channels *size"], kernel: int, stride: int = 1
) -> Float[Tensor, "patches channels_and_places"]:
    """All patches of ``kernel`` places along each axis as rows: the channels, and of each of them its places."""
    axes = x.ndim - 2
    for axis in range(2, x.ndim):
        x = x.unfold(axis, kernel, stride)
    return x.movedim(1, axes + 1).flatten(0, axes).flatten(1)


def whitening(
    rows: Float[Tensor, "rows values"], *, eps: float, most: int | None = None
) -> Float[Tensor, "directions values"]:
    """``w_k = v_k / sqrt(lambda_k + eps)`` of the eigenvectors ``v_k`` of ``E[x xᵀ]``, the largest eigenvalue first.

    What they make of the rows has the second moments ``lambda / (lambda + eps)``, and none between directions. The sign
    of an eigenvector is that in which its largest value is positive.

    Args:
        rows: what is whitened.
        eps: added to the eigenvalues, so that directions which hardly vary are not blown up.
        most: how many directions at most.
    """
    rows = rows.double()
    values, vectors = torch.linalg.eigh(rows.T @ rows / max(len(rows), 1))
    directions = vectors.T.flip(0)[:most]
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    return directions * largest.sign() / torch.sqrt(values.flip(0)[:most].clamp(min=0) + eps)[:, None]

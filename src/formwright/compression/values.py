"""Fewer different weights: many of them zero, or all of them one of a few values. Shapes stay.

Such a model is no faster in float32; its file is smaller once it is compressed (:mod:`formwright.compression.files`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

from formwright.batch import Batch
from formwright.errors import UserError
from formwright.objectives import Objective, Outcome, Phase

M = TypeVar("M", bound=nn.Module)

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
#: Steps of the k-means search; in one dimension it settles sooner.
_ITERATIONS = 100


def kernels(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The weights of dense and convolutional layers, by name; biases, norms and tables are left as they are."""
    for path, module in model.named_modules():
        if isinstance(module, _LAYERS) and isinstance(module.weight, nn.Parameter):
            yield f"{path}.weight", module.weight


def check_sparsity(sparsity: float) -> None:
    """Refuse a share of zeros that leaves nothing.

    Raises:
        UserError: it is not from 0 to below 1.
    """
    if not 0 <= sparsity < 1:
        raise UserError(f"The share of zeros lies from 0 to below 1, got {sparsity}.")


def check_clusters(clusters: int) -> None:
    """Refuse so few values that weights would be all alike.

    Raises:
        UserError: there are fewer than two.
    """
    if clusters < 2:
        raise UserError(f"Weights are put into at least 2 clusters, got {clusters}.")


@torch.no_grad()
def sparsify(model: M, sparsity: float) -> M:
    """A copy of ``model`` in whose every kernel of ``n`` weights the ``round(sparsity * n)`` smallest are zero.

    Args:
        model: any model.
        sparsity: share of zeros, from 0 to below 1.

    Raises:
        UserError: ``sparsity`` is out of range.

    Source: magnitude pruning as in To Prune, or Not to Prune, arXiv 1710.01878.
    """
    check_sparsity(sparsity)
    sparse = copy.deepcopy(model)
    for _, weight in kernels(sparse):
        flat = weight.reshape(-1)
        smallest = flat.abs().argsort(stable=True)[: round(sparsity * flat.numel())]
        flat = flat.clone()
        flat[smallest] = 0.0
        weight.copy_(flat.view_as(weight))
    return sparse


@torch.no_grad()
def cluster(model: M, clusters: int = 16) -> M:
    """A copy of ``model`` in whose every kernel each weight is one of at most ``clusters`` values.

    The values are the centres of k-means, kernel by kernel, started evenly spaced between its smallest and largest
    weight. Where a kernel has zeros (:func:`sparsify`), zero is one of the values, and zeros stay.

    Args:
        model: any model.
        clusters: how many values, at least 2.

    Raises:
        UserError: fewer than two clusters.

    Source: Deep Compression, arXiv 1510.00149.
    """
    check_clusters(clusters)
    clustered = copy.deepcopy(model)
    for _, weight in kernels(clustered):
        flat = weight.reshape(-1)
        zeros = flat == 0
        rest = flat[~zeros]
        if rest.numel():
            values = flat.clone()
            values[~zeros] = _nearest_centres(rest, clusters - 1 if zeros.any() else clusters)
            weight.copy_(values.view_as(weight))
    return clustered


def _nearest_centres(values: Tensor, clusters: int) -> Tensor:
    """Each of ``values`` replaced by its nearest centre of k-means."""
    exact = values.double()
    centres = torch.linspace(float(exact.min()), float(exact.max()), clusters, dtype=torch.float64)
    assignment = torch.zeros(len(values), dtype=torch.int64)
    for _ in range(_ITERATIONS):
        before = assignment
        assignment = torch.bucketize(exact, (centres[1:] + centres[:-1]) / 2)
        if torch.equal(assignment, before):
            break
        counts = torch.bincount(assignment, minlength=clusters)
        sums = torch.zeros(clusters, dtype=torch.float64).index_add_(0, assignment, exact)
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres).sort().values
        assignment = torch.bucketize(exact, (centres[1:] + centres[:-1]) / 2)
    return centres[assignment].to(values.dtype)


def unique_values(model: nn.Module) -> dict[str, int]:
    """How many different values each kernel has."""
    return {name: int(torch.unique(weight.detach()).numel()) for name, weight in kernels(model)}


def zeros(model: nn.Module) -> dict[str, float]:
    """The share of zeros of each kernel."""
    return {name: float((weight.detach() == 0).double().mean()) for name, weight in kernels(model)}


class KeptValues(Objective):
    """Another objective, for a model of :func:`sparsify` or :func:`cluster` that is trained on and stays one.

    After each step, zeros are made zero again, and weights that had the same value get their mean, so that a kernel has
    no more values than before and the values themselves learn. A kernel in which most values are different
    is trained freely, apart from its zeros.

    Args:
        base: what is optimised.
        model: the model that is going to be trained.
        most: kernels with more values than this have their zeros kept alone.
    """

    def __init__(self, base: Objective, model: nn.Module, *, most: int = 256) -> None:
        super().__init__()
        self.base = base
        self._kernels: list[tuple[nn.Parameter, Tensor, Tensor | None, int]] = []
        for _, weight in kernels(model):
            values, groups = torch.unique(weight.detach().reshape(-1), return_inverse=True)
            shared = groups if len(values) <= most else None
            self._kernels.append((weight, weight.detach() == 0, shared, len(values)))

    def forward(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
        return self.base(model, batch, progress)

    def phases(self, model: nn.Module) -> tuple[Phase, ...]:
        return self.base.phases(model)

    @torch.no_grad()
    def after_step(self) -> None:
        self.base.after_step()
        for weight, zero, groups, count in self._kernels:
            if groups is not None:
                members = groups.to(weight.device)
                sums = weight.new_zeros(count).index_add_(0, members, weight.reshape(-1))
                weight.copy_((sums / torch.bincount(members, minlength=count))[members].view_as(weight))
            weight.masked_fill_(zero.to(weight.device), 0.0)

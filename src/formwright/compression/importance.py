"""How much a model would miss each entry of its axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from formwright.batch import moved
from formwright.errors import UserError
from formwright.measurement.macs import evaluation_mode
from formwright.nn.edits.groups import Group, parameters_of
from formwright.nn.parts import Axis
from formwright.objectives import Batch, Objective


def per_entry(values: Tensor, dimension: int, axis: Axis) -> Tensor:
    """The sum of ``values`` over all that belongs to an entry of ``axis``, which lies along ``dimension``."""
    rows = values.movedim(dimension, 0)[axis.before :]
    rows = rows.reshape(axis.repeats, -1, axis.block, values.numel() // values.shape[dimension])
    return rows.sum(dim=(0, 2, 3))


def magnitude_importance(model: nn.Module, groups: Sequence[Group]) -> list[Tensor]:
    """``sum of w²`` over each entry's weights, over its mean in the group: for want of data.

    Scales of layers say nothing about each other, so only entries of the same group are compared.
    """
    parameters = dict(model.named_parameters())
    scores = []
    for group in groups:
        score = torch.zeros(group.size)
        for name, dimension, axis in parameters_of(model, group):
            score += per_entry(parameters[name].detach().float().square().cpu(), dimension, axis)
        scores.append(score / score.mean().clamp(min=torch.finfo(torch.float32).tiny))
    return scores


def taylor_importance(
    model: nn.Module, groups: Sequence[Group], calibration: Iterable[Batch], objective: Objective
) -> list[Tensor]:
    """``sum of |dL/dw · w|`` over each entry's weights and over the batches: by how much the loss would change.

    It is the first-order estimate of the change in the loss without the entry, each weight by itself, with the model
    in eval mode. The model is left as it was.

    Raises:
        UserError: there are no batches, or the loss is not finite on one.

    Source: Importance Estimation for Neural Network Pruning, arXiv 1906.10771 (with absolute values for squares).
    """
    names = sorted({name for group in groups for name, _, _ in parameters_of(model, group)})
    weights = [model.get_parameter(name) for name in names]
    frozen = [weight for weight in weights if not weight.requires_grad]
    totals = [torch.zeros_like(weight, dtype=torch.float32) for weight in weights]
    device = weights[0].device
    count = 0
    try:
        for weight in frozen:
            weight.requires_grad_(True)
        with evaluation_mode(model), torch.enable_grad():
            for batch in calibration:
                here = Batch(moved(batch.inputs, device), moved(batch.targets, device))
                loss = objective(model, here, 1.0).loss
                if not torch.isfinite(loss):
                    raise UserError(
                        f"The loss is {loss.item()} on calibration batch {count}, so nothing can be said about what "
                        "matters; look for broken samples in it."
                    )
                gradients = torch.autograd.grad(loss, weights, allow_unused=True)
                for total, weight, gradient in zip(totals, weights, gradients, strict=True):
                    if gradient is not None:
                        total += (gradient.detach() * weight.detach()).abs().float()
                count += 1
    finally:
        for weight in frozen:
            weight.requires_grad_(False)
    if count == 0:
        raise UserError("There are no calibration batches; give some, or None to prune by the size of the weights.")
    by_name = dict(zip(names, totals, strict=True))
    scores = []
    for group in groups:
        score = torch.zeros(group.size)
        for name, dimension, axis in parameters_of(model, group):
            score += per_entry(by_name[name].cpu(), dimension, axis)
        scores.append(score / count)
    return scores

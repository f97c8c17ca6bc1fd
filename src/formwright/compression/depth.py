"""Depth pruning: whole residual branches become the identity."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable

import torch

from formwright.batch import Batch
from formwright.errors import UserError
from formwright.measurement.macs import evaluation_mode
from formwright.models import Network
from formwright.nn.edits import drop_branch
from formwright.nn.frame import Branch, DroppedBranch
from formwright.objectives import Objective


def drop_branches(
    model: Network, count: int, calibration: Iterable[Batch], objective: Objective
) -> tuple[Network, list[str]]:
    """A copy of ``model`` without ``count`` residual branches: each time the one whose loss is missed least.

    The branches are tried one by one on all batches, the best is dropped, and the rest are tried anew: ``count`` times
    the branches passes through the data.

    Args:
        model: left as it is.
        count: how many branches are dropped; fewer than there are.
        calibration: batches like those of the training.
        objective: what a good answer is.

    Returns:
        The smaller model, which saves and reloads as it is, and the names of the dropped branches in order.

    Raises:
        UserError: there are not more branches than that, or no batches, or no loss is finite.

    Source: the greedy search of FinerCut, arXiv 2405.18218.
    """
    smaller = copy.deepcopy(model)
    names = [name for name, module in smaller.named_modules() if isinstance(module, Branch)]
    batches = list(calibration)
    if not 1 <= count < len(names):
        raise UserError(f"The model has {len(names)} residual branches; from 1 to {len(names) - 1} can be dropped.")
    if not batches:
        raise UserError("There are no calibration batches; give some.")
    dropped: list[str] = []
    edits = []
    for _ in range(count):
        losses = {name: _loss_without(smaller, name, batches, objective) for name in names if name not in dropped}
        best = min(losses, key=losses.__getitem__)
        if not math.isfinite(losses[best]):
            raise UserError("The loss is not finite without any of the branches; look for broken samples.")
        edits.append(drop_branch(smaller, best))
        dropped.append(best)
    smaller.record_edits(edits)
    return smaller, dropped


def _loss_without(model: Network, name: str, batches: list[Batch], objective: Objective) -> float:
    parent, _, leaf = name.rpartition(".")
    owner = model.get_submodule(parent)
    branch = getattr(owner, leaf)
    setattr(owner, leaf, DroppedBranch())
    try:
        with evaluation_mode(model), torch.no_grad():
            return sum(float(objective(model, batch, 1.0).loss) for batch in batches) / len(batches)
    finally:
        setattr(owner, leaf, branch)

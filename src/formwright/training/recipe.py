"""How a model is trained, as plain data, and the optimiser that this means."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from formwright.errors import UserError
from formwright.training.muon import Muon

Precision = Literal["32-true", "bf16-mixed"]


class Group(NamedTuple):
    """Parameters that learn at a rate of their own.

    Attributes:
        pattern: of their names, ``*`` for any characters: ``backbone.*``, ``*.bias``. Names are those of
            ``model.named_parameters()``; an objective's own begin with ``objective.``.
        rate: factor on the recipe's learning rates.
        weight_decay: instead of the recipe's, for those among them that are decayed.
    """

    pattern: str
    rate: float = 1.0
    weight_decay: float | None = None


@dataclass(frozen=True)
class Recipe:
    """Optimiser, schedule and averaging of a run.

    Attributes:
        optimizer: ``muon`` for matrices and kernels with AdamW for the rest, ``adamw`` for all, or ``sgd`` with
            Nesterov momentum of 0.9.
        learning_rate: the peak.
        momentum: of ``muon``.
        normed_kernels: whether ``muon`` keeps the kernels of convolutions at one norm.
        vector_learning_rate: the peak of what ``muon`` leaves to AdamW.
        weight_decay: of matrices and kernels; vectors (norms, biases, scales) and what a part names in ``no_decay``
            (tables, learned tokens) have none.
        batch_size: samples per step.
        warmup: steps over which the rate rises from nothing to its peak.
        ema_decay: of the running average of the weights, which is what is evaluated and kept; it starts faster. With 0
            the average is the weights themselves.
        clip: largest norm of the gradient, or none.
        label_smoothing: share of the target that is spread over all classes.
        precision: ``bf16-mixed`` computes in bfloat16 and keeps weights in float32.
        betas: decays of AdamW's two running means.
        groups: parameters with rates of their own; of several patterns that match a name, the first decides. A
            backbone at a tenth is ``(Group("backbone.*", 0.1),)``, and layer-wise decay one pattern per block.

    Raises:
        UserError: a group's rate or weight decay is negative.
    """

    optimizer: Literal["muon", "adamw", "sgd"] = "muon"
    learning_rate: float = 0.03
    vector_learning_rate: float = 3e-3
    weight_decay: float = 0.02
    batch_size: int = 128
    warmup: int = 100
    ema_decay: float = 0.998
    clip: float | None = 1.0
    label_smoothing: float = 0.1
    precision: Precision = "32-true"
    betas: tuple[float, float] = (0.9, 0.99)
    groups: tuple[Group, ...] = ()
    momentum: float = 0.9
    normed_kernels: bool = False

    def __post_init__(self) -> None:  # lists, as JSON has them, become tuples
        object.__setattr__(self, "betas", tuple(self.betas))
        object.__setattr__(self, "groups", tuple(Group(*group) for group in self.groups))
        for pattern, rate, weight_decay in self.groups:
            if rate < 0 or (weight_decay or 0) < 0:
                raise UserError(
                    f"The group {pattern!r} has a rate of {rate} and a weight decay of {weight_decay}; neither may be "
                    "negative."
                )


def plain_adam(learning_rate: float, *, batch_size: int) -> Recipe:
    """Adam as many authors' scripts have it: PyTorch's betas, one rate, no decay, clipping or averaging of weights."""
    return Recipe(
        optimizer="adamw",
        learning_rate=learning_rate,
        weight_decay=0.0,
        batch_size=batch_size,
        warmup=0,
        ema_decay=0.0,
        clip=None,
        betas=(0.9, 0.999),
    )


@dataclass(frozen=True)
class Schedule:
    """The learning rate over steps: a linear warm-up, a plateau, and a cosine to nothing.

    A run whose length is not known yet has no decay (``decay_start`` is none); it decays from when the length is.
    ``rate(step) = peak * min(1, (step + 1) / warmup) * (1 + cos(pi * t)) / 2`` with
    ``t = (step - decay_start) / (total - decay_start)`` after ``decay_start``, 0 before. With ``halve_every`` the rate
    also halves after so many steps, again and again, for the first time after twice as many (the schedule of Informer
    and its successors, where it is an epoch).
    """

    warmup: int
    total: int | None = None
    decay_start: float | None = None
    halve_every: int | None = None

    def factor(self, step: int) -> float:
        warm = min(1.0, (step + 1) / max(self.warmup, 1))
        halved = 1.0 if self.halve_every is None else 0.5 ** max(step // self.halve_every - 1, 0)
        return warm * halved * 0.5 * (1 + math.cos(math.pi * self.decayed(step)))

    def decayed(self, step: int) -> float:
        """How far the decay is, 0 to 1."""
        if self.decay_start is None or self.total is None or step < self.decay_start:
            return 0.0
        return min((step - self.decay_start) / max(self.total - self.decay_start, 1), 1.0)

    def stretched(self, step: int, total: int) -> Schedule:
        """The schedule that ends at ``total`` instead and has the same rate at ``step``: a clock ran fast or slow."""
        done = self.decayed(step)
        if self.decay_start is None or done >= 1 or total <= step:
            return self
        start = (step - done * total) / (1 - done) if done else self.decay_start
        return replace(self, total=total, decay_start=start)


#: Matrices with a side shorter than this are left to AdamW: there is little to make orthogonal.
_SMALLEST_SIDE = 8


def build_optimizers(recipe: Recipe, modules: Mapping[str, nn.Module]) -> list[torch.optim.Optimizer]:
    """The optimisers of a recipe over everything in ``modules`` that can be trained; each group knows its peak rate.

    Args:
        modules: what is trained, by what its parameters' names begin with: ``""`` for a model.

    Raises:
        UserError: a group of the recipe matches no parameter.
    """
    groups = (Group("*"), *recipe.groups)  # what no pattern matches comes first
    kinds: dict[str, list[list[nn.Parameter]]] = {kind: [[] for _ in groups] for kind in ("matrix", "decayed", "free")}
    matched = set()
    for name, parameter, may_decay in _parameters(modules):
        number = next((n for n, group in enumerate(groups[1:], 1) if fnmatchcase(name, group.pattern)), 0)
        matched.add(number)
        if not parameter.requires_grad:
            continue
        if not may_decay:
            kind = "free"
        elif recipe.optimizer == "muon" and min(parameter.flatten(1).shape) >= _SMALLEST_SIDE:
            kind = "matrix"
        else:
            kind = "decayed"
        kinds[kind][number].append(parameter)
    _check_matched(groups, matched, modules)

    def rated(kind: str, rate: float, decay: float) -> list[dict[str, Any]]:
        found = []
        for group, parameters in zip(groups, kinds[kind], strict=True):
            if parameters:
                own = decay if group.weight_decay is None or kind == "free" else group.weight_decay
                found.append({"params": parameters, "lr": rate * group.rate, "weight_decay": own})
        return found

    optimizers: list[torch.optim.Optimizer] = []
    muon = recipe.optimizer == "muon"
    if matrices := rated("matrix", recipe.learning_rate, recipe.weight_decay):
        normed = recipe.normed_kernels
        optimizers.append(Muon(matrices, lr=recipe.learning_rate, momentum=recipe.momentum, normed_kernels=normed))
    rate = recipe.vector_learning_rate if muon else recipe.learning_rate
    rest = rated("decayed", rate, 0.0 if muon else recipe.weight_decay) + rated("free", rate, 0.0)
    if rest and recipe.optimizer == "sgd":
        optimizers.append(torch.optim.SGD(rest, lr=rate, momentum=0.9, nesterov=True))
    elif rest:
        optimizers.append(torch.optim.AdamW(rest, lr=rate, betas=recipe.betas, fused=True))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


def _parameters(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Parameter, bool]]:
    """Each parameter with its name, and whether it is a matrix or kernel that may be decayed."""
    kept = {
        id(parameter)
        for root in modules.values()
        for module in root.modules()
        for own in getattr(module, "no_decay", ())
        for name, parameter in module.named_parameters()
        if name == own or name.startswith(f"{own}.")
    }
    for prefix, root in modules.items():
        for name, parameter in root.named_parameters():
            yield prefix + name, parameter, parameter.ndim >= 2 and id(parameter) not in kept


def _check_matched(groups: tuple[Group, ...], matched: set[int], modules: Mapping[str, nn.Module]) -> None:
    for number, group in enumerate(groups):
        if number and number not in matched:
            some = ", ".join(name for name, _, _ in itertools.islice(_parameters(modules), 3))
            raise UserError(
                f"The group {group.pattern!r} of the recipe decides for no parameter: either no name matches, or "
                f"earlier patterns match them all; names are {some}, ..."
            )

"""Structured pruning: heads and hidden channels cut out of a model, physically."""

from __future__ import annotations

import bisect
import copy
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor

from formwright.compression.costs import Skeleton
from formwright.compression.importance import magnitude_importance, taylor_importance
from formwright.errors import UserError
from formwright.measurement.budget import format_count
from formwright.models import Network
from formwright.models.choices import Choice
from formwright.nn.edits import keep_entries
from formwright.nn.edits.groups import Group, groups_of, width_groups
from formwright.objectives import Batch, Classification, Objective


@dataclass(frozen=True)
class Cut:
    """The next step down of a group, by ``entries`` to ``size``; the lower its ``rank``, the sooner it is taken."""

    rank: float
    group: int
    entries: int
    size: int


def prune(
    model: Network,
    calibration: Iterable[Batch] | None,
    *,
    keep: float | None = None,
    macs: int | None = None,
    parameters: int | None = None,
    floor: float = 0.25,
    multiple: int = 8,
    width: bool = False,
    objective: Objective | None = None,
) -> Network:
    """A copy of ``model`` without the attention heads and hidden channels that matter least.

    All entries of all layers are ranked together, by importance over cost: what the loss would gain without them
    (:func:`~formwright.compression.importance.taylor_importance`) for each multiply-accumulate, or each parameter,
    that cutting them saves. The copy is physically smaller, saves and reloads as it is, and can be trained and pruned
    again; it needs some training to recover. The width between blocks stays, unless ``width`` is set.

    >>> smaller = prune(model, batches, keep=0.6)                       # doctest: +SKIP
    >>> smaller.save_pretrained("smaller")                              # doctest: +SKIP

    Args:
        model: any model of the frame, pruned before or not.
        calibration: some batches like those of the training; ``None`` goes by the size of the weights alone.
        keep: share of the multiply-accumulates that is left at most; 0.75 if no target is given.
        macs: multiply-accumulates of one input that are left at most.
        parameters: parameters that are left at most.
        floor: share of its entries that every layer keeps.
        multiple: hidden channels are left in multiples of this, which matrix products run best on.
        width: cut the channels of the tokens too, in all parts of the stages that share them.
        objective: what the importance is measured with; cross entropy if unset.

    Raises:
        UserError: more than one target is given, a number is out of range, the target cannot be reached (the message
            says what can), or the calibration is of no use.
    """
    check_targets(keep, macs, parameters, floor=floor, multiple=multiple)
    skeleton = Skeleton(model, macs=parameters is None)
    before = skeleton.cost()
    target = _target(keep, macs, parameters, before)
    pruned = copy.deepcopy(model)
    if before <= target:
        return pruned
    groups = [*groups_of(pruned), *(width_groups(pruned) if width else ())]
    if not groups:
        raise UserError(
            "Nothing to prune: this model has neither attention heads nor hidden channels that could be cut."
        )
    savings = skeleton.entry_costs(groups)
    if calibration is None:
        importance, prices = magnitude_importance(pruned, groups), [1.0] * len(groups)
    else:
        importance, prices = taylor_importance(pruned, groups, calibration, objective or Classification()), savings
    cuts = [
        Cut(rank / prices[index] if prices[index] else math.inf, index, entries, size)
        for index, group in enumerate(groups)
        for rank, entries, size in _steps(group, importance[index], floor, 1 if group.single else multiple)
    ]
    cuts.sort(key=lambda cut: (cut.rank, cut.group, -cut.size))
    edits = []
    for index, size in _fewest_cuts(skeleton, groups, cuts, savings, before, target).items():
        group = groups[index]
        entries = importance[index].argsort(descending=True, stable=True)[:size].tolist()
        edits.append(keep_entries(pruned, group.target, group.axis, entries))
    pruned.record_edits(edits)
    return pruned


def _target(keep: float | None, macs: int | None, parameters: int | None, before: int) -> float:
    """What may be left of ``before``."""
    if macs is not None or parameters is not None:
        return float(macs if parameters is None else parameters)  # type: ignore[arg-type]
    return (0.75 if keep is None else keep) * before


def check_targets(keep: float | None, macs: int | None, parameters: int | None, *, floor: float, multiple: int) -> None:
    """Refuse options of :func:`prune` that no model could be cut down by.

    Raises:
        UserError: more than one target is given, or a number is out of range.
    """
    if not 0 <= floor <= 1 or multiple < 1:
        raise UserError(f"The floor lies between 0 and 1 and the multiple is positive, got {floor} and {multiple}.")
    given = {"keep": keep, "macs": macs, "parameters": parameters}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise UserError(f"Pruning has one target; got {' and '.join(named)}.")
    if keep is not None and not 0 < keep <= 1:
        raise UserError(f"The share to keep lies between 0 and 1, got {keep}.")


def _steps(group: Group, importance: Tensor, floor: float, unit: int) -> Iterator[tuple[float, int, int]]:
    """How a group can shrink, least important entries first, down to its floor.

    Yields:
        The mean importance of the entries that go, how many they are, and how many are left.
    """
    ascending = importance.sort().values.tolist()
    least = max(unit, math.ceil(floor * group.size))
    size = group.size
    while (smaller := (size - 1) // unit * unit) >= least:
        lost = ascending[group.size - size : group.size - smaller]
        yield sum(lost) / len(lost), len(lost), smaller
        size = smaller


def _fewest_cuts(
    skeleton: Skeleton, groups: list[Group], cuts: list[Cut], savings: list[float], before: int, target: float
) -> dict[int, int]:
    """The size of each group that is cut, after as few of the cuts as reach the target.

    Savings of a part with two axes depend on each other, so their sum is a first guess, and the search goes on from
    there in growing steps.
    """

    def cost_after(count: int) -> int:
        sizes = {(groups[index].target, groups[index].axis): size for index, size in sizes_after(count).items()}
        return skeleton.cost(Choice(sizes))

    def sizes_after(count: int) -> dict[int, int]:
        return {cut.group: cut.size for cut in cuts[:count]}

    saved = list(itertools.accumulate(cut.entries * savings[cut.group] for cut in cuts))
    too_few, enough = 0, len(cuts) + 1  # what is beyond the last cut is not known to be enough
    guess, stride = bisect.bisect_left(saved, before - target) + 1, 1
    while enough - too_few > 1:
        guess = guess if too_few < guess < enough else (too_few + enough) // 2
        if cost_after(guess) <= target:
            enough, guess = guess, guess - stride
        else:
            too_few, guess = guess, guess + stride
        stride *= 2
    if enough > len(cuts):
        what = "multiply-accumulates" if skeleton.macs else "parameters"
        raise UserError(
            f"Pruning can bring this model to {format_count(cost_after(len(cuts)))} {what} at best, and "
            f"{format_count(target)} were asked for; raise the target, lower the floor, or start from a smaller model."
        )
    return sizes_after(enough)

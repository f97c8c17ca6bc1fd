"""Token merging in every block of a network that compares tokens by keys."""

from __future__ import annotations

import copy

from formwright.errors import UserError
from formwright.models import Network
from formwright.nn.edits import merge_tokens
from formwright.nn.frame import Branch
from formwright.nn.specification import part


def merging_schedule(blocks: int, remove: int, inflection: float = 0.0) -> list[int]:
    """How many tokens disappear in each block: ``remove`` on average, in a straight line from the first to the last.

    Args:
        blocks: how many blocks there are.
        remove: the mean over the blocks.
        inflection: -1 removes twice as many in the first block and none in the last, 1 the other way round, 0 the same
            number in each.

    Raises:
        UserError: ``remove`` is below one, or ``inflection`` is not in [-1, 1].
    """
    if remove < 1:
        raise UserError(f"Token merging removes at least one token per block, not {remove}.")
    if not -1 <= inflection <= 1:
        raise UserError(f"The inflection of a schedule lies between -1 and 1, and got {inflection:g}.")
    first = int(remove * (1 - inflection))
    slope = (2 * remove - 2 * first) / max(blocks - 1, 1)
    return [int(first + slope * block) for block in range(blocks)]


def merge_in_blocks(model: Network, remove: int, inflection: float = 0.0) -> tuple[Network, list[int]]:
    """A copy of ``model`` in which tokens that are alike merge behind every attention.

    Args:
        model: left as it is.
        remove: how many tokens disappear per block, on average.
        inflection: see :func:`merging_schedule`.

    Returns:
        The faster model, which saves and reloads as it is and has the same weights, and how many tokens disappear in
        each block.

    Raises:
        UserError: no branch of the model is an attention that gives its keys, or another part of it needs the grid
            that merged tokens no longer have.

    Source: Token Merging: Your ViT But Faster, arXiv 2210.09461.
    """
    merged = copy.deepcopy(model)
    branches = [
        name
        for name, module in merged.named_modules()
        if isinstance(module, Branch) and module.part.shares_keys and "token_size" in module.part.uses
    ]
    if not branches:
        raise UserError(
            f"{model.specification.name} has no attention over all tokens whose keys say which tokens are alike, so "
            "none can be merged; leave the step out."
        )
    schedule = merging_schedule(len(branches), remove, inflection)
    edits = [
        merge_tokens(merged, name, part("token_merging", remove=count))
        for name, count in zip(branches, schedule, strict=True)
        if count
    ]
    merged.record_edits(edits)
    return merged, schedule

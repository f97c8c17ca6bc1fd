"""Token merging: a part that stands behind a branch and leaves fewer tokens."""

from __future__ import annotations

from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.functional.token_merging import bipartite_soft_matching, merge_tokens
from formwright.nn.parts import PARTS, Part, Promises


@PARTS.register("token_merging")
class TokenMerging(Part):
    """``remove`` tokens disappear, each merged into the token that it is most like: ToMe.

    It stands behind the attention of a block (``BranchSpec(..., after=part("token_merging", remove=8))``). Tokens at
    even places are matched with those at odd places by the cosine of their keys, averaged over heads; the pairs that
    are most alike become one token each, the mean of the original tokens that it stands for. Placeless tokens in front
    (class token, registers) never merge. The context says from then on how many original tokens each stands for
    (``token_size``), which attention honours by adding ``log(token_size)`` of a key to its scores, and pools by their
    weights. Merged tokens have no place on the grid any more, so positions must have been added before.

    Args:
        dim: channels of the tokens.
        remove: how many tokens disappear in each sample, at most half of those that may merge.
        by: compare tokens by their ``keys``, as the authors do, or by the ``tokens`` themselves, behind any part.

    Shapes: ``(batch, *grid, dim)`` to ``(batch, prefix + places - remove, dim)``.

    Raises:
        UserError: ``remove`` is below one, or the branch in front has no keys to compare tokens by.

    Source: Token Merging: Your ViT But Faster, arXiv 2210.09461. The authors' rule of at most one class and one
    distillation token is extended to any number of leading tokens.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"prefix", "grid", "token_size", "keys"})
    promises: ClassVar[Promises] = Promises(exemptions={"tokens": "leaves fewer tokens than came"})

    def __init__(self, dim: int, *, remove: int, by: Literal["keys", "tokens"] = "keys") -> None:
        super().__init__()
        if remove < 1:
            raise UserError(f"Token merging removes at least one token, not {remove}; leave it out to keep them all.")
        if by not in ("keys", "tokens"):
            raise UserError(f"Tokens are compared by 'keys' or by 'tokens', not by {by!r}.")
        self.remove = remove
        self.needs_keys = by == "keys"

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch tokens channels"], Context]:
        tokens = x.flatten(1, -2)
        metric = context.keys if self.needs_keys else tokens
        if metric is None:
            raise UserError(
                "Token merging compares tokens by the keys of the attention in front of it, and there are none; put "
                "it behind a branch with attention, or let it compare the tokens themselves (by='tokens')."
            )
        matching = bipartite_soft_matching(metric, self.remove, context.prefix)
        size = context.token_size
        if matching is not None:
            size = tokens.new_ones(tokens.shape[:2]) if size is None else size
            tokens, size = merge_tokens(matching, tokens, size)
        grid = (tokens.shape[1] - context.prefix,)
        return tokens, context.replace(keys=None, token_size=size, grid=grid)

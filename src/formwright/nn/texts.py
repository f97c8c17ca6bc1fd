"""What models of texts have besides: types of tokens, and pools of one token."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.embeddings import TokenEmbedding
from formwright.nn.heads import check_tokens
from formwright.nn.parts import PARTS, Axis, Part, Promises, State

_POOL = Promises(dimensions=(1,), exemptions={"tokens": "gives one vector a sample"})


@PARTS.register("typed_token_embedding")
class TypedTokenEmbedding(TokenEmbedding):
    """``y_t = table[id_t] + types[type_t]``: BERT's tokens of a first and a second text.

    The type of each token is that of the context. Where none is given, it follows from the ids: it is the number of
    separators before the token, so that a separator belongs to the text that it ends, and at most the last type.

    Args:
        in_dim: size of the vocabulary.
        dim: channels.
        separator: id of the token that ends a text; all tokens are of the first type if unset and not told otherwise.
        types: number of types.
        std: standard deviation of the initial values.

    Shapes: ids, and ``context.types``, ``(batch, time)`` to ``(batch, time, dim)``.

    Raises:
        UserError: an id is not in the vocabulary, or the types are of other tokens or not below their number.

    Source: BERT, arXiv 1810.04805.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask", "segments", "types"})
    no_decay: ClassVar[tuple[str, ...]] = ("weight", "types")

    def __init__(
        self, in_dim: int, dim: int, *, separator: int | None = None, types: int = 2, std: float = 0.02
    ) -> None:
        super().__init__(in_dim, dim, std=std)
        self.separator = separator
        self.types = nn.Parameter(nn.init.normal_(torch.empty(types, dim), std=std))

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {**super().axes(), "types": (None, Axis("residual"))}

    def forward(
        self, ids: Int[Tensor, "batch time"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch time dim"], Context]:
        x, context = super().forward(ids, context)
        x = x + self._type(ids, ids.new_zeros(ids.shape[0]), context)
        return x, context if context.types is None else context.replace(types=None)

    def init_state(
        self, batch: int, capacity: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        return {"separators": torch.zeros(batch, dtype=torch.int64, device=device)}

    def stream(self, x: Tensor, state: State, context: Context = EMPTY) -> tuple[Tensor, State]:
        ids, before = x, state["separators"]
        y = super().forward(ids, context)[0] + self._type(ids, before, context)
        ended = torch.zeros_like(ids) if self.separator is None else (ids == self.separator).long()
        if context.mask is not None:
            ended = ended * context.mask
        return y, {"separators": before + ended.sum(1)}

    def _type(self, ids: Tensor, before: Tensor, context: Context) -> Tensor:
        """The vector of each token's type, given how many separators came before ``ids`` in each row."""
        if context.types is not None:
            return self._told(ids, context.types)
        if self.separator is None:
            return self.types[0].expand(*ids.shape, -1)
        ended = (ids == self.separator).long()
        seen = before[:, None] + ended.cumsum(1) - ended
        starts = context.starts
        if starts is not None:  # those of earlier sequences do not count; the number never falls
            seen = seen - torch.where(starts, seen, 0).cummax(1).values
        return self.types[seen.clamp(max=len(self.types) - 1)]

    def _told(self, ids: Tensor, types: Tensor) -> Tensor:
        if types.shape != ids.shape or types.is_floating_point():
            raise UserError(
                f"Ids of shape {tuple(ids.shape)} have types of the same shape, whole numbers; got {types.dtype} of "
                f"shape {tuple(types.shape)}."
            )
        try:
            return F.embedding(types, self.types)
        except IndexError:
            raise UserError(
                f"There are {len(self.types)} types of tokens, and numbers from {types.min()} to {types.max()} came; "
                f"give types from 0 to {len(self.types) - 1}."
            ) from None


@PARTS.register("root_pool")
class RootPool(Part):
    """The sum of all real tokens over the root of their number: ``(batch, time, dim)`` to ``(batch, dim)``.

    Between the mean, which a short text sways most, and the sum, which a long one does: as if the counts of words were
    scaled to length one.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask"})
    promises: ClassVar[Promises] = _POOL

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(
        self, x: Float[Tensor, "batch time channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch channels"]:
        check_tokens(x)
        if context.mask is None:
            return x.sum(1) / x.shape[1] ** 0.5
        real = context.mask[..., None].to(x.dtype)
        return (x * real).sum(1) / real.sum(1).clamp(min=1).sqrt()


@PARTS.register("first_token_pool")
class FirstTokenPool(Part):
    """The first token of a text, where BERT puts one for the whole: ``(batch, time, dim)`` to ``(batch, dim)``."""

    uses: ClassVar[frozenset[str]] = frozenset({"mask"})
    promises: ClassVar[Promises] = _POOL
    equivariant: ClassVar[bool] = True

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(
        self, x: Float[Tensor, "batch time channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch channels"]:
        check_tokens(x)
        return x[:, 0]


@PARTS.register("last_token_pool")
class LastTokenPool(Part):
    """The last real token of a text, which has seen it all in a causal model.

    Shapes: ``(batch, time, dim)`` to ``(batch, dim)``.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask"})
    promises: ClassVar[Promises] = _POOL
    equivariant: ClassVar[bool] = True

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(
        self, x: Float[Tensor, "batch time channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch channels"]:
        check_tokens(x)
        if context.mask is None:
            return x[:, -1]
        places = torch.arange(x.shape[1], device=x.device)
        last = torch.where(context.mask, places, 0).amax(1)
        return x[torch.arange(x.shape[0], device=x.device), last]

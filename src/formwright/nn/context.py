"""What a part may need beyond the tokens themselves."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Context:
    """Facts about the tokens ``x`` of shape ``(batch, *grid, channels)``.

    Tokens lie on their grid. A part that cannot keep the grid (a class token in front, merging, dropping, packing)
    returns them on one axis, ``(batch, prefix + places, channels)``, and says here where they are.

    Attributes:
        mask: true for real tokens, false for padding; same shape as ``x`` without channels.
        prefix: how many leading tokens of the one axis have no place (class token, registers, prompts).
        grid: the grid on which the other tokens of the one axis lie, row by row.
        positions: coordinates of each token, where they are not those of the grid.
        token_size: how many original tokens each token stands for, after merging.
        condition: what generation is conditioned on (timestep, class, text).
        memory: tokens to attend to in cross-attention.
        memory_mask: true for real tokens of ``memory``.
        statistics: mean and standard deviation that were taken out of each variate of a series, for a head that
            forecasts values to put back. They say nothing of the tokens, so parts on the way need not use them.
    """

    mask: Bool[Tensor, "batch *grid"] | None = None
    prefix: int = 0
    grid: tuple[int, ...] | None = None
    positions: Float[Tensor, "batch tokens axes"] | None = None
    token_size: Float[Tensor, "batch tokens"] | None = None
    condition: Float[Tensor, "batch channels"] | None = None
    memory: Float[Tensor, "batch memory channels"] | None = None
    memory_mask: Bool[Tensor, "batch memory"] | None = None
    statistics: Float[Tensor, "batch variates 2"] | None = None

    def replace(self, **changes: Any) -> Context:
        return dataclasses.replace(self, **changes)

    def fields_set(self) -> list[str]:
        """Names of the fields that say something."""
        return [name for name in FIELDS if not _unset(getattr(self, name))]

    @property
    def flat(self) -> bool:
        """Whether the tokens lie on one axis although they have a grid."""
        return self.grid is not None


def _unset(value: object) -> bool:
    return value is None or (isinstance(value, int) and value == 0)


#: Facts about what a model was given, not about its tokens: they concern the head alone.
FOR_THE_HEAD = frozenset({"statistics"})
#: Facts about tokens: a part that is given one of them and would ignore it gives a wrong answer.
FIELDS = tuple(field.name for field in dataclasses.fields(Context) if field.name not in FOR_THE_HEAD)

#: Nothing to say: all tokens are real and lie on their grid.
EMPTY = Context()


def split_prefix(x: Float[Tensor, "batch tokens channels"], context: Context) -> tuple[Tensor, Tensor]:
    """Separate the placeless tokens from those of the grid: ``(batch, prefix, c)`` and ``(batch, *grid, c)``."""
    assert context.grid is not None
    places = x[:, context.prefix :]
    return x[:, : context.prefix], places.reshape(x.shape[0], *context.grid, x.shape[-1])

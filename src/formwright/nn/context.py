"""What a part may need beyond the tokens themselves: facts that it must honour, and offers that it may take."""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass, field

from jaxtyping import Bool, Float, Int
from torch import Tensor

from formwright.errors import UserError
from formwright.nn.functional.packing import Sequences, starts_of


@dataclass(frozen=True)
class Context:
    """Facts about the tokens ``x`` of shape ``(batch, *grid, channels)``, and what is offered beside them.

    Tokens lie on their grid. A part that cannot keep the grid (a class token in front, merging, dropping, packing)
    returns them on one axis, ``(batch, prefix + places, channels)``, and says here where they are.

    *Facts* change what the tokens mean: a part that mixes tokens honours each fact that is set, or refuses it. *Offers*
    are there for whom they concern: at least one part of a network takes each, the others need not.

    Attributes:
        mask: fact; true for real tokens, false for padding; same shape as ``x`` without channels.
        prefix: fact; how many leading tokens of the one axis have no place (class token, registers, prompts).
        grid: fact; the grid on which the other tokens of the one axis lie, row by row.
        token_size: fact; how many original tokens each token stands for, after merging.
        segments: fact; which of several sequences in a row each token belongs to. Tokens of one sequence stand
            together, neighbouring sequences have different numbers, and no token sees another sequence.
        positions: offer; coordinates of each token, where they are not those of the grid.
        types: offer; which of several types each token is of, such as those of a first and of a second text.
        condition: offer; what generation is conditioned on (timestep, class, text): one vector per sample, or one per
            token.
        memory: offer; tokens to attend to in cross-attention.
        memory_mask: offer; true for real tokens of ``memory``.
        memory_grids: offer; the grids of the maps that ``memory`` is made of, one behind the other, row by row.
        distance_bias: offer; what attention adds to the score of a query and a key, by how far the key is behind the
            query and for each head: ``2 reach + 1`` distances from ``-reach`` on, the ends standing for all beyond.
        statistics: offer; mean and standard deviation that were taken out of each variate of a series, for a head that
            forecasts values to put back.
        keys: offer; what the attention in front compared tokens by, averaged over its heads.
        keys_wanted: whether whoever called wants the part's keys beside its result (:attr:`Part.shares_keys`).
        ended: whether no more tokens come in a stream, so that what waits for later ones is given now.
        checked: whether whoever called has made sure that somebody takes each offer; a network does, once.
    """

    mask: Bool[Tensor, "batch *grid"] | None = None
    prefix: int = 0
    grid: tuple[int, ...] | None = None
    token_size: Float[Tensor, "batch tokens"] | None = None
    segments: Int[Tensor, "batch tokens"] | None = None
    positions: Float[Tensor, "batch tokens axes"] | None = None
    types: Int[Tensor, "batch tokens"] | None = None
    condition: Float[Tensor, "batch *tokens channels"] | None = None
    memory: Float[Tensor, "batch memory channels"] | None = None
    memory_mask: Bool[Tensor, "batch memory"] | None = None
    memory_grids: tuple[tuple[int, ...], ...] | None = None
    distance_bias: Float[Tensor, "distances heads"] | None = None
    statistics: Float[Tensor, "batch variates 2"] | None = None
    keys: Float[Tensor, "batch tokens channels"] | None = None
    keys_wanted: bool = field(default=False, compare=False, repr=False)
    ended: bool = field(default=False, compare=False, repr=False)
    checked: bool = field(default=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.prefix and self.segments is not None:
            raise UserError(
                f"{self.prefix} tokens without a place stand in front of a row, and belong to none of the sequences "
                "that are packed in it: pack texts for models without class tokens."
            )

    def replace(self, **changes: object) -> Context:
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def says(self, name: str) -> bool:
        """Whether the field ``name`` says something."""
        value = getattr(self, name)
        return value is not None and (not isinstance(value, int) or value != 0)

    def fields_set(self) -> list[str]:
        """Names of the facts and offers that say something."""
        return [name for name in (*FACTS, *OFFERS) if self.says(name)]

    @property
    def starts(self) -> Bool[Tensor, "batch tokens"] | None:
        """Where a row goes on with another of its ``segments``."""
        return None if self.segments is None else starts_of(self.segments)

    @functools.cached_property
    def sequences(self) -> Sequences:
        """The ``segments`` as rows of their own, found once for all parts that ask for them."""
        assert self.segments is not None
        return Sequences(starts_of(self.segments))

    @property
    def flat(self) -> bool:
        """Whether the tokens lie on one axis although they have a grid."""
        return self.grid is not None


#: What a part that mixes tokens would give a wrong answer without.
FACTS = ("mask", "prefix", "grid", "token_size", "segments")
#: What is there for the parts that take it.
OFFERS = (
    "positions",
    "types",
    "condition",
    "memory",
    "memory_mask",
    "memory_grids",
    "distance_bias",
    "statistics",
    "keys",
)

#: Nothing to say: all tokens are real and lie on their grid.
EMPTY = Context()
#: The same, within a network that has made sure of what it offers.
SETTLED = Context(checked=True)


def check_segments(segments: Tensor, x: Tensor) -> None:
    """Refuse segments that are not those of the tokens ``x`` ``(batch, time, ...)``.

    Raises:
        UserError: names what was given and what was expected.
    """
    if segments.shape != x.shape[:2] or segments.is_floating_point():
        raise UserError(
            f"Segments are whole numbers of shape {tuple(x.shape[:2])}, one for each token; got {segments.dtype} of "
            f"shape {tuple(segments.shape)}."
        )


def split_prefix(x: Float[Tensor, "batch tokens channels"], context: Context) -> tuple[Tensor, Tensor]:
    """Separate the prefix tokens from those of the grid: ``(batch, prefix, c)`` and ``(batch, *grid, c)``."""
    assert context.grid is not None
    places = x[:, context.prefix :]
    return x[:, : context.prefix], places.reshape(x.shape[0], *context.grid, x.shape[-1])


def on_grid(x: Float[Tensor, "batch tokens channels"], context: Context) -> tuple[Tensor, Context]:
    """The tokens that have a place, on their grid, and what is said about them; those of the prefix are left out."""
    mask = context.mask
    if mask is not None and context.grid is not None:
        mask = mask[:, context.prefix :].reshape(x.shape[0], *context.grid)
    return split_prefix(x, context)[1], context.replace(mask=mask, prefix=0, grid=None)


def on_tokens(condition: Tensor, x: Float[Tensor, "batch *tokens channels"]) -> Tensor:
    """A condition in a shape that broadcasts to the tokens: ``(batch, 1, ..., c)``, or ``(batch, *tokens, c)``.

    Args:
        condition: a vector per sample ``(batch, c)``, or one per token, on one axis or on the tokens' grid.
        x: the tokens.

    Raises:
        UserError: it is one per token, of other tokens.
    """
    if condition.ndim == 2:
        return condition.view(-1, *[1] * (x.ndim - 2), condition.shape[-1])
    if math.prod(condition.shape[1:-1]) != math.prod(x.shape[1:-1]):
        raise UserError(
            f"A condition per token has an entry for each token: {tuple(x.shape[:-1])} tokens came, and conditions for "
            f"{tuple(condition.shape[:-1])}."
        )
    return condition.reshape(*x.shape[:-1], condition.shape[-1])

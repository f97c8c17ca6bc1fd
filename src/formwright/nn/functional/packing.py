"""Packed rows: several sequences that stand in a row of tokens, one behind the other.

A recurrence forgets where a sequence begins (:func:`starts_of`). Attention takes the sequences as rows of their own
(:class:`Sequences`), so that its cost grows with their lengths squared, not with that of the row they are packed in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.functional.transforms import values_are_known


def starts_of(segments: Int[Tensor, "batch time"]) -> Bool[Tensor, "batch time"]:
    """True at the first token of every sequence but the first of a row, before which there is nothing to forget."""
    return F.pad(segments[:, 1:] != segments[:, :-1], (1, 0))


def places_of(starts: Bool[Tensor, "batch time"]) -> Int[Tensor, "batch time"]:
    """The place of each token in its own sequence, from 0."""
    places = torch.arange(starts.shape[1], device=starts.device)
    return places - torch.where(starts, places, 0).cummax(1).values


class Sequences:
    """The sequences of packed rows as rows of their own.

    Those that are about as long, up to twice, are computed together; they are padded to the longest of them.

    Args:
        starts: true where a row goes on with another sequence.

    Raises:
        UserError: the values of ``starts`` are not known.
    """

    # What stands in a compiled model is run line by line: it depends on where sequences begin.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __init__(self, starts: Bool[Tensor, "batch time"]) -> None:
        if not values_are_known(starts):
            raise UserError(
                "Attention over packed rows looks at where sequences begin, which are not known while a model is "
                "exported, counted without memory or mapped by torch.vmap: give it each sequence as a row."
            )
        self.shape = starts.shape
        first = starts.clone()
        first[:, :1] = True
        begin = first.flatten().nonzero().squeeze(1)
        length = torch.diff(begin, append=begin.new_tensor([first.numel()]))
        power = torch.frexp(length.double() - 0.5).exponent  # 2^(power - 1) < length <= 2^power
        powers = sorted(set(power.tolist()))
        self.groups = [_Rows.of(begin[power == each], length[power == each]) for each in powers]
        filled = torch.cat([rows.real.flatten() for rows in self.groups] or [first.flatten()])
        where = torch.cat([rows.places.flatten() for rows in self.groups] or [begin])
        #: Where among the tokens of all groups, one behind the other, each of the packed tokens is.
        self.home = filled.nonzero().squeeze(1)[where[filled].argsort()]

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def apply(
        self,
        function: Callable[[tuple[Tensor, ...], Tensor | None], Tensor],
        tensors: tuple[Shaped[Tensor, "batch time *_"], ...],
        mask: Bool[Tensor, "batch time"] | None,
        *,
        causal: bool = False,
    ) -> Shaped[Tensor, "batch time *rest"]:
        """``function(tensors, mask)`` for each sequence by itself, back in the rows that they came from.

        Args:
            function: what computes rows ``(sequences, longest, ...)``, of which ``mask`` says what is real.
            tensors: the packed tokens.
            mask: false for padding within the rows.
            causal: whether no token sees later ones, so that what fills up a row needs no mask.
        """
        if not self.groups:
            return function(tensors, mask)
        outputs = []
        for rows in self.groups:
            real = rows.real if mask is None else rows.real & rows.take(mask)
            needless = mask is None and (causal or rows.full)
            outputs.append(function(tuple(map(rows.take, tensors)), None if needless else real).flatten(0, 1))
        y = torch.cat(outputs).index_select(0, self.home)
        return y.view(*self.shape, *y.shape[1:])


class _Rows(NamedTuple):
    """Where the tokens of some sequences are among all of a batch, and which of them only fill up a row."""

    places: Int[Tensor, "sequences longest"]
    real: Bool[Tensor, "sequences longest"]
    full: bool

    @classmethod
    def of(cls, begin: Int[Tensor, "sequences"], length: Int[Tensor, "sequences"]) -> _Rows:
        step = torch.arange(int(length.max()), device=begin.device)
        real = step < length[:, None]
        return cls(begin[:, None] + torch.where(real, step, 0), real, bool(real.all()))

    def take(self, x: Shaped[Tensor, "batch time *rest"]) -> Shaped[Tensor, "sequences longest *rest"]:
        return x.flatten(0, 1).index_select(0, self.places.flatten()).view(*self.places.shape, *x.shape[2:])

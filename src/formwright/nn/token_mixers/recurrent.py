"""What recurrences of every kind share: a state that does not grow, with which they go on from any token."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from formwright.nn.context import EMPTY, Context
from formwright.nn.parts import Part, Promises, State

#: Tokens that are taken at a time where nothing is learned. What is computed on the way is several times as wide; of a
#: long text it would leave the cache, and come from the system as fresh pages each time.
PIECE = 2048
#: The part of a state that holds inputs, in their own type; all others hold sums, in float32 at least.
WINDOW = "window"


class RecurrentMixer(Part):
    """A causal mixer whose state is as large after a long text as after a short one; a subclass says how it mixes.

    It forgets its state where a sequence of a packed row begins (``context.starts``).
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask", "segments"})
    promises: ClassVar[Promises] = Promises(dimensions=(1,), causal=True)
    #: Whether what it computes on the way is wider than its inputs by far, so that long texts are taken in pieces.
    widens: ClassVar[bool] = True

    @abstractmethod
    def state_sizes(self) -> Mapping[str, tuple[int, ...]]:
        """What is remembered of each row, by name: ``window`` are its latest inputs, everything else sums."""

    @abstractmethod
    def mix(
        self, x: Float[Tensor, "batch time channels"], state: State, context: Context
    ) -> tuple[Float[Tensor, "batch time channels"], State]:
        """The results for ``x`` behind the tokens that ``state`` remembers (none, if it is empty), and a new state."""

    def forward(
        self, x: Float[Tensor, "batch time channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch time channels"]:
        return self._in_pieces(x) if self._worth_pieces(x, context) else self.mix(x, {}, context)[0]

    def init_state(
        self, batch: int, capacity: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        if not self.promises.causal:
            return super().init_state(batch, capacity)  # refuses
        wide = torch.promote_types(dtype or torch.float32, torch.float32)
        return {
            name: torch.zeros(batch, *size, device=device, dtype=dtype if name == WINDOW else wide)
            for name, size in self.state_sizes().items()
        }

    def stream(
        self, x: Float[Tensor, "batch time channels"], state: State, context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch time channels"], State]:
        return self.mix(x, state, context)

    def _worth_pieces(self, x: Tensor, context: Context) -> bool:
        """Whether to take the text piece by piece: if it is long and whole, while no gradients are recorded.

        Who listens to the part's taps is to see the whole text at once.
        """
        if not self.widens or torch.is_grad_enabled() or torch.compiler.is_compiling():  # traced lengths stay open
            return False
        return x.shape[1] > PIECE and self.listeners is None and context.mask is None and context.segments is None

    def _in_pieces(self, x: Tensor) -> Tensor:
        state = self.init_state(x.shape[0], x.shape[1], device=x.device, dtype=x.dtype)
        y = torch.empty_like(x)
        for first in range(0, x.shape[1], PIECE):
            piece = slice(first, first + PIECE)
            y[:, piece], state = self.mix(x[:, piece], state, EMPTY)
        return y

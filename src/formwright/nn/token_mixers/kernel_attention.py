"""Attention by feature maps that stand in for softmax: Performer and cosFormer."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from formwright.nn.context import EMPTY, Context
from formwright.nn.functional.chunks import accumulation_type
from formwright.nn.functional.exponential_attention import causal_exponential_attention, exponential_attention
from formwright.nn.functional.linear_attention import causal_linear_attention, linear_attention
from formwright.nn.functional.random_features import cosine_features, orthogonal_gaussian, positive_softmax_exponents
from formwright.nn.parts import PARTS, Promises, State
from formwright.nn.token_mixers.linformer_attention import check_length, places_of
from formwright.nn.token_mixers.multi_head import Heads, Mask, MultiHeadMixer, check_positive

#: The features ``phi`` of queries or keys.
Features = Float[Tensor, "batch time heads features"]


class _KernelAttention(MultiHeadMixer):
    """``y_i = sum_j w_ij v_j / sum_j w_ij``, where each weight is a sum over features of ``phi(q_i) phi(k_j)``.

    Causal, the sums end at ``i`` and it streams with a state that does not grow. A subclass says what ``phi`` is, in
    the form that its functions take.
    """

    taps: ClassVar[tuple[str, ...]] = (*MultiHeadMixer.taps, "query_features", "key_features")

    causal: bool
    #: Channels of ``phi``.
    feature_dim: int

    @abstractmethod
    def features(self, q: Heads, k: Heads, places: Tensor) -> tuple[Features, Features]:
        """``phi`` of queries and keys at ``places`` ``(batch or 1, time)``."""

    @abstractmethod
    def attend_to_all(self, q: Features, k: Features, v: Heads, mask: Mask | None) -> Heads:
        """What tokens get that see all of them."""

    @abstractmethod
    def attend_to_earlier(
        self, q: Features, k: Features, v: Heads, mask: Mask | None, state: State | None
    ) -> tuple[Heads, State]:
        """What tokens get that see those up to themselves, and the state after them."""

    def attend(self, heads: tuple[Heads, ...], mask: Mask | None, prefix: int) -> Heads:
        q, k, v = heads
        q, k = self._features(q, k, torch.arange(q.shape[1], device=q.device)[None])
        return self.attend_to_earlier(q, k, v, mask, None)[0] if self.causal else self.attend_to_all(q, k, v, mask)

    def _features(self, q: Heads, k: Heads, places: Tensor) -> tuple[Features, Features]:
        q, k = self.features(q, k, places)
        return self.tap("query_features", q), self.tap("key_features", k)

    def init_state(
        self, batch: int, capacity: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        if not self.causal:
            return super().init_state(batch, capacity, device=device, dtype=dtype)
        shape = (batch, self.heads, self.feature_dim, self.head_dim + 1)
        dtype = accumulation_type(dtype or torch.get_default_dtype())
        return {"sums": torch.zeros(shape, device=device, dtype=dtype)}

    def stream(self, x: Tensor, state: State, context: Context = EMPTY) -> tuple[Tensor, State]:
        q, k, v = self.project(x)
        q, k = self._features(q, k, state["length"][:, None] + torch.arange(x.shape[1], device=x.device))
        y, state = self.attend_to_earlier(q, k, v, context.mask, state)
        return self.collect(y), state


@PARTS.register("performer_attention")
class PerformerAttention(_KernelAttention):
    """Multi-head FAVOR+: positive random features whose inner products are softmax attention's weights on average.

    ``phi(x) = exp(w x' - |x'|² / 2) / sqrt(features)`` with ``x' = x / head_dim^(1/4)`` and orthogonal random ``w``,
    drawn once, shared by the heads and saved with the weights (:meth:`redraw` draws others). Cost is linear in the
    number of tokens. The quotient is taken without the constant that the authors' code adds to every feature.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim`` unless ``head_dim`` is given.
        head_dim: channels of a head; ``dim / heads`` if unset.
        features: number of random features.
        causal: whether tokens see only those before them; it then streams with a state that does not grow.

    Shapes: ``(batch, time, dim)`` to the same; ``context.mask`` ``(batch, time)`` true for real tokens. State: ``sums``
    ``(batch, heads, features, head_dim + 1)``, relative to the exponential of ``peaks`` ``(batch, heads, features)``.

    Raises:
        UserError: ``dim`` cannot be split over the heads, or there are no features.

    Source: Rethinking Attention with Performers, arXiv 2009.14794.
    """

    projection: Tensor

    def __init__(
        self, dim: int, *, heads: int = 4, head_dim: int | None = None, features: int = 256, causal: bool = False
    ) -> None:
        check_positive(features=features)
        super().__init__(dim, heads, head_dim)
        self.causal, self.feature_dim = causal, features
        self.promise(causal=causal)
        self.register_buffer("projection", orthogonal_gaussian(features, self.head_dim))

    def redraw(self) -> None:
        """Draw other random features, in place."""
        self.projection.copy_(orthogonal_gaussian(*self.projection.shape))

    def features(self, q: Heads, k: Heads, places: Tensor) -> tuple[Features, Features]:
        return (
            positive_softmax_exponents(q, self.projection, query=True),
            positive_softmax_exponents(k, self.projection, query=False),
        )

    def attend_to_all(self, q: Features, k: Features, v: Heads, mask: Mask | None) -> Heads:
        return exponential_attention(q, k, v, mask=mask)

    def attend_to_earlier(
        self, q: Features, k: Features, v: Heads, mask: Mask | None, state: State | None
    ) -> tuple[Heads, State]:
        before = None if state is None else (state["sums"], state["peaks"])
        y, (sums, peaks) = causal_exponential_attention(q, k, v, initial_state=before, mask=mask)
        return y, {"sums": sums, "peaks": peaks}

    def init_state(
        self, batch: int, capacity: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        state = super().init_state(batch, capacity, device=device, dtype=dtype)
        return {**state, "peaks": torch.zeros_like(state["sums"][..., 0])}


@PARTS.register("cosformer_attention")
class CosFormerAttention(_KernelAttention):
    """Multi-head attention with weights ``relu(q_i) relu(k_j) cos(pi (i - j) / (2 length))``, in linear time.

    The cosine is a sum of two products, so that the features are twice the channels. Tokens all of whose features are
    zero get zeros.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim`` unless ``head_dim`` is given.
        head_dim: channels of a head; ``dim / heads`` if unset.
        length: the longest sequence; that of the grid if unset.
        causal: whether tokens see only those before them; it then streams with a state that does not grow.

    Shapes: ``(batch, time, dim)`` to the same, ``time`` up to ``length``; ``context.mask`` ``(batch, time)`` true for
    real tokens. State: ``sums`` ``(batch, heads, 2 head_dim, head_dim + 1)``.

    Raises:
        UserError: ``dim`` cannot be split over the heads, or the sequence is too long.

    Source: cosFormer: Rethinking Softmax in Attention, arXiv 2202.08791.
    """

    promises = Promises(dimensions=(1,), any_grid=False)

    def __init__(
        self,
        dim: int,
        *,
        heads: int = 4,
        head_dim: int | None = None,
        length: int | None = None,
        grid: tuple[int, ...] | None = None,
        causal: bool = False,
    ) -> None:
        super().__init__(dim, heads, head_dim)
        self.length = places_of(grid, length, "cosFormer")
        self.causal, self.feature_dim = causal, 2 * self.head_dim
        self.promise(causal=causal)

    def features(self, q: Heads, k: Heads, places: Tensor) -> tuple[Features, Features]:
        if q.shape[1] > 1:
            check_length(q.shape[1], self.length, "cosFormer")
        return cosine_features(q, places, self.length), cosine_features(k, places, self.length)

    def attend_to_all(self, q: Features, k: Features, v: Heads, mask: Mask | None) -> Heads:
        return linear_attention(q, k, v, mask=mask, normalize=True)

    def attend_to_earlier(
        self, q: Features, k: Features, v: Heads, mask: Mask | None, state: State | None
    ) -> tuple[Heads, State]:
        before = None if state is None else state["sums"]
        y, sums = causal_linear_attention(q, k, v, initial_state=before, mask=mask, normalize=True)
        return y, {"sums": sums}

    def init_state(
        self, batch: int, capacity: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        check_length(capacity, self.length, "cosFormer")
        return super().init_state(batch, capacity, device=device, dtype=dtype)

"""Linear attention with a feature map in place of the softmax."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UnknownNameError
from formwright.nn.context import EMPTY, Context
from formwright.nn.functional.dense import dense
from formwright.nn.functional.linear_attention import causal_linear_attention, linear_attention
from formwright.nn.layers import scale_input, scale_output
from formwright.nn.parts import PARTS, Axis, Promises, State
from formwright.nn.token_mixers.attention import check_heads
from formwright.nn.token_mixers.recurrent import RecurrentMixer


def elu_plus_one(x: Tensor) -> Tensor:
    """``elu(x) + 1``: ``exp(x)`` below zero, ``x + 1`` above."""
    return F.elu(x) + 1


#: Maps to features that are not negative, so that weights of tokens can be divided by their sum.
FEATURE_MAPS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "elu": elu_plus_one,
    "relu": F.relu,
    "softmax": lambda x: x.softmax(-1),
}


@PARTS.register("linear_attention")
class LinearAttention(RecurrentMixer):
    """``y_t = sum_s (φ(q_t) · φ(k_s)) v_s / sum_s φ(q_t) · φ(k_s)``, then a projection; ``q, k, v = x Wqkv``.

    Linear in the number of tokens. Without ``causal`` the sums run over all real tokens of any grid; with it over
    those up to ``t``, and the part streams with a state of constant size.

    Args:
        dim: channels in and out.
        heads: number of heads; must divide ``dim`` unless ``head_dim`` is given.
        head_dim: channels of a head; ``dim / heads`` if unset.
        feature_map: ``φ``: ``elu`` for ``elu(x) + 1``, ``relu``, or ``softmax`` over the channels of a head.
        causal: whether tokens see only those before them (row by row on a grid of several axes).

    Shapes: ``(batch, *grid, dim)`` to the same; ``context.mask`` ``(batch, *grid)`` true for real tokens. State:
    ``memory`` ``(batch, heads, head_dim, head_dim + 1)``.

    Raises:
        UserError: the heads do not divide the channels, or the feature map is unknown.

    Source: Transformers are RNNs: Fast Autoregressive Transformers with Linear Attention, arXiv 2006.16236.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask", "prefix", "grid", "segments"})
    promises: ClassVar[Promises] = Promises()
    #: Queries and keys are those that ``φ`` gives.
    taps: ClassVar[tuple[str, ...]] = ("queries", "keys", "values", "mixed")
    resizable: ClassVar[Mapping[str, str]] = {"heads": "heads"}

    def __init__(
        self, dim: int, *, heads: int = 4, head_dim: int | None = None, feature_map: str = "elu", causal: bool = False
    ) -> None:
        super().__init__()
        if head_dim is None:
            check_heads(dim, heads)
            head_dim = dim // heads
        if feature_map not in FEATURE_MAPS:
            raise UnknownNameError("feature map", feature_map, FEATURE_MAPS)
        self.heads, self.head_dim = heads, head_dim
        self.feature_map = feature_map
        self.causal = causal
        self.qkv = nn.Linear(dim, 3 * heads * head_dim, bias=False)
        self.proj = nn.Linear(heads * head_dim, dim, bias=False)
        if causal:
            self.promise(causal=True)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        residual = Axis("residual")
        return {
            "qkv.weight": (Axis("heads", repeats=3, block=self.head_dim), residual),
            "proj.weight": (residual, Axis("heads", block=self.head_dim)),
        }

    def fold_scale_before(self, scale: Tensor, shift: Tensor | None) -> bool:
        return scale_input(self.qkv, scale, shift)

    def fold_scale_after(self, scale: Tensor) -> bool:
        return scale_output(self.proj, scale)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        mask = None if context.mask is None else context.mask.flatten(1)
        tokens, context = x.flatten(1, -2), context.replace(mask=mask) if x.ndim > 3 else context
        if self.causal:
            return super().forward(tokens, context).view(x.shape)
        heads = self._project(tokens)
        if context.segments is None:
            y = linear_attention(*heads, mask=mask, normalize=True)
        else:
            y = context.sequences.apply(
                lambda rows, mask: linear_attention(*rows, mask=mask, normalize=True), heads, mask
            )
        return dense(self.proj, self.tap("mixed", y).flatten(2)).view(x.shape)

    def state_sizes(self) -> Mapping[str, tuple[int, ...]]:
        return {"memory": (self.heads, self.head_dim, self.head_dim + 1)}

    def mix(self, x: Tensor, state: State, context: Context) -> tuple[Tensor, State]:
        q, k, v = self._project(x)
        y, memory = causal_linear_attention(
            q, k, v, initial_state=state.get("memory"), mask=context.mask, starts=context.starts, normalize=True
        )
        return dense(self.proj, self.tap("mixed", y).flatten(2)), {"memory": memory}

    def _project(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = dense(self.qkv, tokens).view(*tokens.shape[:2], 3, self.heads, self.head_dim).unbind(2)
        features = FEATURE_MAPS[self.feature_map]
        return self.tap("queries", features(q)), self.tap("keys", features(k)), self.tap("values", v)

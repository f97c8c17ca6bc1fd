"""Attention to parameter tokens in place of dense layers."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from formwright.errors import UnknownNameError, UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.functional.attention import SOFTMAX_TAPS
from formwright.nn.functional.pattention import NORMALIZATIONS, pattention
from formwright.nn.parts import PARTS, Axis, Part, Promises

_SOFTMAX = {"cut": "a softmax shares its weights among the parameter tokens that are there"}


@PARTS.register("pattention")
class Pattention(Part):
    """``y = normalization(x Kᵀ) V``: each token attends to ``tokens`` learned pairs of a key and a value.

    Every token is treated by itself. The normalization (see :mod:`formwright.nn.functional.pattention`) multiplies by
    ``scale``, which is ``sqrt(tokens)`` of the layer as it was built and stays what it is when parameter tokens are
    appended (:func:`formwright.compression.growth.grow`) or cut, so that new ones with zero keys change nothing.

    Args:
        dim: channels in and out.
        tokens: number of parameter tokens, four times ``dim`` if unset.
        normalization: ``l2_norm_gelu``, ``gelu_l2_norm`` or ``softmax``.
        std: standard deviation of the initial keys.
        value_std: of the initial values; ``1 / sqrt(tokens)`` if unset.

    Shapes: ``(batch, *grid, dim)`` to the same.

    Raises:
        UserError: the normalization is unknown, or there are no parameter tokens.

    Source: TokenFormer, arXiv 2410.23168. A token whose scores are all zero gets zeros, where the authors' code gives
    no numbers.
    """

    promises: ClassVar[Promises] = Promises(per_token=True, causal=True)
    taps: ClassVar[tuple[str, ...]] = SOFTMAX_TAPS
    resizable: ClassVar[dict[str, str]] = {"tokens": "tokens"}
    input_layers: ClassVar[tuple[str, ...]] = ("keys",)
    output_layers: ClassVar[tuple[str, ...]] = ("values",)
    scale: Tensor

    def __init__(
        self,
        dim: int,
        *,
        tokens: int | None = None,
        normalization: str = "l2_norm_gelu",
        std: float = 0.02,
        value_std: float | None = None,
    ) -> None:
        super().__init__()
        self.tokens = 4 * dim if tokens is None else tokens
        if self.tokens < 1:
            raise UserError(f"There must be parameter tokens to attend to, got tokens = {tokens}.")
        if normalization not in NORMALIZATIONS:
            raise UnknownNameError("normalization", normalization, NORMALIZATIONS)
        self.normalization = NORMALIZATIONS[normalization]
        if normalization == "softmax":
            self.promise(exemptions=_SOFTMAX)
        self.std = std
        self.value_std = 1 / math.sqrt(self.tokens) if value_std is None else value_std
        self.keys = nn.Parameter(torch.empty(self.tokens, dim))
        self.values = nn.Parameter(torch.empty(self.tokens, dim))
        self.register_buffer("scale", torch.tensor(math.sqrt(self.tokens)))
        self.init_weights()

    def init_weights(self) -> None:
        nn.init.normal_(self.keys, std=self.std)
        nn.init.normal_(self.values, std=self.value_std)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        tokens, residual = Axis("tokens"), Axis("residual")
        return {"keys": (tokens, residual), "values": (tokens, residual)}

    @property
    def ignores_new_tokens(self) -> bool:
        """Whether parameter tokens with zero keys change nothing."""
        return self.normalization is not NORMALIZATIONS["softmax"]

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        return pattention(x, self.keys, self.values, self.scale, self.normalization, self.listened(*SOFTMAX_TAPS))

"""Norms and branches that a condition modulates: what generation is told, channel by channel."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.composites import Composite
from formwright.nn.context import EMPTY, Context, on_tokens
from formwright.nn.functional.dense import dense
from formwright.nn.parts import CONDITION, PARTS, Axis, InnerAxes, Part, build_part, settled, sharing
from formwright.nn.specification import PartSpec, part
from formwright.nn.streaming import Streams

_NORM = part("layer_norm", eps=1e-6, affine=False)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """``x * (1 + scale) + shift``, shapes that broadcast."""
    return torch.addcmul(shift, x, 1 + scale)


class _Conditioned(Composite):
    """What a norm and a layer of the condition share: ``[shift, scale, ...] = W silu(c) + b``, which start at zero.

    Args:
        dim: channels of the tokens.
        says: how many values per channel the condition gives.
        norm: the norm of the tokens.
        condition_dim: channels of the condition; ``dim`` if unset.
    """

    def __init__(
        self, dim: int, says: int, norm: PartSpec, condition_dim: int | None, grid: tuple[int, ...] | None = None
    ) -> None:
        super().__init__()
        self.dim, self.grid, self.says = dim, grid, says
        self.norm = self.build_slot("norm", norm)
        self.modulation = nn.Linear(dim if condition_dim is None else condition_dim, says * dim)

    def build_slot(self, slot: str, spec: PartSpec) -> Part:
        """Another part for what is called ``slot``."""
        return build_part(spec, self.dim, grid=self.grid)

    def init_weights(self) -> None:
        """Zero: a condition changes nothing at first, and a branch with a gate adds nothing."""
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def _join(self, parts: list[Part]) -> None:  # type: ignore[override]
        super()._join(parts)
        self.uses = self.uses | {"condition"}  # type: ignore[misc]

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"modulation.weight": (Axis("residual", repeats=self.says), CONDITION)}

    def inner_axes(self) -> InnerAxes:
        return sharing(*(name for name, _ in self.named_parts()))

    def _modulation(self, x: Tensor, context: Context) -> tuple[Tensor, ...]:
        """Shift, scale and whatever more the condition says, in shapes that broadcast to ``x``."""
        condition = context.condition
        if condition is None or condition.shape[-1] != self.modulation.in_features:
            got = "none came" if condition is None else f"got one of shape {tuple(condition.shape)}"
            raise UserError(
                f"{type(self).__name__} takes a condition of {self.modulation.in_features} channels, "
                f"(batch, channels) or (batch, *grid, channels), and {got}; offer it in the context."
            )
        said = on_tokens(dense(self.modulation, F.silu(condition)), x)
        return said.chunk(self.says, dim=-1)


@PARTS.register("adaptive_norm")
class AdaptiveNorm(_Conditioned):
    """``y = norm(x) * (1 + scale) + shift`` with ``[shift, scale] = W silu(c) + b``: a norm that a condition modulates.

    ``W`` and ``b`` start at zero, so that it starts as the plain norm.

    Args:
        dim: channels of the tokens.
        norm: the norm; a layer norm without weights if unset.
        condition_dim: channels of the condition; ``dim`` if unset.

    Shapes: ``(batch, *grid, dim)`` to the same; ``context.condition`` ``c`` is ``(batch, condition_dim)``, or
    ``(batch, *grid, condition_dim)`` with one per token.

    Raises:
        UserError: there is no condition, or it has other channels or tokens.

    Sources: FiLM, arXiv 1709.07871; adaLN of Scalable Diffusion Models with Transformers, arXiv 2212.09748.
    """

    def __init__(self, dim: int, *, norm: PartSpec = _NORM, condition_dim: int | None = None) -> None:
        super().__init__(dim, 2, norm, condition_dim)
        self._join([self.norm])

    def named_parts(self) -> Iterator[tuple[str, Part]]:
        yield "norm", self.norm

    def step(self, x: Tensor, streams: Streams, context: Context) -> Tensor:
        return modulate(streams.step("norm", self.norm, x, context), *self._modulation(x, context))

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        context = settled(self, context)
        return modulate(self.norm(x, context), *self._modulation(x, context))


@PARTS.register("modulated")
class Modulated(_Conditioned):
    """``y = gate * part(norm(x) * (1 + scale) + shift)``, ``[shift, scale, gate] = W silu(c) + b``: adaLN-zero.

    Any part stands inside unchanged, attention and MLP alike. ``W`` and ``b`` start at zero, so that the residual
    branch that it stands in starts at zero.

    Args:
        dim: channels of the tokens.
        part: what is modulated.
        norm: the norm before it; a layer norm without weights if unset.
        condition_dim: channels of the condition; ``dim`` if unset.
        grid: the grid that parts with tables are made for.

    Shapes: ``(batch, *grid, dim)`` to the same; ``context.condition`` ``c`` is ``(batch, condition_dim)``, or
    ``(batch, *grid, condition_dim)`` with one per token.

    Raises:
        UserError: there is no condition, or it has other channels or tokens.

    Source: Scalable Diffusion Models with Transformers, arXiv 2212.09748, whose authors' code has one ``W`` for both
    branches of a block; their rows are those of the two here, one after the other.
    """

    def __init__(
        self,
        dim: int,
        *,
        part: PartSpec,
        norm: PartSpec = _NORM,
        condition_dim: int | None = None,
        grid: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(dim, 3, norm, condition_dim, grid)
        self.part = self.build_slot("part", part)
        self._join([self.norm, self.part])

    def named_parts(self) -> Iterator[tuple[str, Part]]:
        yield "norm", self.norm
        yield "part", self.part

    def step(self, x: Tensor, streams: Streams, context: Context) -> Tensor:
        shift, scale, gate = self._modulation(x, context)
        y = modulate(streams.step("norm", self.norm, x, context), shift, scale)
        return gate * streams.step("part", self.part, y, context)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        context = settled(self, context)
        shift, scale, gate = self._modulation(x, context)
        return gate * self.part(modulate(self.norm(x, context), shift, scale), context)

"""Channel mixers of which each token sees a few."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.auxiliary import collects, report_loss, report_statistic
from formwright.nn.context import EMPTY, Context
from formwright.nn.functional.routing import balance_loss, load_shares
from formwright.nn.parts import PARTS, Axis, InnerAxes, Part, Promises, build_part, sharing
from formwright.nn.specification import PartSpec, part

_MLP = part("mlp")


@PARTS.register("mixture_of_experts")
class MixtureOfExperts(Part):
    """``y = sum_{e in T} p_e expert_e(x)`` with ``p = softmax(W x)`` and ``T`` the ``active`` experts of largest ``p``.

    Each token by itself. Line by line, an expert computes the tokens that chose it; compiled, exported or on shapes
    alone, every expert computes all tokens and the others' weights are zero, which gives the same.

    Reports the loss ``balance`` (:func:`~formwright.nn.functional.routing.balance_loss`) and the statistic
    ``busiest_expert``, the share of choices that fell on the expert chosen most often.

    Args:
        dim: channels in and out.
        experts: how many there are.
        active: how many of them a token sees.
        expert: the channel mixer that each of them is.

    Shapes: ``(batch, *grid, dim)`` to the same.

    Raises:
        UserError: more experts are active than there are, or experts look at other tokens.

    Source: Switch Transformers, arXiv 2101.03961 (``active`` 1); with more, probabilities are not normalised over the
    chosen ones, as in OLMoE, arXiv 2409.02060. No expert has a capacity: no token is dropped.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask"})
    promises: ClassVar[Promises] = Promises(per_token=True, causal=True)

    def __init__(self, dim: int, *, experts: int = 8, active: int = 2, expert: PartSpec = _MLP) -> None:
        super().__init__()
        if not 1 <= active <= experts:
            raise UserError(f"A token sees between 1 and all {experts} experts, got active = {active}.")
        self.active = active
        self.router = nn.Linear(dim, experts, bias=False)
        built: list[Part] = [build_part(expert, dim) for _ in range(experts)]
        if not built[0].promises.per_token:
            raise UserError(
                f"An expert treats each token by itself, and {expert.name!r} does not; choose another part."
            )
        self.experts = nn.ModuleList(built)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"router.weight": (None, Axis("residual"))}

    def inner_axes(self) -> InnerAxes:
        return sharing(*(f"experts.{number}" for number in range(len(self.experts))))

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid channels"]:
        tokens = x.flatten(0, -2)
        probabilities = self.router(tokens).softmax(-1)
        weights, chosen = probabilities.topk(self.active, dim=-1)
        if collects(self):
            real = None if context.mask is None else context.mask.flatten()
            report_loss(self, "balance", balance_loss(probabilities, chosen, real))
            report_statistic(self, "busiest_expert", load_shares(chosen, len(self.experts), real).max())
        mix = self._mix_chosen if _line_by_line(x) else self._mix_all
        return mix(tokens, weights.to(x.dtype), chosen).view(x.shape)

    def _mix_chosen(self, tokens: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
        y = torch.zeros_like(tokens)
        for number, expert in enumerate(self.experts):
            rows, ranks = torch.where(chosen == number)
            y = y.index_add(0, rows, (expert(tokens[rows]) * weights[rows, ranks, None]).to(y.dtype))
        return y

    def _mix_all(self, tokens: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
        gates = weights.new_zeros(tokens.shape[0], len(self.experts)).scatter(-1, chosen, weights)
        y = torch.zeros_like(tokens)
        for number, expert in enumerate(self.experts):
            y = y + expert(tokens) * gates[:, number, None]
        return y

    def extra_repr(self) -> str:
        return f"active={self.active}"


def _line_by_line(x: Tensor) -> bool:
    """Whether sizes may depend on values: nothing is traced, mapped over, or on shapes alone."""
    return (
        type(x) is Tensor
        and x.device.type != "meta"
        and not torch.compiler.is_compiling()
        and torch._C._functorch.peek_interpreter_stack() is None
    )

"""The pair: one encoder reads two inputs, each by itself, and a head compares what it made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from formwright.errors import UserError
from formwright.models.network import NETWORKS, Network
from formwright.nn.frame import Backbone
from formwright.nn.inputs import AnotherInput, GridInput, ImageInput, Input, LengthsInput, Source
from formwright.nn.pairs import PairClassifier
from formwright.nn.parts import Width, build_part
from formwright.nn.specification import NetworkSpec, PartSpec, StageSpec, register_specification


@register_specification
@dataclass(frozen=True, kw_only=True)
class PairSpec(NetworkSpec):
    """``embed`` → ``stages`` for each of two inputs of one kind, and a ``head`` that compares them.

    Where samples have sizes of their own, these are ``first_lengths`` and ``second_lengths``.
    """

    input: Source
    classes: int
    embed: PartSpec
    stages: tuple[StageSpec, ...]
    head: PartSpec
    kind: Literal["pair"] = "pair"

    @property
    def inputs(self) -> Mapping[str, Input]:
        both = {"first": self.input, "second": AnotherInput(self.input, "second")}
        lengths = {f"{name}_lengths": LengthsInput(self.input.size) for name in both if self.input.sized}
        return {**both, **lengths}


@NETWORKS.register("pair")
class Pair(Network):
    """Scores of two inputs from what one encoder makes of each, from a :class:`PairSpec`.

    >>> scores = model(first, second)                     # doctest: +SKIP
    >>> vectors = model.encode(first)                     # what is compared: one vector per sample

    ``features`` are those of the second input, which is read last.
    """

    specification_type = PairSpec
    _specification: PairSpec

    def build(self, specification: PairSpec) -> None:
        source = specification.input
        self.backbone = Backbone(specification.embed, specification.stages, source.channels, source.size)
        self.head: PairClassifier = build_part(specification.head, self.backbone.dim, specification.classes)

    def widths(self) -> list[Width]:
        return self.backbone.widths("backbone", "head")

    def forward(
        self,
        first: Tensor,
        second: Tensor,
        *,
        first_lengths: Int[Tensor, " batch"] | Int[Tensor, "batch axes"] | None = None,
        second_lengths: Int[Tensor, " batch"] | Int[Tensor, "batch axes"] | None = None,
    ) -> Float[Tensor, "batch classes"]:
        """Scores of each pair; the two inputs may be of different sizes.

        Raises:
            UserError: an input is not what the encoder takes, its lengths are missing, or there are no pairs.
        """
        if first.shape[0] != second.shape[0]:
            raise UserError(f"There are {first.shape[0]} first inputs and {second.shape[0]} second ones; give pairs.")
        pair = self.encode(first, lengths=first_lengths), self.encode(second, lengths=second_lengths)
        scores: Tensor = self.head(torch.stack(pair, dim=1))
        return scores

    def encode(self, input: Tensor, *, lengths: Tensor | None = None) -> Float[Tensor, "batch dim"]:
        """The vector of each sample, as if it were alone."""
        source = self._specification.input
        source.check(input)
        if isinstance(source, ImageInput | GridInput):
            self.backbone.check_size(tuple(input.shape[2:]))
        tokens, context = self.backbone(input, self.masked(source, input, lengths=lengths))
        return self.head.pooled(tokens, context)

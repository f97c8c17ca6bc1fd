"""The ensemble: several networks that answer the same question, and the mean of what they say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from formwright.batch import call
from formwright.errors import UserError
from formwright.models.network import NETWORKS, Network, build_network
from formwright.nn.inputs import Input
from formwright.nn.parts import Width
from formwright.nn.specification import NetworkSpec, register_specification


@register_specification
@dataclass(frozen=True, kw_only=True)
class EnsembleSpec(NetworkSpec):
    """Classifiers of the same input; each of ``members`` is the dictionary of a specification.

    With ``mirrored``, each is asked about the input and about its mirror image, left to right.
    """

    members: tuple[Mapping[str, Any], ...]
    mirrored: bool = False
    kind: Literal["ensemble"] = "ensemble"

    def __post_init__(self) -> None:  # as JSON has them, so that one that was saved equals one that was made
        object.__setattr__(self, "members", tuple(json.loads(json.dumps(member)) for member in self.members))

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return int(self.members[0]["classes"])

    @property
    def inputs(self) -> Mapping[str, Input]:
        if not self.members:
            raise UserError("An ensemble has at least one member.")
        return NetworkSpec.from_dict(self.members[0]).inputs


@NETWORKS.register("ensemble")
class Ensemble(Network):
    """``log(mean_m softmax(member_m(x)))``: the mean of the members' probabilities, as scores.

    Where it is ``mirrored``, the mean is over each member's answers to ``x`` and to its mirror image.

    Raises:
        UserError: there are no members, or they take different inputs.

    Source: Neural Network Ensembles, IEEE PAMI 12 (10), 1990; members are chosen as in Ensemble Selection from
    Libraries of Models, ICML 2004 (:mod:`formwright.fitting.ensembles`).
    """

    specification_type = EnsembleSpec
    _specification: EnsembleSpec

    def build(self, specification: EnsembleSpec) -> None:
        self.members = nn.ModuleList(build_network(member) for member in specification.members)
        first = specification.inputs
        for member in self.members:
            if set(member.inputs) != set(first):  # type: ignore[arg-type]
                raise UserError(
                    f"The members of an ensemble take the same inputs; {sorted(first)} are those of the first."
                )

    def widths(self) -> list[Width]:
        return [
            Width(tuple((f"members.{index}.{path}", axis) for path, axis in width.members))
            for index, member in enumerate(self.members)
            for width in member.widths()  # type: ignore[operator]
        ]

    def forward(self, input: Tensor) -> Float[Tensor, "batch classes"]:
        """The logarithms of mean probabilities, ``(batch, classes)``."""
        views = [input, input.flip(-1)] if self._specification.mirrored else [input]
        probabilities = [call(member, view).softmax(-1) for member in self.members for view in views]
        return torch.stack(probabilities).mean(0).clamp(min=torch.finfo(torch.float32).tiny).log()

"""The denoiser: tokens of a noisy picture, told how noisy it is and of which class, back to values of the picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from formwright.errors import UserError
from formwright.models.network import NETWORKS, Network
from formwright.nn.conditions import ClassEmbedding, TimeEmbedding
from formwright.nn.context import EMPTY, Context
from formwright.nn.frame import Backbone
from formwright.nn.inputs import ClassInput, GridInput, ImageInput, Input, TimeInput
from formwright.nn.parts import CONDITION, Part, Width, build_part
from formwright.nn.specification import NetworkSpec, PartSpec, StageSpec, register_specification


@register_specification
@dataclass(frozen=True, kw_only=True)
class DenoiserSpec(NetworkSpec):
    """``embed`` → ``stages`` → ``head``, with a time and a class offered to every part as the condition.

    Attributes:
        input: the noisy values.
        end: the last time: the number of steps of a diffusion, or 1 for a flow.
        classes: number of classes; none for a network that is told no class.
        null_class: whether the label ``classes`` stands for no class, which guidance needs.
        out_channels: channels of the answer: those of the input, or twice as many with learned variances.
    """

    input: ImageInput | GridInput
    embed: PartSpec
    stages: tuple[StageSpec, ...]
    head: PartSpec
    out_channels: int
    end: float = 1000.0
    classes: int | None = None
    null_class: bool = True
    kind: Literal["denoiser"] = "denoiser"

    @property
    def inputs(self) -> Mapping[str, Input]:
        label = {} if self.classes is None else {"label": ClassInput(self.classes, self.null_class)}
        return {"input": self.input, "time": TimeInput(self.end), **label}


@NETWORKS.register("denoiser")
class Denoiser(Network):
    """A Transformer that is told how noisy its input is, and of which class.

    >>> model = create_model("dit_s_2")                                # doctest: +SKIP
    >>> noise = model(latents, time, label)                            # doctest: +SKIP

    Source: Scalable Diffusion Models with Transformers, arXiv 2212.09748.
    """

    specification_type = DenoiserSpec
    offers: ClassVar[frozenset[str]] = frozenset({"condition"})
    _specification: DenoiserSpec

    def build(self, specification: DenoiserSpec) -> None:
        source = specification.input
        if source.sized:
            raise UserError("A denoiser answers for every value of its input: give pictures of one size, not padded.")
        self.backbone = Backbone(specification.embed, specification.stages, source.channels, source.size)
        dim = specification.stages[0].dim
        self.embed_time = TimeEmbedding(dim, end=specification.end)
        self.embed_label = None
        if specification.classes is not None:
            self.embed_label = ClassEmbedding(dim, classes=specification.classes, null=specification.null_class)
        self.head: Part = build_part(
            specification.head, self.backbone.dim, specification.out_channels, grid=self.backbone.grid
        )

    def widths(self) -> list[Width]:
        told = ("embed_time", *(() if self.embed_label is None else ("embed_label",)), "head")
        stages = (f"backbone.stages.{index}" for index in range(len(self.backbone.stages)))
        condition = Width(tuple((path, CONDITION.name) for path in (*told, *stages)))
        return [*self.backbone.widths("backbone", "head"), condition]

    def forward(
        self,
        input: Float[Tensor, "batch channels *size"],
        time: Num[Tensor, " batch"] | None = None,
        label: Int[Tensor, " batch"] | None = None,
        context: Context = EMPTY,
    ) -> Float[Tensor, "batch out_channels *size"]:
        """What of ``input`` is noise, or where it flows: whatever the network was trained to answer.

        Args:
            input: noisy values.
            time: how noisy each sample is, from 0 to the network's ``end``.
            label: the class of each sample; all are of no class if unset, where there is such a label.
            context: a ``condition`` in it, of a vector per sample or per token, is added to those of time and class.

        Raises:
            UserError: the time is missing, a label is missing or out of range, or a shape does not fit.
        """
        condition = self._condition(input, time, label, context)
        tokens, context = self.backbone(input, self.settle(context.replace(condition=condition)))
        output: Tensor = self.head(tokens, context)
        if output.shape[2:] != input.shape[2:]:
            raise UserError(
                f"An input of {' x '.join(map(str, input.shape[2:]))} is no whole number of patches: "
                f"{' x '.join(map(str, output.shape[2:]))} of it would be answered; cut or pad it."
            )
        return output

    def _condition(
        self, input: Tensor, time: Tensor | None, label: Tensor | None, context: Context
    ) -> Float[Tensor, "batch *tokens dim"]:
        """The sum of what time, class and whoever called say."""
        declared = self.inputs
        if time is None:
            raise UserError("A denoiser needs to know how noisy its input is: give `time`, one number per sample.")
        if label is None and self.embed_label is not None and self.embed_label.null:
            label = torch.full_like(time, self.embed_label.classes, dtype=torch.int64)
        if (label is None) is not (self.embed_label is None):
            what = "needs `label`, the class of each sample" if label is None else "was built without classes"
            raise UserError(f"{self._specification.name} {what}; a `label` is given if and only if there are classes.")
        for name, given in {"input": input, "time": time, "label": label}.items():
            if given is not None:
                declared[name].check(given)
                if given.shape[0] != input.shape[0]:
                    raise UserError(
                        f"There are {input.shape[0]} inputs and {given.shape[0]} of `{name}`; give one per input."
                    )
        condition: Tensor = self.embed_time(time, input.dtype)
        if self.embed_label is not None:
            condition = condition + self.embed_label(label)
        offered = context.condition
        if offered is None:
            return condition
        return condition.view(input.shape[0], *[1] * (offered.ndim - 2), -1) + offered

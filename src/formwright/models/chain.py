"""The chain: embedding, stages, head. Most named models are one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jaxtyping import Float, Int
from torch import Tensor

from formwright.batch import Inputs
from formwright.models.network import NETWORKS, Network
from formwright.nn.context import EMPTY, Context
from formwright.nn.frame import Backbone, Stage
from formwright.nn.inputs import GridInput, ImageInput
from formwright.nn.part import Part, State, Width, build_part
from formwright.nn.specification import ChainSpec
from formwright.nn.streaming import Streams


@NETWORKS.register("chain")
class Chain(Network):
    """Embedding, stages and head, built from a :class:`~formwright.nn.specification.ChainSpec`.

    >>> model = Chain(specification)                      # doctest: +SKIP
    >>> logits = model(images)                            # (batch, channels, height, width) -> (batch, classes)
    >>> maps = model.features(images)                     # token grids (batch, height, width, channels), one per stage
    """

    specification_type = ChainSpec
    _specification: ChainSpec

    def build(self, specification: ChainSpec) -> None:
        source = specification.input
        self.backbone = Backbone(
            specification.embed, specification.stages, source.channels, source.size, specification.embed_dim
        )
        self.head: Part = build_part(
            specification.head, self.backbone.dim, specification.classes, grid=self.backbone.grid
        )
        if getattr(self.head, "tied", False):
            self.head.tie(self.backbone.embed)

    @property
    def specification(self) -> ChainSpec:
        """What the model is now: the base and the edits made since."""
        return self._specification

    def widths(self) -> list[Width]:
        return self.backbone.widths("backbone", "head")

    def stages(self) -> Iterator[tuple[str, Stage]]:
        for index, stage in enumerate(self.backbone.stages):
            yield f"stages.{index}", stage  # type: ignore[misc]

    def check_input(self, x: Tensor) -> None:
        """Refuse what is not a batch of the model's input, or is too small for the model.

        Raises:
            UserError: names what came and what was expected.
        """
        source = self._specification.input
        source.check(x)
        if isinstance(source, ImageInput | GridInput):
            self.backbone.check_size(tuple(x.shape[2:]))

    def _context(
        self, x: Tensor, context: Context, lengths: Tensor | None = None, types: Tensor | None = None
    ) -> Context:
        if types is not None:
            context = context.replace(types=types)
        return self.masked(self._specification.input, x, context, lengths)

    def forward(
        self,
        input: Tensor,
        context: Context = EMPTY,
        *,
        lengths: Int[Tensor, " batch"] | Int[Tensor, "batch axes"] | None = None,
        types: Int[Tensor, "batch time"] | None = None,
    ) -> Tensor:
        """Scores of images ``(batch, channels, height, width)``, ids ``(batch, time)`` or series.

        A classifier gives ``(batch, classes)``, a language model ``(batch, time, classes)``. With ``lengths``, what
        lies beyond the size of a sample is padding; ``types`` say of which type each token is.
        """
        self.check_input(input)
        tokens, context = self.backbone(input, self._context(input, context, lengths, types))
        return self.head(tokens, context)

    def streamed_parts(self) -> Iterator[tuple[str, Part]]:
        yield from self.backbone.parts()
        yield "head", self.head

    def stream(self, input: Tensor, state: State, context: Context = EMPTY) -> tuple[Tensor, State]:
        self.check_input(input)
        context = self._context(input, context)
        streams = Streams(state)
        tokens = self.backbone.stream(input, streams, context)
        scores = streams.through("head", self.head, tokens, context)
        return scores, streams.state(input.shape[1], context.mask)

    def features(self, inputs: Inputs, at: Sequence[int | str] | None = None) -> list[Float[Tensor, "batch *grid dim"]]:
        if not isinstance(inputs, Tensor):  # the whole is run, and listened to
            return super().features(inputs, at)
        self.check_input(inputs)
        names = [name for name, _ in self.stages()]
        wanted = [names.index(name) for name in self._features_at(at)]
        return self.backbone.features(inputs, wanted, self._context(inputs, EMPTY))

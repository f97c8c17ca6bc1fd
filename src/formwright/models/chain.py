"""The chain: embedding, stages, head. Most named models are one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from formwright.batch import Inputs
from formwright.models.network import NETWORKS, Network
from formwright.nn.context import EMPTY, Context, check_segments
from formwright.nn.frame import Backbone, Stage
from formwright.nn.inputs import GridInput, ImageInput, SeriesInput, TokenInput
from formwright.nn.parts import Part, State, Width, build_part
from formwright.nn.specification import ChainSpec
from formwright.nn.streaming import LENGTH, Streams


@NETWORKS.register("chain")
class Chain(Network):
    """Embedding, stages and head, built from a :class:`~formwright.nn.specification.ChainSpec`.

    >>> model = Chain(specification)                      # doctest: +SKIP
    >>> logits = model(images)                            # (batch, channels, height, width) -> (batch, classes)
    >>> maps = model.features(images)                     # token grids (batch, height, width, channels), one per stage
    """

    specification_type = ChainSpec
    optional_inputs: ClassVar[frozenset[str]] = frozenset({"segments"})
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
            UserError: names what was given and what was expected.
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
        segments: Int[Tensor, "batch time"] | None = None,
        types: Int[Tensor, "batch time"] | None = None,
    ) -> Tensor:
        """Scores of images ``(batch, channels, height, width)``, ids ``(batch, time)`` or series.

        A classifier gives ``(batch, classes)``, a language model ``(batch, time, classes)``. With ``lengths``, what
        lies beyond the size of a sample is padding; ``types`` say of which type each token is. ``segments`` say which
        of several sequences in a row each token belongs to (:func:`formwright.data.packing.pack`); each gets the scores
        that it gets alone.
        """
        self.check_input(input)
        if segments is not None:
            context = context.replace(segments=segments)
        if context.segments is not None and not isinstance(self._specification.input, ImageInput | GridInput):
            check_segments(context.segments, input)
        if isinstance(self._specification.input, SeriesInput):
            input = self._specification.input.recent(input)
        tokens, context = self.backbone(input, self._context(input, context, lengths, types))
        return self.head(tokens, context)

    def streamed_parts(self) -> Iterator[tuple[str, Part]]:
        yield from self.backbone.parts()
        yield "head", self.head

    def stream(self, input: Tensor, state: State, context: Context = EMPTY) -> tuple[Tensor, State]:
        self.check_input(input)
        sized = self._specification.input.sized  # how long a row is shows when it has ended
        context = self.settle(context) if sized else self._context(input, context)
        return self._streamed(input, state, context)

    def finish(self, state: State) -> tuple[Tensor, State]:
        """The answers that still wait for later tokens when a stream ends, and the state, of which nothing may follow.

        There are some where a part looks ahead, as :class:`~formwright.nn.subsampling.FrameSubsampling` does.
        """
        source, like = self._specification.input, next(self.parameters())
        shape = (len(state[LENGTH]), 0) if isinstance(source, TokenInput) else (len(state[LENGTH]), 0, source.channels)
        none = torch.zeros(
            shape, device=like.device, dtype=torch.long if isinstance(source, TokenInput) else like.dtype
        )
        return self._streamed(none, state, EMPTY.replace(ended=True))

    def _streamed(self, input: Tensor, state: State, context: Context) -> tuple[Tensor, State]:
        streams = Streams(state)
        tokens, of_tokens = self.backbone.stream(input, streams, context)
        scores = streams.step("head", self.head, tokens, of_tokens)
        return scores, streams.state(input.shape[1], context.mask)

    def answers(self, lengths: Int[Tensor, " batch"], *, streamed: bool = False) -> Int[Tensor, " batch"]:
        """How many tokens the head sees of rows of these lengths: as many as each row alone gives.

        Args:
            lengths: how many tokens (ids, frames) of each row are real.
            streamed: count what a stream has given that has seen so many and waits for more.
        """
        if streamed:
            return self.backbone.emitted(lengths)
        counts = {n: self.backbone.grids((n,))[-1][0] if n else 0 for n in set(lengths.tolist())}
        return torch.tensor([counts[n] for n in lengths.tolist()], device=lengths.device)

    def features(self, inputs: Inputs, at: Sequence[int | str] | None = None) -> list[Float[Tensor, "batch *grid dim"]]:
        if not isinstance(inputs, Tensor):  # the whole is run, and listened to
            return super().features(inputs, at)
        self.check_input(inputs)
        names = [name for name, _ in self.stages()]
        found = self._features_at(at)
        if not set(found) <= set(names):  # of blocks
            return super().features(inputs, at)
        wanted = [names.index(name) for name in found]
        return self.backbone.features(inputs, wanted, self._context(inputs, EMPTY))

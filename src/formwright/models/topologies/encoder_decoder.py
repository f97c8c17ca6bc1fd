"""The encoder-decoder: one stack of stages reads, another writes and attends to what the first made of its input.

Source: Attention Is All You Need, arXiv 1706.03762.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Int
from torch import Tensor

from formwright.models.network import NETWORKS, FeatureInfo, Network
from formwright.nn.context import EMPTY, Context
from formwright.nn.embeddings import TokenEmbedding
from formwright.nn.frame import Backbone
from formwright.nn.heads import TokenScores
from formwright.nn.inputs import DecoderInput, Input, Source, lengths_of
from formwright.nn.parts import MEMORY, Part, State, Width, build_part
from formwright.nn.specification import NetworkSpec, PartSpec, StageSpec, register_specification
from formwright.nn.streaming import Streams, initial_state


@register_specification
@dataclass(frozen=True, kw_only=True)
class EncoderDecoderSpec(NetworkSpec):
    """``embed`` → ``encoder`` → ``encoder_norm``, which ``decoder_embed`` → ``decoder`` → ``head`` attends to.

    ``start`` is the id that the decoder begins with, ``end`` the one that ends what it writes. An embedding of the
    decoder, or a head, that is ``tied`` has the table of ``embed``.
    """

    input: Source
    decoder_input: DecoderInput
    classes: int
    embed: PartSpec
    encoder: tuple[StageSpec, ...]
    decoder_embed: PartSpec
    decoder: tuple[StageSpec, ...]
    head: PartSpec
    encoder_norm: PartSpec | None = None
    start: int = 0
    end: int | None = None
    kind: Literal["encoder_decoder"] = "encoder_decoder"

    @property
    def inputs(self) -> Mapping[str, Input]:
        return {"input": self.input, "decoder_input": self.decoder_input, **lengths_of(self.input)}


@NETWORKS.register("encoder_decoder")
class EncoderDecoder(Network):
    """Scores of each next id of a text, given another text (or image, or series), from an :class:`EncoderDecoderSpec`.

    >>> scores = model(input, decoder_input)              # doctest: +SKIP
    >>> state = model.start(input, capacity=20)           # the memory is part of the state
    >>> scores, state = model.stream(first_ids, state)    # any division gives what the whole gives
    """

    specification_type = EncoderDecoderSpec
    offers = frozenset({"memory", "memory_mask"})
    _specification: EncoderDecoderSpec

    def build(self, specification: EncoderDecoderSpec) -> None:
        source, written = specification.input, specification.decoder_input
        self.encoder = Backbone(specification.embed, specification.encoder, source.channels, source.size)
        norm = specification.encoder_norm
        self.encoder_norm: Part | None = None if norm is None else build_part(norm, self.encoder.dim)
        self.decoder = Backbone(specification.decoder_embed, specification.decoder, written.channels, written.size)
        self.head: Part = build_part(specification.head, self.decoder.dim, specification.classes)
        for part in (self.decoder.embed, self.head):
            if isinstance(part, TokenEmbedding | TokenScores) and part.tied:
                part.tie(self.encoder.embed)  # type: ignore[arg-type]

    def widths(self) -> list[Width]:
        """Of the encoder, whose last is the memory's, and of the decoder; the same one where they share a table."""
        norm = () if self.encoder_norm is None else ("encoder_norm",)
        encoder, decoder = self.encoder.widths("encoder", *norm), self.decoder.widths("decoder", "head")
        memory = ((f"decoder.stages.{index}", MEMORY.name) for index in range(len(self.decoder.stages)))
        encoder[-1] = Width((*encoder[-1].members, *memory))
        for index, part in ((-1, self.head), (0, self.decoder.embed)):
            if getattr(part, "tied", False) and decoder:
                encoder[0] = Width((*encoder[0].members, *decoder.pop(index).members))
        return [*encoder, *decoder]

    def forward(
        self,
        input: Tensor,
        decoder_input: Int[Tensor, "batch decoder_time"],
        context: Context = EMPTY,
        *,
        lengths: Int[Tensor, " batch"] | Int[Tensor, "batch axes"] | None = None,
    ) -> Tensor:
        """Scores ``(batch, decoder_time, classes)`` of the id after each of ``decoder_input``.

        Args:
            input: what the encoder reads, such as ids ``(batch, time)``; its padding is masked.
            decoder_input: the ids before those that are scored, the start in front. Padding behind a row's ids
                changes no score of theirs.
            context: about the decoder's tokens: ``mask`` ``(batch, decoder_time)`` where padding stands elsewhere.
            lengths: sizes of the samples of ``input``, where they have sizes of their own.
        """
        memory = self.encode(input, lengths=lengths)
        return self.decode(decoder_input, context.replace(memory=memory.memory, memory_mask=memory.memory_mask))

    def encode(self, input: Tensor, context: Context = EMPTY, *, lengths: Tensor | None = None) -> Context:
        """What the decoder attends to: a context with ``memory`` ``(batch, tokens, dim)`` and its mask."""
        source = self._specification.input
        source.check(input)
        tokens, context = self.encoder(input, self.masked(source, input, context, lengths))
        if self.encoder_norm is not None:
            tokens = self.encoder_norm(tokens, context)
        mask = None if context.mask is None else context.mask.flatten(1)
        return Context(memory=tokens.flatten(1, -2), memory_mask=mask)

    def decode(self, decoder_input: Tensor, context: Context) -> Tensor:
        """Scores of the id after each of ``decoder_input``, given the memory in the context."""
        source = self._specification.decoder_input
        source.check(decoder_input)
        tokens, context = self.decoder(decoder_input, self.masked(source, decoder_input, context))
        return self.head(tokens, context)

    def streamed_parts(self) -> Iterator[tuple[str, Part]]:
        yield from self.decoder.parts()
        yield "head", self.head

    def start(self, input: Tensor, capacity: int, *, lengths: Tensor | None = None) -> State:
        """What :meth:`stream` starts from: the memory of ``input``, and room for ``capacity`` ids of each row.

        Raises:
            UserError: the input is not what the encoder takes, or a part of the decoder cannot stream.
        """
        memory = self.encode(input, lengths=lengths)
        assert memory.memory is not None
        device, dtype = memory.memory.device, memory.memory.dtype
        return initial_state(self.streamed_parts(), len(input), capacity, memory, device=device, dtype=dtype)

    def stream(self, input: Tensor, state: State, context: Context = EMPTY) -> tuple[Tensor, State]:
        """The scores for the decoder's next ids ``input`` ``(batch, n)``; the state is that of :meth:`start`."""
        source = self._specification.decoder_input
        source.check(input)
        context = self.masked(source, input, context)
        streams = Streams(state)
        tokens, context_of_tokens = self.decoder.stream(input, streams, context)
        scores = streams.step("head", self.head, tokens, context_of_tokens)
        return scores, streams.state(input.shape[1], context.mask)

    @property
    def feature_info(self) -> list[FeatureInfo]:
        sides = {"encoder": self.encoder.input_grid[0], "decoder": self.decoder.input_grid[0]}
        return [
            FeatureInfo(name, max(1, round(sides[name.partition(".")[0]] / stage.grid[0])), stage.dim)
            for name, stage in self.stages()
        ]

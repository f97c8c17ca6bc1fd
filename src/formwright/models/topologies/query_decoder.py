"""The query decoder: learned queries attend to all maps of a pyramid, and each says what it found, and where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.models.network import NETWORKS, Network
from formwright.nn.context import EMPTY, Context
from formwright.nn.frame import Backbone, Stage
from formwright.nn.inputs import ImageInput, Input, lengths_of
from formwright.nn.parts import RESIDUAL, Axis, Part, Width, build_part, offers_taken
from formwright.nn.positions import places_of, sines_of_places
from formwright.nn.pyramid import FeaturePyramid, Map, NeckSpec
from formwright.nn.specification import NetworkSpec, PartSpec, StageSpec, register_specification


@register_specification
@dataclass(frozen=True, kw_only=True)
class QueryDecoderSpec(NetworkSpec):
    """``embed`` → ``stages`` → ``neck``, whose maps ``queries`` attend to in the stages of the ``decoder``.

    Attributes:
        input: pictures.
        classes: of objects; one more score stands for no object.
        queries: how many objects can be found at most.
        embed: the embedding of the backbone.
        stages: of the backbone.
        neck: the pyramid over its maps.
        decoder: stages of one width; after each there is a set of answers.
        class_head: scores of each query.
        box_head: four numbers for each query, whose sigmoids are its box.
        norm: of the queries before the heads.
        anchors: two numbers for each query, whose sigmoids are the point (x, y) that it looks around, and which are
            added to the first two of its box; without it, queries have no such point.
        embed_dim: channels after the embedding, where it is not that of the first stage.
    """

    input: ImageInput
    classes: int
    queries: int
    embed: PartSpec
    stages: tuple[StageSpec, ...]
    neck: NeckSpec
    decoder: tuple[StageSpec, ...]
    class_head: PartSpec
    box_head: PartSpec
    norm: PartSpec | None = None
    anchors: PartSpec | None = None
    embed_dim: int | None = None
    kind: Literal["query_decoder"] = "query_decoder"

    @property
    def inputs(self) -> Mapping[str, Input]:
        return {"input": self.input, **lengths_of(self.input)}


@NETWORKS.register("query_decoder")
class QueryDecoder(Network):
    """Finds objects in pictures of any size: scores of classes, and boxes, for each query.

    >>> model = create_model("query_detector_small", classes=3)            # doctest: +SKIP
    >>> found = model(images)            # {"classes": (batch, queries, 4), "boxes": (batch, queries, 4)}

    A memory token is its map's token, plus the sines of its place, plus a learned vector of its map.

    Sources: End-to-End Object Detection with Transformers, arXiv 2005.12872; several maps and points of reference as in
    Deformable DETR, arXiv 2010.04159. Positions are added to the memory once, not to the keys of each layer.
    """

    specification_type = QueryDecoderSpec
    no_decay: ClassVar[tuple[str, ...]] = ("queries", "levels")
    _specification: QueryDecoderSpec

    def build(self, specification: QueryDecoderSpec) -> None:
        source, dims = specification.input, {stage.dim for stage in specification.decoder}
        kept = all(stage.downsample is None for stage in specification.decoder)
        if specification.queries < 1 or len(dims) != 1 or not kept:
            raise UserError(
                "A query decoder has at least one query and one decoder stage, and all these stages have one width and "
                f"keep the queries; got {specification.queries} queries and stages of "
                f"{[stage.dim for stage in specification.decoder]} channels."
            )
        (dim,) = dims
        self.backbone = Backbone(
            specification.embed, specification.stages, source.channels, source.size, specification.embed_dim
        )
        self.neck = FeaturePyramid(specification.neck, self.backbone)
        self.levels = nn.Parameter(nn.init.normal_(torch.empty(len(self.neck.stages), self.neck.dim)))
        self.queries = nn.Parameter(nn.init.normal_(torch.empty(specification.queries, dim)))
        self.decoder = nn.ModuleList(Stage(stage, dim, (specification.queries,)) for stage in specification.decoder)
        self.norm: Part | None = None if specification.norm is None else build_part(specification.norm, dim)
        self.class_head: Part = build_part(specification.class_head, dim, specification.classes + 1)
        self.box_head: Part = build_part(specification.box_head, dim, 4)
        anchors = specification.anchors
        self.anchors: Part | None = None if anchors is None else build_part(anchors, dim, 2)

    def check_parts(self) -> None:
        """As any network; grids and places are offered if a part asks for them.

        Raises:
            UserError: a part asks for the place of each query, and queries have none.
        """
        asked = offers_taken(self) & {"memory_grids", "positions"}
        if "positions" in asked and self.anchors is None:
            raise UserError(
                f"A part of {self._specification.name} attends to points around the place of each query, and queries "
                "have none: say what their anchors are."
            )
        self.offers = frozenset({"memory", "memory_mask"}) | asked  # type: ignore[misc]
        super().check_parts()

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"queries": (None, RESIDUAL)}

    def widths(self) -> list[Width]:
        """Of the backbone, the pyramid's sums and the queries; the memory's stays, as its sines belong to it."""
        stages = (f"decoder.{index}" for index in range(len(self.decoder)))
        readers = ("", *stages, "class_head", "box_head", *(("norm",) if self.norm is not None else ()))
        readers += () if self.anchors is None else ("anchors",)
        queries = Width(tuple((path, RESIDUAL.name) for path in readers))
        return [*self.neck.widths("neck", self.backbone.widths("backbone"), "backbone"), queries]

    def forward(
        self,
        input: Float[Tensor, "batch channels height width"],
        context: Context = EMPTY,
        *,
        lengths: Int[Tensor, "batch axes"] | None = None,
    ) -> dict[str, Tensor]:
        """Scores ``classes`` ``(batch, queries, classes + 1)``, the last of no object, and ``boxes``.

        A box ``(batch, queries, 4)`` has its centre (x, y), width and height as shares of the picture's sides (of its
        real part, where it is padded). In training there is such a pair for each earlier stage of the decoder as well,
        ``classes_0`` and ``boxes_0`` from the first on.

        Args:
            input: pictures.
            context: a ``mask`` ``(batch, height, width)`` in it is false for padding.
            lengths: the height and width of each picture, where the input says that pictures have several.

        Raises:
            UserError: the input does not fit, or lengths are missing.
        """
        memory = self.remember(input, context, lengths)
        x = self.queries.repeat(input.shape[0], 1, 1)
        anchors = None if self.anchors is None else self.anchors(x)
        if anchors is not None and "positions" in self.offers:
            memory = memory.replace(positions=anchors.sigmoid())
        answers: dict[str, Tensor] = {}
        for index, stage in enumerate(self.decoder):
            x, _ = stage(x, memory)
            last = index == len(self.decoder) - 1
            if last or self.training:
                normed = x if self.norm is None else self.norm(x)
                boxes = self.box_head(normed)
                if anchors is not None:
                    boxes = torch.cat([boxes[..., :2] + anchors, boxes[..., 2:]], dim=-1)
                name = "" if last else f"_{index}"
                answers |= {f"classes{name}": self.class_head(normed), f"boxes{name}": boxes.sigmoid()}
        return answers

    def remember(self, input: Tensor, context: Context = EMPTY, lengths: Tensor | None = None) -> Context:
        """What the queries attend to: ``memory`` ``(batch, tokens, dim)`` of all maps, its mask and its grids."""
        source = self._specification.input
        source.check(input)
        self.backbone.check_size(tuple(input.shape[2:]))
        told = self.masked(source, input, context, lengths)
        maps: list[Map] = self.neck(self.backbone.maps(input, self.neck.stages, told))
        tokens = []
        for level, (x, about) in enumerate(maps):
            places = places_of(x.shape[1:-1], about.mask, device=x.device)
            sines = sines_of_places(places, x.shape[-1]).to(x.dtype)
            tokens.append((x + sines + self.levels[level]).flatten(1, -2))
        masks = [about.mask.flatten(1) for _, about in maps if about.mask is not None]
        memory = Context(memory=torch.cat(tokens, 1), memory_mask=torch.cat(masks, 1) if masks else None, checked=True)
        if "memory_grids" in self.offers:
            memory = memory.replace(memory_grids=tuple(tuple(x.shape[1:-1]) for x, _ in maps))
        return memory

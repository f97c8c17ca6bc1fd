"""Detectors of objects by queries: a residual network, a pyramid over its maps, and queries that attend to all of them.

Sources: End-to-End Object Detection with Transformers, arXiv 2005.12872; Deformable DETR, arXiv 2010.04159.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from formwright.models import register_family
from formwright.models.topologies.query_decoder import QueryDecoderSpec
from formwright.models.vision.resnet import SMALL_IMAGE_STEM, resnet
from formwright.nn.pyramid import NeckSpec
from formwright.nn.specification import BlockSpec, BranchSpec, PartSpec, StageSpec, part


def query_detector(
    *,
    name: str = "query_detector",
    depths: Sequence[int],
    dims: Sequence[int],
    levels: int = 3,
    stem: PartSpec = SMALL_IMAGE_STEM,
    dim: int = 64,
    depth: int = 3,
    heads: int = 4,
    queries: int = 20,
    reading: str = "deformable_attention",
    mlp_ratio: float = 2.0,
    drop_path: float = 0.0,
    classes: int = 80,
    channels: int = 3,
    image_size: int | tuple[int, int] = 64,
    sized: bool = False,
) -> QueryDecoderSpec:
    """A detector of objects.

    Args:
        depths: blocks of each stage of the backbone.
        dims: channels of each stage.
        levels: how many maps the queries attend to, those of the last stages.
        stem: the backbone's embedding.
        dim: channels of the pyramid and of the queries.
        depth: layers of the decoder.
        heads: attention heads.
        queries: how many objects can be found at most.
        reading: how queries attend to the maps: ``deformable_attention``, to a few points around their own place, or
            ``cross_attention``, to all places.
        mlp_ratio: of the decoder's MLPs.
        drop_path: share of samples whose residual branches are dropped in the backbone, growing from 0 with the depth.
        classes: of objects.
        channels: of the pictures.
        image_size: their side, or height and width.
        sized: whether pictures of several sizes come padded, with their ``lengths``.
    """
    backbone = resnet(
        depths=depths, dims=dims, stem=stem, drop_path=drop_path, channels=channels, image_size=image_size
    )
    count = len(backbone.stages)
    places = reading == "deformable_attention"
    reads = part(reading, heads=heads, **({"levels": levels} if places else {}))
    parts = (part("attention", heads=heads, qkv_bias=True), reads, part("mlp", ratio=mlp_ratio, activation="relu"))
    block = BlockSpec(tuple(BranchSpec(inner, norm=part("layer_norm")) for inner in parts))
    return QueryDecoderSpec(
        family="query_detector",
        name=name,
        task="object-detection",
        input=dataclasses.replace(backbone.input, sized=sized),  # type: ignore[arg-type]
        classes=classes,
        queries=queries,
        embed=backbone.embed,
        embed_dim=backbone.embed_dim,
        stages=backbone.stages,
        neck=NeckSpec(tuple(range(count - levels, count)), dim),
        decoder=(StageSpec(dim=dim, blocks=(block,)),) * depth,
        norm=part("layer_norm"),
        class_head=part("token_scores", bias=True),
        box_head=part("mlp_scores"),
        anchors=part("token_scores", bias=True) if places else None,
        initialization="xavier",
    )


_SMALL = {"depths": (1, 1, 1), "dims": (16, 32, 64), "stem": part("conv_norm_stem", kernel=3, strides=(2,))}

register_family(
    query_detector,
    {"query_detector_small": _SMALL, "query_detector_small_dense": {**_SMALL, "reading": "cross_attention"}},
    family="query_detector",
    task="object-detection",
)

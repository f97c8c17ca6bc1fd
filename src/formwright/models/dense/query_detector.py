"""Detectors of objects by queries: a residual network, a pyramid over its maps, and queries that attend to all of them.

Sources: End-to-End Object Detection with Transformers, arXiv 2005.12872; Deformable DETR, arXiv 2010.04159.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from formwright.errors import UserError
from formwright.models import register_family
from formwright.models.topologies.query_decoder import QueryDecoderSpec
from formwright.models.vision.common import check_stages, drop_path_rates, image_input
from formwright.nn.pyramid import NeckSpec
from formwright.nn.specification import BlockSpec, BranchSpec, StageSpec, part

_NORM = part("batch_norm")


def query_detector(
    *,
    name: str = "query_detector",
    depths: Sequence[int],
    dims: Sequence[int],
    levels: int = 3,
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

    Raises:
        UserError: options per stage of different lengths, or more levels than stages.
    """
    check_stages(depths=depths, dims=dims)
    if not 1 <= levels <= len(dims):
        raise UserError(f"A backbone of {len(dims)} stages has maps of 1 to {len(dims)} levels, not of {levels}.")
    places = reading == "deformable_attention"
    reads = part(reading, heads=heads, **({"levels": levels} if places else {}))
    parts = (part("attention", heads=heads, qkv_bias=True), reads, part("mlp", ratio=mlp_ratio, activation="relu"))
    block = BlockSpec(tuple(BranchSpec(inner, norm=part("layer_norm")) for inner in parts))
    source = image_input(channels, image_size)
    return QueryDecoderSpec(
        family="query_detector",
        name=name,
        task="object-detection",
        input=dataclasses.replace(source, sized=sized),
        classes=classes,
        queries=queries,
        embed=part("patch_embedding", kernel=7, stride=4, padding=3, norm=_NORM),
        stages=_residual_stages(depths, dims, drop_path),
        neck=NeckSpec(tuple(range(len(dims) - levels, len(dims))), dim),
        decoder=(StageSpec(dim=dim, blocks=(block,)),) * depth,
        norm=part("layer_norm"),
        class_head=part("token_scores", bias=True),
        box_head=part("mlp_scores", zero_init=places),
        anchors=part("token_scores", bias=True) if places else None,
        initialization="xavier",
    )


def _residual_stages(depths: Sequence[int], dims: Sequence[int], drop_path: float) -> tuple[StageSpec, ...]:
    """Residual convolutions with batch norms at strides 4, 8, 16 and so on."""
    stages = []
    for index, (dim, rates) in enumerate(zip(dims, drop_path_rates(drop_path, depths), strict=True)):
        convolutions = part("normed_convolutions", norm=_NORM)
        branches = [BranchSpec(convolutions, post_norm=part("activation"), drop_path=rate) for rate in rates]
        coarser = part("downsampling", norm=_NORM, bias=False) if index else None
        stages.append(StageSpec(dim=dim, blocks=tuple(BlockSpec((each,)) for each in branches), downsample=coarser))
    return tuple(stages)


_SMALL = {"depths": (1, 1, 1), "dims": (32, 48, 64)}

register_family(
    query_detector,
    {"query_detector_small": _SMALL, "query_detector_small_dense": {**_SMALL, "reading": "cross_attention"}},
    family="query_detector",
    task="object-detection",
)

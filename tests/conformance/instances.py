"""A tiny instance of everything that is registered, and how to call it.

A part that its registry name, a width of 16 and default options suffice to build is found by itself. Others have an
entry in :data:`TINY_PARTS`; an entry may also add cases with other options. Families of models that are too big to be
checked at their smallest published size have options in :data:`TINY_FAMILIES`, and the name of a variant where the
smallest one is not typical.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from formwright.batch import call as ask
from formwright.models import MODELS, Model, Network, create_model, model_specification
from formwright.models.series.temporal import temporal_transformer
from formwright.models.topologies.ensemble import EnsembleSpec
from formwright.models.topologies.restorer import RestorerSpec
from formwright.models.vision.linear import linear_pictures
from formwright.models.vision.resnet import SMALL_IMAGE_STEM
from formwright.nn import PARTS, BlockSpec, BranchSpec, Context, Part, PartSpec, StageSpec, build_part, part
from formwright.nn.context import OFFERS
from formwright.nn.specification import ChainSpec, ImageInput, Input, NetworkSpec, SeriesInput, TokenInput, VectorInput

#: Odd and unequal sides, by number of axes; the second set is another size than the one a part is built for.
GRIDS = {1: (7,), 2: (5, 7), 3: (3, 5, 4)}
OTHER_GRIDS = {1: (10,), 2: (6, 3), 3: (4, 3, 2)}
CLASSES = 5

#: Names of the checks that a part can be exempt from, with a reason, in ``Promises.exemptions``;
#: ``gradients:score.bias`` exempts one parameter.
CHECKS = frozenset(
    {"tokens", "gradients", "mask", "padding", "context", "cut", "export", "compile", "bfloat16", "residual"}
)


@dataclass(frozen=True)
class Case:
    """How to build and call one part.

    Attributes:
        name: its registered name.
        variant: what sets this case apart from others of the same part.
        options: its options.
        dim: channels of the tokens.
        in_dim: channels of what comes in, for parts that change the width.
        prefix: prefix tokens that the part needs in front of the others.
        channels_first: whether it takes a model's input, ``(batch, channels, *size)``, instead of tokens.
        dimensions: numbers of grid axes, where the options allow fewer than the part promises.
        offers: the shape that each offer has for a sample, by the offer's name, where the part needs it.
    """

    name: str
    variant: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    dim: int = 16
    in_dim: int = 8
    prefix: int = 0
    channels_first: bool = False
    dimensions: tuple[int, ...] | None = None
    offers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def grids(self) -> list[tuple[int, ...]]:
        """A grid to build the part for, on every number of axes that it promises to take."""
        promises = PARTS[self.name].promises
        axes = promises.dimensions if self.dimensions is None else self.dimensions
        return [tuple(side * promises.multiple for side in GRIDS[count]) for count in axes]

    def __str__(self) -> str:
        return f"{self.name}:{self.variant}" if self.variant else self.name


_NORM = part("layer_norm")
_SAME_PADDED = part("inverted_convolutions", ratio=2, kernel=5, same_padding=True)
_DEPTHWISE = part("inverted_convolutions", ratio=1)
_ATTENTION_BLOCK = BlockSpec((BranchSpec(part("attention", heads=2), norm=_NORM), BranchSpec(part("mlp"), norm=_NORM)))
_READING_BLOCK = BlockSpec((BranchSpec(part("cross_attention", heads=2), norm=_NORM), BranchSpec(part("mlp"))))
_CAUSAL_BLOCK = BlockSpec((BranchSpec(part("attention", heads=2, causal=True), norm=_NORM), BranchSpec(part("mlp"))))


def _sequence_cases(name: str, **options: Any) -> tuple[Case, ...]:
    """A mixer of sequences, seeing both sides and seeing what came before."""
    return Case(name, options=options), Case(name, "causal", options={**options, "causal": True})


TINY_PARTS: dict[str, tuple[Case, ...]] = {
    "attention": (
        Case("attention", options={"heads": 4, "qkv_bias": True}),
        Case("attention", "bare", options={"heads": 2, "head_dim": 4, "bias": False}),
        Case("attention", "class-token", options={"heads": 2}, prefix=1),
        Case("attention", "causal", options={"heads": 4, "causal": True}),
        Case(
            "attention",
            "grouped",
            options={"heads": 4, "kv_heads": 2, "causal": True, "window": 3, "rotary": {}, "qk_norm": part("rms_norm")},
        ),
    ),
    "biased_attention": (
        Case("biased_attention", options={"heads": 4}),
        Case(
            "biased_attention",
            "causal",
            options={"heads": 2, "head_dim": 4, "causal": True, "scale": 1.0, "qkv_bias": True, "bias": True},
        ),
    ),
    "bucketed_position_bias": (
        Case("bucketed_position_bias", options={"heads": 4, "buckets": 8, "reach": 10}),
        Case("bucketed_position_bias", "causal", options={"heads": 2, "causal": True}),
    ),
    "cross_attention": (
        Case("cross_attention", options={"heads": 4}),
        Case("cross_attention", "wide", options={"heads": 2, "head_dim": 4, "scale": 1.0, "qkv_bias": True}),
    ),
    "deformable_attention": (
        Case("deformable_attention", options={"heads": 4, "levels": 2}),
        Case("deformable_attention", "narrow", options={"heads": 2, "levels": 2, "points": 1}),
    ),
    "mlp_scores": (Case("mlp_scores"), Case("mlp_scores", "zero", options={"hidden": 6, "zero_init": True})),
    "learned_positions": (
        Case("learned_positions"),
        Case("learned_positions", "offset", options={"offset": 2, "norm": _NORM}),
    ),
    "token_scores": (
        Case("token_scores"),
        Case("token_scores", "scaled", options={"norm": _NORM, "scale": 0.25, "bias": True, "learned_bias": False}),
    ),
    "patch_embedding": (
        Case("patch_embedding", options={"kernel": 3, "stride": 2, "padding": 1}, channels_first=True),
        Case("patch_embedding", "normed", options={"kernel": 2, "norm": _NORM}, channels_first=True),
    ),
    "convolutional_projection_attention": (
        Case("convolutional_projection_attention", options={"heads": 4}),
        Case("convolutional_projection_attention", "linear", options={"heads": 2, "method": "linear"}),
        Case("convolutional_projection_attention", "averages", options={"heads": 2, "method": "avg"}),
        Case("convolutional_projection_attention", "class-token", options={"heads": 2}, prefix=1),
    ),
    "convolutional_tokenizer": (
        Case("convolutional_tokenizer", options={"layers": 2, "hidden": 8}, channels_first=True),
        Case("convolutional_tokenizer", "plain", options={"pooling": False, "bias": True}, channels_first=True),
    ),
    "rescaled_embedding": (
        Case(
            "rescaled_embedding",
            options={
                "embed": part("patch_embedding", kernel=2),
                "factor": (0.5,) * 8,
                "offset": (0.1,) * 8,
            },
            channels_first=True,
            dimensions=(2,),
        ),
    ),
    "conv_norm_stem": (
        Case("conv_norm_stem", options={"hidden": (8,), "strides": (2, 1)}, channels_first=True),
        Case("conv_norm_stem", "same", options={"same_padding": True, "last_activation": True}, channels_first=True),
    ),
    "downsampling": (
        Case("downsampling"),
        Case("downsampling", "normed", options={"pre_norm": _NORM, "norm": part("group_norm")}),
        Case("downsampling", "batch-normed", options={"norm": part("batch_norm")}),
    ),
    "token_merging": (
        Case("token_merging", options={"remove": 2, "by": "tokens"}),
        Case("token_merging", "class-token", options={"remove": 2, "by": "tokens"}, prefix=1),
    ),
    "position_table": (Case("position_table"), Case("position_table", "prefix", options={"prefix": 2}, prefix=2)),
    "resized_position_table": (
        Case("resized_position_table"),
        Case("resized_position_table", "prefix", options={"prefix": 2}, prefix=2),
    ),
    "chain": (
        Case("chain", options={"parts": (part("depthwise_convolution", kernel=3), _NORM, part("mlp"))}),
        Case("chain", "per-token", options={"parts": (_NORM, part("mlp", ratio=2.0))}),
        Case("chain", "causal", options={"parts": (part("attention", heads=2, causal=True), part("activation"))}),
        Case("chain", "attention", options={"parts": (part("attention", heads=2), part("mlp"))}),
    ),
    "group": (
        Case("group", options={"blocks": (_ATTENTION_BLOCK,), "parts": (part("depthwise_convolution", kernel=3),)}),
        Case("group", "causal", options={"blocks": (_CAUSAL_BLOCK, _CAUSAL_BLOCK)}),
        Case("group", "memory", options={"blocks": (_CAUSAL_BLOCK, _READING_BLOCK)}),
    ),
    "parallel": (
        Case("parallel", options={"parts": (part("depthwise_convolution", kernel=3), part("attention", heads=2))}),
        Case("parallel", "causal", options={"parts": (part("attention", heads=2, causal=True), part("mlp"))}),
    ),
    "flattened": (
        Case("flattened", options={"part": part("attention", heads=2)}),
        Case("flattened", "sequence", options={"part": part("mamba", states=3, rank=2)}),
        Case("flattened", "per-token", options={"part": part("mlp")}),
    ),
    "normed_convolutions": (
        Case("normed_convolutions"),
        Case("normed_convolutions", "batch-normed", options={"norm": part("batch_norm"), "bias": True}),
        Case("normed_convolutions", "biased", options={"activation": "leaky_relu", "bias": True}),
    ),
    "convolution_block": (
        Case("convolution_block"),
        Case("convolution_block", "pooled", options={"pool": 2, "norm": part("layer_norm")}),
    ),
    "convolution_group": (
        Case("convolution_group"),
        Case("convolution_group", "three", options={"pool": 1, "convolutions": 3, "activation": "relu"}),
    ),
    "whitened_patches": (
        Case("whitened_patches", channels_first=True),
        Case("whitened_patches", "strided", options={"stride": 2}, dim=6, channels_first=True),
    ),
    "upsampling": (Case("upsampling"), Case("upsampling", "three", options={"stride": 3})),
    "each": (
        Case("each", options={"part": part("attention", heads=2)}),
        Case("each", "second-axis", options={"part": part("depthwise_convolution", kernel=3), "axis": 1}),
        Case("each", "per-token", options={"part": part("mlp")}, dimensions=(2,)),
    ),
    "inception_mixer": (
        Case("inception_mixer", options={"heads": 4, "attention_heads": 2, "pool": 2}),
        Case("inception_mixer", "no-pooling", options={"heads": 4, "attention_heads": 1}),
        Case("inception_mixer", "attention-alone", options={"heads": 2, "attention_heads": 2}),
        Case("inception_mixer", "no-attention", options={"heads": 4, "attention_heads": 0}),
    ),
    "adaptive_norm": (
        Case("adaptive_norm", offers={"condition": (16,)}),
        Case("adaptive_norm", "narrow", options={"condition_dim": 6, "norm": _NORM}, offers={"condition": (6,)}),
    ),
    "modulated": (
        Case("modulated", options={"part": part("attention", heads=2)}, offers={"condition": (16,)}),
        Case(
            "modulated",
            "causal",
            options={"part": part("attention", heads=4, causal=True), "norm": part("rms_norm"), "condition_dim": 6},
            offers={"condition": (6,)},
        ),
        Case("modulated", "per-token", options={"part": part("mlp", ratio=2.0)}, offers={"condition": (16,)}),
        Case(
            "modulated",
            "class-token",
            options={"part": part("attention", heads=2)},
            prefix=1,
            offers={"condition": (16,)},
        ),
    ),
    "grid_sine_positions": (Case("grid_sine_positions", dim=24),),
    "unpatchify": (
        Case("unpatchify"),
        Case("unpatchify", "class-token", options={"patch": 3, "norm": _NORM}, prefix=1),
        Case("unpatchify", "told", options={"norm": part("adaptive_norm")}, offers={"condition": (16,)}),
    ),
    "class_token_pool": (Case("class_token_pool", prefix=1),),
    "classifier": (
        Case("classifier", options={"norm": _NORM}),
        Case("classifier", "sequence-pool", options={"pool": part("sequence_pool"), "pooled_norm": _NORM}),
        Case("classifier", "class-token", options={"pool": part("class_token_pool")}, prefix=1),
    ),
    "features": (
        Case("features"),
        Case("features", "normed", options={"norm": _NORM}),
        Case("features", "pooled", options={"pool": part("mean_pool"), "pooled_norm": _NORM}),
    ),
    "distilled_classifier": (Case("distilled_classifier", options={"norm": _NORM}, prefix=2),),
    "inverted_convolutions": (
        Case("inverted_convolutions", options={"ratio": 2}),
        Case("inverted_convolutions", "depthwise", options={"ratio": 1, "kernel": 5}),
    ),
    "convolutional_downsampling": (
        Case("convolutional_downsampling"),
        Case("convolutional_downsampling", "same", options={"convolutions": _SAME_PADDED}),
        Case("convolutional_downsampling", "kept", options={"convolutions": _DEPTHWISE, "stride": 1}),
    ),
    "inverted_downsampling": (
        Case("inverted_downsampling"),
        Case("inverted_downsampling", "branched", options={"branches": (part("mlp"),)}),
    ),
    "residual_downsampling": (
        Case("residual_downsampling"),
        Case("residual_downsampling", "bottleneck", options={"convolutions": part("bottleneck_convolutions")}),
    ),
    "layer_norm": (Case("layer_norm"), Case("layer_norm", "plain", options={"affine": False})),
    "lookup_mlp": (
        Case("lookup_mlp"),
        Case("lookup_mlp", "scaled", options={"bits": 4, "extra_bits": 1, "score": "scaled_vertex_probability"}),
    ),
    "mlp_classifier": (Case("mlp_classifier", options={"pooled_norm": _NORM}),),
    "delta_rule": (
        Case("delta_rule", options={"heads": 2}),
        Case("delta_rule", "gated", options={"heads": 4, "kernel": 2, "gate": True, "negative_eigenvalues": True}),
    ),
    "gated_linear_attention": (
        Case("gated_linear_attention", options={"heads": 2}),
        Case("gated_linear_attention", "wide-keys", options={"heads": 4, "expand_keys": 1.0, "rank": 3}),
    ),
    "frame_subsampling": (
        Case("frame_subsampling"),
        Case("frame_subsampling", "causal", options={"strides": (3, 1), "kernel": 5, "causal": True}),
    ),
    "frame_convolutions": (
        Case("frame_convolutions", options={"layers": 2}),
        Case("frame_convolutions", "causal", options={"layers": 3, "causal": True}),
    ),
    "linear_attention": (
        Case("linear_attention", options={"heads": 4}),
        Case("linear_attention", "causal", options={"heads": 2, "causal": True}),
        Case("linear_attention", "class-token", options={"heads": 2, "feature_map": "softmax"}, prefix=1),
    ),
    "legendre_memory": (
        Case("legendre_memory", options={"window": 5}),
        Case("legendre_memory", "low-order", options={"window": 12, "order": 4}),
    ),
    "mamba": (
        Case("mamba", options={"states": 3, "rank": 2}),
        Case("mamba", "time-invariant", options={"states": 3, "selective": False, "kernel": 2}),
    ),
    "mamba2": (
        Case("mamba2", options={"states": 3, "head_dim": 8, "groups": 2, "chunk": 4}),
        Case("mamba2", "ungrouped", options={"states": 5, "head_dim": 16}),
    ),
    "mlp": (
        Case("mlp"),
        Case("mlp", "star-relu", options={"activation": "star_relu", "bias": False}),
        Case("mlp", "poly-norm", options={"activation": "poly_norm", "bias": False}),
        Case("mlp", "poly-relu", options={"activation": "poly_relu"}),
    ),
    "relative_attention": (
        Case("relative_attention", options={"heads": 2}),
        Case("relative_attention", "window", options={"heads": 4, "head_dim": 2, "window": 3}),
    ),
    "mixture_of_experts": (
        Case("mixture_of_experts", options={"experts": 3}),
        Case("mixture_of_experts", "switch", options={"experts": 2, "active": 1, "expert": part("glu", hidden=8)}),
    ),
    "top_k_mlp": (Case("top_k_mlp"), Case("top_k_mlp", "bare", options={"k": 5, "bias": False})),
    "lookup_attention": (
        Case("lookup_attention", options={"heads": 4}),
        Case("lookup_attention", "causal", options={"heads": 2, "bits": 4, "causal": True, "rotary": {}}),
    ),
    "pattention_attention": (
        Case("pattention_attention", options={"heads": 4}),
        Case(
            "pattention_attention",
            "causal",
            options={"heads": 2, "tokens": 12, "output_tokens": 20, "causal": True, "rotary": {"fraction": 0.5}},
        ),
    ),
    "pattention": (
        Case("pattention"),
        Case("pattention", "gelu-first", options={"tokens": 8, "normalization": "gelu_l2_norm"}),
        Case("pattention", "softmax", options={"tokens": 8, "normalization": "softmax"}),
    ),
    "patch_merging": (Case("patch_merging", options={"norm": _NORM}),),
    "packed_attention": (
        Case("packed_attention", options={"heads": 4, "qkv_bias": True}),
        Case("packed_attention", "causal", options={"heads": 2, "causal": True, "rotary": {"fraction": 0.5}}),
    ),
    "inverted_embedding": (
        Case("inverted_embedding"),
        Case("inverted_embedding", "covariates", options={"covariates": 3}),
        Case("inverted_embedding", "plain", options={"normalise": False}),
    ),
    "prob_sparse_attention": (
        Case("prob_sparse_attention"),
        Case("prob_sparse_attention", "scrambled", options={"heads": 2, "factor": 2, "scrambled": True}),
    ),
    "variate_tokens": (Case("variate_tokens", dim=7),),
    "forecast": (Case("forecast", options={"norm": _NORM}),),
    "pixels": (Case("pixels", dim=8 * 5 * 7, channels_first=True),),
    "oriented_gradients": (Case("oriented_gradients", dim=36 * 1 * 2, channels_first=True),),
    "radial_basis": (Case("radial_basis"),),
    "minirocket": (Case("minirocket", dim=2 * 84),),
    "lag_table": (
        Case("lag_table", options={"horizon": 2}, dim=2 * 15),
        Case("lag_table", "season", options={"horizon": 3, "seasons": (3, 6)}, dim=3 * 19),
    ),
    "boosted_trees": (Case("boosted_trees", dim=4 * CLASSES),),
    "values_and_spectrum": (Case("values_and_spectrum", dim=8 * (7 + 4)),),
    # These take ids: tests/nn/test_text_stems.py
    "ngram_embedding": (),
    "convolutional_ngrams": (),
    "convolutional_text_tokenizer": (),
    "token_embedding": (),  # takes ids: tests/models/test_streams.py
    "hidden_classifier": (Case("hidden_classifier", options={"hidden": 8, "norm": _NORM}),),
    "pair_classifier": (),  # takes two vectors: tests/nn/test_pairs.py, and the network "pair"
    "local_attention": _sequence_cases("local_attention", block=3),
    "fixed_attention": (
        *_sequence_cases("fixed_attention", block=3, summary=1),
        Case("fixed_attention", "class-token", options={"block": 3, "summary": 2}, prefix=1),
    ),
    "strided_attention": _sequence_cases("strided_attention", stride=3),
    "longformer_attention": (
        Case("longformer_attention", options={"window": 4, "global_tokens": 2}),
        Case("longformer_attention", "class-token", options={"window": 3}, prefix=1),
    ),
    "linformer_attention": (Case("linformer_attention", options={"rank": 4}),),
    "lsh_attention": (Case("lsh_attention", options={"chunk": 2, "buckets": 4, "hashes": 2}),),
    "sinkhorn_attention": (
        Case("sinkhorn_attention", options={"block": 3}),
        Case("sinkhorn_attention", "softmax", options={"block": 2, "iterations": 0}),
    ),
    "random_synthesizer": (
        *_sequence_cases("random_synthesizer", rank=4),
        Case("random_synthesizer", "whole", options={"rank": None}),
    ),
    "dense_synthesizer": _sequence_cases("dense_synthesizer"),
    "bigbird_attention": (Case("bigbird_attention", options={"block": 1, "random": 1}),),
    "combiner_fixed_attention": _sequence_cases("combiner_fixed_attention", segment=3),
    "combiner_logsparse_attention": (Case("combiner_logsparse_attention"),),
    "combiner_axial_attention": (Case("combiner_axial_attention", options={"columns": 3}),),
    "combiner_mixture_attention": (Case("combiner_mixture_attention", options={"columns": 3}),),
    "performer_attention": _sequence_cases("performer_attention", features=12),
    "cosformer_attention": _sequence_cases("cosformer_attention"),
    "typed_token_embedding": (),  # takes ids: tests/models/language/test_transformer.py
    "window_attention": (
        Case("window_attention", options={"heads": 4, "window": 2}),
        Case("window_attention", "shifted", options={"heads": 2, "window": 2, "shifted": True}),
    ),
}

TINY_FAMILIES: dict[str, dict[str, Any]] = {
    "deltanet": {"dim": 32, "depth": 3, "heads": 2, "hidden": 24, "attention_layers": (1,), "window": 4},
    "ctc_encoder": {"dim": 16, "depth": 1, "heads": 2, "channels": 6, "length": 20, "sized": False},
    "lmuformer": {"dim": 16, "window": 8},
    "gla": {"dim": 32, "depth": 2, "heads": 2, "hidden": 24},
    "airbench": {"dims": (8, 16, 16), "image_size": 33},
    "cct": {"dim": 32, "depth": 2, "image_size": 32},
    "convnext": {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32), "image_size": 64, "variant": "convnext_tiny"},
    "cvt": {"depths": (1, 1, 2), "dims": (8, 16, 24), "heads": (2, 2, 2), "image_size": 64},
    "efficientnet_lite": {
        "dims": (8, 12, 16),
        "depths": (1, 3, 2),
        "strides": (1, 2, 2),
        "kernels": (3, 3, 5),
        "ratios": (1, 3, 3),
        "stem_dim": 8,
        "head_dim": 24,
        "image_size": 64,
    },
    "efficientvit": {"dims": (16, 24, 32), "depths": (1, 1, 1), "heads": (2, 2, 2), "image_size": 128},
    "mamba": {"dim": 16, "depth": 2, "states": 3},
    "mamba2": {"dim": 16, "depth": 2, "states": 3, "head_dim": 8},
    "mamba2_hybrid": {
        "dim": 16,
        "depth": 4,
        "attention_ratio": 0.25,
        "mlp_ratio": 0.25,
        "heads": 4,
        "kv_heads": 2,
        "states": 3,
        "head_dim": 8,
        "groups": 2,
    },
    "poolformer": {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32), "image_size": 64},
    "metaformer_baselines": {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32)},
    "itransformer": {"dim": 16, "hidden": 24, "heads": 2, "length": 12, "horizon": 5, "variates": 3},
    "linear_forecaster": {"length": 12, "horizon": 5, "variates": 3},
    "iformer": {
        "depths": (1, 1, 2, 1),
        "dims": (8, 16, 24, 32),
        "heads": (2, 2, 4, 4),
        "attention_heads": (1, 1, 2, 2, 3),
    },
    "swin": {"depths": (2, 1, 2, 1), "dims": (8, 16, 24, 32), "heads": (2, 2, 2, 2), "window": 4, "image_size": 64},
    "resnet": {"depths": (2, 1, 1, 2), "dims": (8, 16, 24, 32)},
    "bert": {"dim": 16, "depth": 2, "heads": 2, "hidden": 24, "separator": 7, "padding": 0},
    "decoder": {"dim": 16, "depth": 2, "heads": 2},
    "encoder": {"dim": 16, "depth": 2, "heads": 2, "padding": 0},
    "matformer": {"dim": 16, "depth": 2, "heads": 2, "hidden": 24},
    "memoryformer": {"dim": 16, "depth": 2, "heads": 2},
    "polycom": {"dim": 16, "depth": 2, "heads": 2, "hidden": 24},
    "tokenformer": {"dim": 16, "depth": 2, "heads": 2},
    "gpt2": {"dim": 16, "depth": 2, "heads": 2, "hidden": 24},
    "llama": {"dim": 16, "depth": 2, "heads": 4, "hidden": 24, "kv_heads": 2},
    "t2": {"bands": 3, "dim": 8, "heads": 2, "hidden": 12, "length": 10, "classes": CLASSES, "variant": "t2_plasticc"},
    "algoformer": {"dim": 16, "heads": 2, "loops": 3, "variant": "algoformer"},
    "gtrxl": {"dim": 16, "depth": 2, "heads": 2, "head_dim": 4, "memory": 5},
    "transformer_xl": {"dim": 16, "depth": 2, "heads": 2, "head_dim": 4, "hidden": 24, "window": 5},
    "masformer": {"dim": 32, "depth": 2, "heads": 2, "full": (1,), "window": 3},
    "lra": {"dim": 32, "depth": 2, "heads": 2, "hidden": 16, "variant": "lra_text"},
    "wide_attention": {"dim": 16, "depth": 1, "heads": 4, "head_dim": 8, "hidden": 24, "padding": 0},
    "vit": {"dim": 32, "depth": 2, "heads": 2, "image_size": 32},
}

_SHORT = {"vocabulary": 11, "length": 9, "dim": 16, "depth": 2, "hidden": 24}

_AHEAD = {"dim": 16, "hidden": 24, "depth": 1, "heads": 2, "length": 7, "horizon": 4, "variates": 3}

_DRAWN = {"dim": 16, "depth": 2, "heads": 2, "classes": CLASSES, "channels": 2, "image_size": (8, 4)}

_FINDING = {
    "dims": (8, 12),
    "depths": (1, 1),
    "levels": 2,
    "dim": 16,
    "depth": 2,
    "heads": 2,
    "queries": 5,
    "classes": CLASSES,
    "image_size": 32,
}
_SHALLOW = {"dims": (8, 12), "depths": (1, 1), "classes": CLASSES, "image_size": 16}


def _ensemble(**options: Any) -> EnsembleSpec:
    """A small ResNet and a linear classifier of pixels."""
    small = model_specification("resnet18", depths=(1, 1), dims=(8, 12), stem=SMALL_IMAGE_STEM, **options)
    members = (small, linear_pictures(features="pixels", **options))
    dictionaries = tuple(member.to_dict() for member in members)
    return EnsembleSpec(family="ensemble", name="ensemble", task="image-classification", members=dictionaries)


def windowed_restorer(*, window: int = 4, multiple: int = 1) -> RestorerSpec:
    """Two blocks of windows, the second shifted, between a convolution and a sub-pixel layer, with a skip."""

    def block(shifted: bool) -> BlockSpec:
        attention = part("window_attention", heads=2, window=window, shifted=shifted)
        return BlockSpec((BranchSpec(attention, norm=_NORM), BranchSpec(part("mlp", ratio=2.0), norm=_NORM)))

    return RestorerSpec(
        family="windowed_restorer",
        name="windowed_restorer",
        task="restoration",
        input=ImageInput(3, (9, 9)),
        embed=part("patch_embedding", kernel=3, stride=1, padding=1),
        stages=(StageSpec(dim=8, blocks=(block(False), block(True))),),
        head=part("pixel_shuffle", scale=2),
        scale=2,
        skip=True,
        multiple=multiple,
    )


#: Networks that are no chains, by what sets them apart: a variant, or the function of a family without named ones, and
#: options that make it small. Each kind has one.
TINY_NETWORKS: dict[str, tuple[str | Callable[..., NetworkSpec], dict[str, Any]]] = {
    "t5": ("t5_small", {**_SHORT, "heads": 2, "head_dim": 4, "buckets": 8, "reach": 6}),
    "t5_v1_1": ("t5_v1_1_small", {**_SHORT, "heads": 2, "head_dim": 4}),
    "bart": ("bart_base", {**_SHORT, "heads": 2}),
    "unet_1d": ("unet_1d_small", _SHALLOW),
    "unet_2d_sum": ("unet_2d_small", {**_SHALLOW, "join": "sum", "upsampling": part("interpolated_upsampling")}),
    "unet_2d_attention": (
        "unet_2d_attention",
        {**_SHALLOW, "mixers": ("convolutions", part("attention", heads=2)), "sized": True},
    ),
    "unet_3d": ("unet_3d_small", {**_SHALLOW, "image_size": 8}),
    "tempo": (
        "tempo",
        {
            "length": 24,
            "horizon": 5,
            "dim": 16,
            "depth": 2,
            "heads": 2,
            "vocabulary": 20,
            "positions": 40,
            "patch": 8,
            "stride": 4,
            "kernel": 5,
            "sentences": ((1, 2), (1, 3), (1, 4)),
            "rank": 2,
        },
    ),
    "series_encoder": ("series_encoder_1k", {"heads": 2, "patch": 4, "components": 2, "length": 6}),
    "series_decoder": ("series_decoder_1k", {"heads": 2, "patch": 4, "components": 2, "length": 6}),
    "fpn": (
        "resnet18_fpn",
        {"options": {"depths": (1, 1), "dims": (8, 12)}, "dim": 8, "image_size": 32},
    ),
    "fpn_lengths": (
        "convnext_tiny_fpn",
        {"options": {"depths": (1, 1), "dims": (8, 12)}, "dim": 8, "image_size": 32, "sized": True},
    ),
    "query_detector": ("query_detector_small", {**_FINDING, "sized": True}),
    "query_detector_dense": ("query_detector_small_dense", {**_FINDING, "levels": 1, "depth": 1}),
    "forecaster": (temporal_transformer, _AHEAD),
    "forecaster_covariates": (temporal_transformer, {**_AHEAD, "covariates": 2, "normalise": True}),
    "pair": ("lra_retrieval", {**_SHORT, "length": 12, "depth": 1, "heads": 2, "classes": CLASSES}),
    "pair_mean": (
        "lra_retrieval",
        {**_SHORT, "length": 12, "depth": 1, "heads": 2, "classes": CLASSES, "padding": None, "class_token": False},
    ),
    "ensemble": (_ensemble, {"image_size": 8, "channels": 3, "classes": CLASSES}),
    "espcn": ("espcn_x2", {"dims": (8, 4), "skip": True, "channels": 3, "image_size": 9}),
    "restorer_windows": (windowed_restorer, {"window": 2, "multiple": 4}),
    "dit": ("dit_s_2", {**_DRAWN, "learned_variance": True}),
    "dit_flow": ("dit_s_2", {**_DRAWN, "learned_variance": False, "end": 1.0, "classes": None}),
}


def cases() -> list[Case]:
    return [case for name in PARTS for case in TINY_PARTS.get(name, (Case(name),))]


def streaming_cases() -> list[Case]:
    """The cases whose part is causal on one axis, mixers and heads alike."""
    found = []
    for case in cases():
        if any(len(grid) == 1 for grid in case.grids) and not case.channels_first and not case.prefix:
            promises = build(case, GRIDS[1]).promises
            found += [case] if promises.causal or promises.per_token else []
    return found


def cases_and_grids() -> list[Any]:
    """Every case on every number of axes; a list, because what runs out after one test leaves the others nothing."""
    return [pytest.param(case, grid, id=f"{case}-{len(grid)}d") for case in cases() for grid in case.grids]


def other_grid(case: Case, grid: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(side * PARTS[case.name].promises.multiple for side in OTHER_GRIDS[len(grid)])


def build(case: Case, grid: tuple[int, ...], seed: int = 0, *, randomised: bool = True) -> Part:
    """The case's part for a grid, float64, in eval mode, with nothing left at an initialisation that hides faults."""
    constructor = PARTS[case.name]
    parameters = inspect.signature(constructor).parameters
    options = dict(case.options)
    if "dimensions" in parameters and "dimensions" not in options:
        options["dimensions"] = len(grid)
    widths = {"in_dim": case.in_dim, "dim": case.dim, "classes": CLASSES, "channels": CLASSES}
    sizes = [widths[name] for name in list(parameters)[:2] if name in widths]
    torch.manual_seed(seed)
    try:
        module = build_part(PartSpec(case.name, options), *sizes, grid=grid)
    except Exception as error:
        pytest.fail(
            f"The part {case.name!r} is registered, and the conformance suite cannot build it: {error} "
            "Add an entry with options that suit a width of 16 to TINY_PARTS in tests/conformance/instances.py."
        )
    assert isinstance(module, Part), f"{case.name!r} is registered as a part and does not derive from Part"
    module = module.double().eval()
    if randomised:
        randomise(module, seed)
    return module


@torch.no_grad()
def randomise(module: nn.Module, seed: int = 0) -> None:
    """Fill whatever is learned, and running statistics, with values of order one that no initialisation has."""
    generator = torch.Generator().manual_seed(seed)
    learned = [(name, tensor) for name, tensor in module.named_parameters() if tensor.requires_grad]
    running = [(name, tensor) for name, tensor in module.named_buffers() if name.split(".")[-1].startswith("running_")]
    for name, tensor in [*learned, *running]:
        normal = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        if name.endswith("running_var") or (tensor.ndim < 2 and "bias" not in name and "mean" not in name):
            tensor.copy_(0.5 + normal.sigmoid())
        elif tensor.ndim < 2:
            tensor.copy_(0.2 * normal)
        else:
            tensor.copy_(normal / math.sqrt(max(math.prod(tensor.shape[1:]), 1)))


def tokens(case: Case, grid: tuple[int, ...], batch: int = 2, seed: int = 0) -> tuple[Tensor, Context]:
    """Input of a case, float64, and what has to be said about it."""
    generator = torch.Generator().manual_seed(seed)
    takes_in_dim = "in_dim" in inspect.signature(PARTS[case.name]).parameters
    channels = case.in_dim if takes_in_dim else case.dim
    if case.channels_first:
        shape = (batch, channels, *grid)
    elif case.prefix:
        shape = (batch, case.prefix + math.prod(grid), channels)
    else:
        shape = (batch, *grid, channels)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    offered = {
        name: torch.randn(batch, *sizes, generator=generator, dtype=torch.float64)
        for name, sizes in case.offers.items()
    }
    facts = {"prefix": case.prefix, "grid": grid} if case.prefix else {}
    return x, Context(**facts, **offered)  # type: ignore[arg-type]


def only_offers(context: Context, **changes: Any) -> Context:
    """Only what is offered, in float64 as it was or as ``changes`` say: the facts are another batch's."""
    return Context(**{name: getattr(context, name) for name in OFFERS if context.says(name)} | changes)


def sample_of(context: Context, index: int) -> Context:
    """What is said about one sample of the batch."""
    mine = {name: getattr(context, name)[index : index + 1] for name in OFFERS if context.says(name)}
    return context.replace(**mine)


def in_type(context: Context, dtype: torch.dtype) -> Context:
    """The same with what is offered in another floating type."""
    values = {name: getattr(context, name) for name in OFFERS if context.says(name)}
    return context.replace(**{name: value.to(dtype) for name, value in values.items() if value.is_floating_point()})


def offered(module: Part, x: Tensor) -> dict[str, Any]:
    """What the part takes of offers that are nobody's input: the same for every row, and for every call."""
    offers: dict[str, Any] = {}
    if "memory" in module.uses:
        memory = torch.linspace(0, 50, 6 * x.shape[-1], dtype=x.dtype).sin().view(1, 6, -1)
        offers["memory"] = memory.expand(x.shape[0], -1, -1)
        offers["memory_mask"] = (torch.arange(6) < 5).expand(x.shape[0], -1)
    if "memory_grids" in module.uses:
        offers["memory_grids"] = ((2, 2), (1, 2))
        offers["positions"] = torch.tensor([0.4, 0.7], dtype=x.dtype).expand(*x.shape[:2], 2)
    if "distance_bias" in module.uses:
        offers["distance_bias"] = torch.linspace(0, 40, 7 * 8, dtype=x.dtype).cos().view(7, 8)
    return offers


def call(module: Part, x: Tensor, context: Context) -> tuple[Tensor, Context]:
    """Output and the context after it, whether or not the part returns one."""
    result = module(x, context.replace(**offered(module, x)))
    return result if isinstance(result, tuple) else (result, context)


def exempt(case: Case, check: str) -> None:
    """Skip a check that a part is exempt from, with the part's reason."""
    reason = PARTS[case.name].promises.exemptions.get(check)
    if reason is not None:
        pytest.skip(reason)


def smallest_variants(kind: type[Input] = ImageInput) -> dict[str, str]:
    """A variant of each family of chains that takes ``kind``: that of its entry, or the least in squared widths."""

    def size(name: str) -> int:
        return sum(len(stage.blocks) * stage.dim**2 for stage in model_specification(name).stages)

    families: dict[str, list[str]] = {}
    for name in MODELS:
        specification = model_specification(name)
        if isinstance(specification, ChainSpec) and isinstance(specification.input, kind):
            families.setdefault(MODELS[name].family, []).append(name)
    return {
        family: TINY_FAMILIES.get(family, {}).get("variant") or min(names, key=size)
        for family, names in sorted(families.items())
    }


#: What every family that takes the input accepts, and sizes that are quick.
SHARED_OPTIONS: dict[type[Input], dict[str, Any]] = {
    ImageInput: {"classes": CLASSES, "image_size": 64},
    TokenInput: {"vocabulary": 11, "length": 12},
    SeriesInput: {},
    VectorInput: {"channels": 3, "length": 12},
}


def tiny_model(family: str, variant: str, seed: int = 0, **changes: Any) -> Model:
    """The smallest variant of a family, narrowed if the family has an entry; float64, in eval mode, randomised."""
    published = MODELS[variant].options
    options = dict(SHARED_OPTIONS[type(model_specification(variant).input)])
    if "depths" in published:
        options["depths"] = (1,) * len(published["depths"])
    options |= {**TINY_FAMILIES.get(family, {}), **changes}
    options.pop("variant", None)
    torch.manual_seed(seed)
    try:
        model = create_model(variant, **options)
    except Exception as error:
        pytest.fail(
            f"The conformance suite cannot build {variant!r} with {options}: {error} "
            f"Add options that suit the family {family!r} to TINY_FAMILIES in tests/conformance/instances.py."
        )
    model = model.double().eval()
    randomise(model, seed)
    return model


def inputs(model: Model, batch: int = 2, seed: int = 0) -> Tensor:
    """Pictures, ids or series as the model takes them, float64 where they are no ids."""
    torch.manual_seed(seed)
    x = model.specification.input.example(batch)
    return x.double() if x.is_floating_point() else x


def pictures(model: Model, batch: int = 2, seed: int = 0) -> Tensor:
    source = model.specification.input
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, source.channels, *source.size, generator=generator, dtype=torch.float64)


#: Options that leave one block of a kind, where several are traced for long and written as the same operators.
ONE_BLOCK: dict[str, dict[str, Any]] = {
    name: {"depth": 1}
    for name in (
        "t5",
        "t5_v1_1",
        "bart",
        "tempo",
        "series_encoder",
        "series_decoder",
        "dit",
        "dit_flow",
        "query_detector",
    )
}


def tiny_network(name: str, seed: int = 0, **changes: Any) -> Network:
    """The network of an entry of :data:`TINY_NETWORKS`, float64, in eval mode, randomised."""
    variant, options = TINY_NETWORKS[name]
    options = {**options, **changes}
    torch.manual_seed(seed)
    network = create_model(variant, **options) if isinstance(variant, str) else create_model(variant(**options))
    network = network.double().eval()
    randomise(network, seed)
    return network


def named_inputs(network: Network, batch: int = 2, seed: int = 0) -> dict[str, Tensor]:
    """All inputs by name, those that may be left out too; float64 where they are no whole numbers."""
    torch.manual_seed(seed)
    example = network.example(batch, optional=True)
    named = example if isinstance(example, Mapping) else {next(iter(network.inputs)): example}
    return {name: x.double() if x.is_floating_point() else x for name, x in named.items()}


def toys() -> list[str]:
    """A name for each family of chains and for each entry of :data:`TINY_NETWORKS`."""
    return [*_chains(), *TINY_NETWORKS]


@functools.cache
def _chains() -> dict[str, str]:
    kinds = (ImageInput, TokenInput, SeriesInput, VectorInput)
    return {family: variant for kind in kinds for family, variant in smallest_variants(kind).items()}


def toy(name: str, seed: int = 0) -> Network:
    """The network of one of :func:`toys`, float64, in eval mode, randomised."""
    return tiny_network(name, seed) if name in TINY_NETWORKS else tiny_model(name, _chains()[name], seed)


def answers(network: Network, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """What a network answers to inputs that are always the same, by name."""
    given = {name: x.to(dtype) if x.is_floating_point() else x for name, x in named_inputs(network).items()}
    outputs = ask(network, given)
    return dict(outputs) if isinstance(outputs, Mapping) else {"output": outputs}

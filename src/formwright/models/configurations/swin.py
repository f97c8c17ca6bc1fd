"""Swin Transformer."""

from __future__ import annotations

from formwright.models.configurations.kind import (
    Described,
    Head,
    Kind,
    image_size,
    register_kind,
    square,
    without_scores,
)
from formwright.models.configurations.vit import PICTURES
from formwright.models.language.transformer import with_channel_mixer
from formwright.models.vision.swin import STEM, swin
from formwright.nn.specification import ChainSpec, part


def _specification(described: Described) -> ChainSpec:
    options = described.options
    depths = options["depths"]
    specification = swin(
        name=described.name,
        depths=depths,
        dims=[options["embed_dim"] * 2**stage for stage in range(len(depths))],
        heads=options["num_heads"],
        window=options["window_size"],
        norm_eps=options["layer_norm_eps"],
        drop_path=options["drop_path_rate"],
        stem=STEM.with_options(kernel=square(described, "patch_size")),
        classes=described.classes,
        channels=options["num_channels"],
        image_size=image_size(described),
    )
    mlp = part("mlp", ratio=float(options["mlp_ratio"]), activation=described.activation("hidden_act"))
    specification = with_channel_mixer(specification, mlp)
    return without_scores(specification) if described.task == "features" else specification


register_kind(
    Kind(
        name="swin",
        build=_specification,
        heads=(
            Head(("SwinForImageClassification",), PICTURES, "classifier."),
            Head(("SwinModel",), "features"),
        ),
        read={
            "image_size": 224,
            "patch_size": 4,
            "num_channels": 3,
            "embed_dim": 96,
            "depths": (2, 2, 6, 2),
            "num_heads": (3, 6, 12, 24),
            "window_size": 7,
            "mlp_ratio": 4.0,
            "drop_path_rate": 0.1,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-5,
        },
        fixed={"qkv_bias": True, "use_absolute_embeddings": False},
        unused=(
            "hidden_dropout_prob",
            "attention_probs_dropout_prob",
            "initializer_range",
            "encoder_stride",
            "_out_features",
            "_out_indices",
        ),
        aliases={"num_attention_heads": "num_heads"},
    )
)

"""ViT and DeiT."""

from __future__ import annotations

import dataclasses

from formwright.models.configurations.kind import (
    Described,
    Head,
    Kind,
    image_size,
    register_kind,
    square,
    with_features,
)
from formwright.models.language.transformer import with_channel_mixer
from formwright.models.vision.vit import vit
from formwright.nn.specification import ChainSpec, part

PICTURES = "image-classification"


def _specification(described: Described, class_tokens: int) -> ChainSpec:
    options = described.options
    specification = vit(
        name=described.name,
        dim=options["hidden_size"],
        depth=options["num_hidden_layers"],
        heads=options["num_attention_heads"],
        patch_size=square(described, "patch_size"),
        norm_eps=options["layer_norm_eps"],
        class_tokens=class_tokens,
        classes=described.classes,
        channels=options["num_channels"],
        image_size=image_size(described),
    )
    mlp = part("mlp", hidden=options["intermediate_size"], activation=described.activation("hidden_act"))
    specification = with_channel_mixer(specification, mlp)
    norm = part("layer_norm", eps=options["layer_norm_eps"])
    if described.task == "features":
        pooler = part("chain", parts=(part("class_token_pool"), part("dense", activation="tanh")))
        return with_features(specification, norm=norm, pool=pooler if described.has("pooler.dense.weight") else None)
    if class_tokens == 2 and not described.has("distillation_classifier.weight"):
        return dataclasses.replace(specification, head=part("classifier", norm=norm, pool=part("class_token_pool")))
    return specification


def _vit(described: Described) -> ChainSpec:
    return _specification(described, 1)


def _deit(described: Described) -> ChainSpec:
    return _specification(described, 2)


_READ = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "image_size": 224,
    "patch_size": 16,
    "num_channels": 3,
}
_FIXED = {"qkv_bias": True, "pooler_act": "tanh"}
_UNUSED = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "initializer_range",
    "encoder_stride",
    "pooler_output_size",  # of a pooler's matrix, which is loaded strictly
)

register_kind(
    Kind(
        name="vit",
        build=_vit,
        heads=(
            Head(("ViTForImageClassification",), PICTURES, "classifier."),
            Head(("ViTModel",), "features"),
        ),
        read=_READ,
        fixed=_FIXED,
        unused=_UNUSED,
    )
)
register_kind(
    Kind(
        name="deit",
        build=_deit,
        heads=(
            Head(("DeiTForImageClassificationWithTeacher",), PICTURES, "cls_classifier."),
            Head(("DeiTForImageClassification",), PICTURES, "classifier."),
            Head(("DeiTModel",), "features"),
        ),
        read=_READ,
        fixed=_FIXED,
        unused=_UNUSED,
    )
)

"""ConvNeXt."""

from __future__ import annotations

from formwright.errors import UserError
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
from formwright.models.vision.convnext import STEM, convnext
from formwright.nn.specification import ChainSpec


def _specification(described: Described) -> ChainSpec:
    options = described.options
    scale = options["layer_scale_init_value"]
    if not options["num_stages"] == len(options["depths"]) == len(options["hidden_sizes"]):
        raise UserError(
            f"{described.name} has num_stages = {options['num_stages']}, {len(options['depths'])} depths and "
            f"{len(options['hidden_sizes'])} hidden_sizes, which do not agree: correct its config.json."
        )
    specification = convnext(
        name=described.name,
        depths=options["depths"],
        dims=options["hidden_sizes"],
        activation=described.activation("hidden_act"),
        layer_scale=scale if scale > 0 else None,
        norm_eps=options["layer_norm_eps"],
        drop_path=options["drop_path_rate"],
        stem=STEM.with_options(kernel=square(described, "patch_size")),
        classes=described.classes,
        channels=options["num_channels"],
        image_size=image_size(described),
    )
    return without_scores(specification) if described.task == "features" else specification


register_kind(
    Kind(
        name="convnext",
        build=_specification,
        heads=(
            Head(("ConvNextForImageClassification",), PICTURES, "classifier."),
            Head(("ConvNextModel",), "features"),
        ),
        read={
            "num_channels": 3,
            "patch_size": 4,
            "num_stages": 4,
            "hidden_sizes": (96, 192, 384, 768),
            "depths": (3, 3, 9, 3),
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-12,
            "layer_scale_init_value": 1e-6,
            "drop_path_rate": 0.0,
            "image_size": 224,
        },
        unused=(
            "initializer_range",
            "_out_features",
            "_out_indices",
        ),
    )
)

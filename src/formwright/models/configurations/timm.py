"""The ``config.json`` of timm: the name of a model, and how its pictures were prepared."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from formwright.errors import UnknownNameError, UserError
from formwright.models import MODELS, list_models, model_specification
from formwright.models.configurations.kind import without_scores
from formwright.nn.specification import ChainSpec, PartSpec, part

#: Ours of architectures that timm calls otherwise, and those of the same name that are built otherwise there: the name
#: and options of its family. The size of the picture is that of the configuration.
_OURS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    **{f"tf_efficientnet_lite{size}": (f"efficientnet_lite{size}", {}) for size in range(5)},
    **{
        f"efficientnet_lite{size}": (f"efficientnet_lite{size}", {"same_padding": False, "eps": 1e-5})
        for size in range(5)
    },
    **{
        f"{name}_patch16_384": (f"{name}_patch16_224", {})
        for name in ("vit_tiny", "vit_small", "vit_base", "deit_base", "deit_base_distilled")
    },
}

#: What timm builds a model with, which its configuration may repeat: what is read here, and what trains alone.
_ARGUMENTS = ("img_size", "num_classes", "in_chans", "global_pool")
_OF_TRAINING = (
    "drop_rate",
    "drop_path_rate",
    "drop_block_rate",
    "proj_drop_rate",
    "attn_drop_rate",
    "pos_drop_rate",
    "patch_drop_rate",
)
_PICTURES = "image-classification"


def _head(specification: ChainSpec) -> PartSpec:
    """The head as timm has it, where that differs from the authors': other norms, and a pool before one."""
    head = specification.head
    if specification.family == "poolformer":
        return part("classifier", pooled_norm=part("layer_norm", eps=1e-6))
    return head.with_options(norm_eps=1e-6) if head.name == "mlp_classifier" else head


def is_timm(config: Mapping[str, Any]) -> bool:
    """Whether this is a configuration of timm."""
    return isinstance(config.get("architecture"), str) and "model_type" not in config


def timm_specification(name: str, config: Mapping[str, Any]) -> ChainSpec:
    """Our model of a configuration.

    Raises:
        UserError: there is no model of this name, or it was built with an option that ours does not have.
    """
    architecture, prepared = config["architecture"], config.get("pretrained_cfg") or {}
    known = list_models(task=_PICTURES)
    ours, options = _OURS.get(architecture, (architecture, {}))
    if ours not in known:
        raise UnknownNameError(f"model of pictures (the architecture of {name})", architecture, known)
    arguments = config.get("model_args") or {}
    unknown = [option for option in arguments if option not in (*_ARGUMENTS, *_OF_TRAINING)]
    if unknown:
        raise UserError(
            f"{name} is a {architecture} with {unknown[0]} = {arguments[unknown[0]]!r}, which Formwright's "
            "does not have: choose another checkpoint."
        )
    pool = arguments.get("global_pool", config.get("global_pool"))
    usual = "token" if MODELS[ours].family == "vit" else "avg"
    if pool not in (None, usual):
        raise UserError(
            f"{name} is a {architecture} that pools its tokens by {pool!r}, and Formwright's does by {usual!r} alone: "
            "choose another checkpoint."
        )
    channels, *sides = prepared.get("input_size") or (3, 224, 224)
    size = arguments.get("img_size", sides)
    classes = config.get("num_classes", prepared.get("num_classes", 1000))
    specification: ChainSpec = model_specification(
        ours,
        classes=classes or 1,
        channels=arguments.get("in_chans", channels),
        image_size=size if isinstance(size, int) else tuple(size),
        **options,
    )
    head = _head(specification)
    specification = dataclasses.replace(specification, name=name, head=head)
    return specification if classes else without_scores(specification)

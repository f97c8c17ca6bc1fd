"""The ``config.json`` of timm: the name of a model, and how its pictures were prepared."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from formwright.errors import UnknownNameError, UserError
from formwright.models import MODELS, list_models, model_specification
from formwright.models.configurations.kind import without_scores
from formwright.nn.specification import ChainSpec, PartSpec, part

#: What timm builds a model with, which its configuration may repeat.
_ARGUMENTS = ("img_size", "num_classes", "in_chans")
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
    if architecture not in known:
        raise UnknownNameError(f"model of pictures (the architecture of {name})", architecture, known)
    unknown = [option for option in config.get("model_args") or {} if option not in _ARGUMENTS]
    if unknown:
        raise UserError(
            f"{name} is a {architecture} with {unknown[0]} = {config['model_args'][unknown[0]]!r}, which Formwright's "
            "does not have: choose another checkpoint."
        )
    pool = config.get("global_pool")
    usual = "token" if MODELS[architecture].family == "vit" else "avg"
    if pool not in (None, usual):
        raise UserError(
            f"{name} is a {architecture} that pools its tokens by {pool!r}, and Formwright's does by {usual!r} alone: "
            "choose another checkpoint."
        )
    channels, height, width = prepared.get("input_size") or (3, 224, 224)
    classes = config.get("num_classes", prepared.get("num_classes", 1000))
    specification: ChainSpec = model_specification(
        architecture, classes=classes or 1, channels=channels, image_size=(height, width)
    )
    head = _head(specification)
    specification = dataclasses.replace(specification, name=name, head=head)
    return specification if classes else without_scores(specification)

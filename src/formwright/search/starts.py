"""What may be made of a checkpoint: candidates that start from weights that exist, in place of random ones."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from formwright.models import create_model
from formwright.nn.inputs import ImageInput
from formwright.nn.specification import ChainSpec, EditSpec
from formwright.training.recipe import Group, Recipe

#: By how much the rate falls from each block to the one before it.
LAYER_DECAY = 0.85
#: Of the adapters beside layers.
RANK = 8


@dataclass(frozen=True)
class Start:
    """A way to start from a checkpoint.

    Attributes:
        how: in words.
        choices: what sets it apart, besides which checkpoint it is.
        specification: the model.
        recipe: how it is trained.
    """

    how: str
    choices: dict[str, Any]
    specification: ChainSpec
    recipe: Recipe


def starts(own: ChainSpec, *, batch: int) -> list[Start]:
    """Ways to start from a checkpoint, the model of which suits the data already; what is solved at once first.

    Args:
        own: the model.
        batch: samples of a training step, where steps see as many as data and machine allow.
    """
    if own.task == "language-modelling":
        return _of_language(own, batch)
    pictures = isinstance(own.input, ImageInput)
    recipe = Recipe(
        optimizer="adamw",
        learning_rate=3e-4 if pictures else 2e-4,
        vector_learning_rate=3e-4 if pictures else 2e-4,
        weight_decay=0.05,
        batch_size=min(batch, 64 if pictures else 32),
        warmup=20,
        ema_decay=0.99,
        groups=layer_rates(own, LAYER_DECAY),
    )
    return [
        Start("a new classifier on its features", {"frozen": True}, own, recipe),
        Start("fine-tuned", {"frozen": False}, own, recipe),
    ]


def _of_language(own: ChainSpec, batch: int) -> list[Start]:
    """All of a model learns on, or adapters beside the layers of its blocks alone, which forget less."""
    recipe = Recipe(
        optimizer="adamw",
        learning_rate=2e-4,
        vector_learning_rate=2e-4,
        weight_decay=0.05,
        batch_size=batch,
        warmup=20,
        ema_decay=0.99,
        label_smoothing=0.0,
    )
    with torch.device("meta"):
        model = create_model(own)
    inside = (name for name, module in model.named_modules() if isinstance(module, nn.Linear) and ".blocks." in name)
    adapted = dataclasses.replace(
        own, edits=(*own.edits, *(EditSpec("adapt", name, {"by": "lora", "rank": RANK}) for name in inside))
    )
    rate = 10 * recipe.learning_rate
    small = dataclasses.replace(recipe, learning_rate=rate, vector_learning_rate=rate, weight_decay=0.0)
    return [
        Start("trained on", {"adapters": False}, own, recipe),
        Start(f"adapters of rank {RANK}", {"adapters": True}, adapted, small),
    ]


def layer_rates(specification: ChainSpec, decay: float) -> tuple[Group, ...]:
    """A rate for each block, ``decay`` times that of the next one; the head has the full rate.

    What stands before a block, such as the embedding before the first, has the rate of a block before it.

    Source: Universal Language Model Fine-tuning for Text Classification, arXiv 1801.06146 (discriminative rates).
    """
    with torch.device("meta"):
        names = [name for name, _ in create_model(specification).named_parameters()]
    found = dict.fromkeys(_group_of(name) for name in names if name.startswith("backbone."))
    blocks = [path for path in found if ".blocks." in path]
    rates = {path: decay ** (len(blocks) - place) for place, path in enumerate(blocks)}
    groups, rate = [], decay ** (len(blocks) + 1)
    for path in found:
        rate = rates.get(path, rate)
        groups.append(Group(f"{path}.*", rate))
    return tuple(sorted(groups, key=lambda group: -group.pattern.count(".")))


def _group_of(name: str) -> str:
    """The block that a parameter belongs to, or the part before one."""
    pieces = name.split(".")
    if pieces[1] != "stages":
        return ".".join(pieces[:2])
    return ".".join(pieces[:5]) if pieces[3] == "blocks" else ".".join(pieces[:3])

"""Small models of several families, whatever they are compressed by, and batches for them."""

from __future__ import annotations

import math
from typing import Any

import torch

from formwright.models import Model, create_model
from formwright.objectives import Batch

CLASSES = 5
_EFFICIENTVIT = {"dims": (16, 24, 32), "heads": (2, 2, 2), "depths": (1, 1, 1), "image_size": 64}
#: Options that make a toy of a variant.
TINY: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": {"dim": 48, "depth": 2, "heads": 4, "image_size": 32},
    "poolformer_s12": {"depths": (1, 1, 1, 1), "dims": (16, 24, 32, 40), "image_size": 64},
    "efficientvit_m0": _EFFICIENTVIT,
    "efficientvit_m0_distilled": _EFFICIENTVIT,
    "iformer_small": {
        "depths": (1, 1, 1, 1),
        "dims": (8, 16, 24, 32),
        "heads": (2, 2, 2, 2),
        "attention_heads": (1,) * 4,
        "image_size": 64,
    },
    "resnet18": {"depths": (2, 1, 1, 1), "dims": (16, 24, 32, 40), "image_size": 64},
    "resnet50": {"depths": (2, 1, 1, 1), "dims": (64, 96, 128, 160), "image_size": 64},
}


@torch.no_grad()
def tiny(name: str, seed: int = 0) -> Model:
    """A toy of a variant in which nothing is left at an initialisation that hides faults."""
    torch.manual_seed(seed)
    model = create_model(name, classes=CLASSES, **TINY[name])
    for key, tensor in model.state_dict().items():
        if key.endswith("running_mean") or (key.endswith("bias") and tensor.ndim == 1):
            tensor.normal_(0, 0.1)
        elif key.endswith("running_var") or (key.endswith("weight") and tensor.ndim == 1):
            tensor.uniform_(0.5, 1.5)
        elif key.endswith("weight"):
            tensor.normal_(0, 1 / math.sqrt(math.prod(tensor.shape[1:])))
    return model.eval()


def batches(model: Model, count: int = 2, size: int = 4) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    source = model.specification.input
    return [
        Batch(
            torch.randn(size, source.channels, *source.size, generator=generator),
            torch.randint(CLASSES, (size,), generator=generator),
        )
        for _ in range(count)
    ]

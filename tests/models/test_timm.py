"""Folders as timm writes them become models of ours that answer the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from formwright.catalog.reference import FLOAT64_TOLERANCE, images, reference_state, reference_variants, sample
from formwright.errors import UserError
from formwright.models import build_network, create_model, load_checkpoint
from formwright.models.pretrained import Preprocessing, read_pretrained
from formwright.resizing import Resizing

SHORT_SIDE = Resizing("short_side", "bicubic", 0.9)
#: An architecture of every layout of timm's, and where its figures are: system, variant, and whether timm is the
#: reference itself or was compared beside the authors.
CASES: dict[str, tuple[str, str, str]] = {
    "caformer_s18": ("metaformer-baselines", "caformer_s18", "timm_"),
    "convformer_s18": ("metaformer-baselines", "convformer_s18", "timm_"),
    "convnext_tiny": ("convnext", "convnext_tiny", "timm_"),
    "deit_tiny_distilled_patch16_224": ("vit", "deit_tiny_distilled_patch16_224", ""),
    "deit_tiny_patch16_224": ("vit", "deit_tiny_patch16_224", ""),
    "efficientnet_lite0": ("efficientnet-lite", "efficientnet_lite0:timm", ""),
    "efficientvit_m0": ("efficientvit", "efficientvit_m0", "timm_"),
    "poolformer_s12": ("poolformer", "poolformer_s12", "timm_"),
    "poolformerv2_s12": ("metaformer-baselines", "poolformerv2_s12", "timm_"),
    "resnet18": ("resnet", "resnet18", ""),
    "swin_tiny_patch4_window7_224": ("swin", "swin_tiny_patch4_window7_224", "timm_"),
    "tf_efficientnet_lite0": ("efficientnet-lite", "efficientnet_lite0", "timm_"),
    "vit_tiny_patch16_224": ("vit", "vit_tiny_patch16_224", ""),
}


def config(architecture: str, **changes: Any) -> dict[str, Any]:
    """What timm 1.0.31 writes beside the weights of a model."""
    pool = "token" if architecture.startswith(("vit", "deit")) else "avg"
    prepared = {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic", "crop_pct": 0.9}
    return {
        "architecture": architecture,
        "num_classes": 1000,
        "global_pool": pool,
        "model_args": {"num_classes": 1000, "in_chans": 3, "global_pool": pool, "drop_path_rate": 0.1},
        "pretrained_cfg": {**prepared, "input_size": [3, 224, 224], "num_classes": 1000},
        **changes,
    }


def write(folder: Path, described: dict[str, Any], state: dict[str, torch.Tensor]) -> Path:
    (folder / "config.json").write_text(json.dumps(described))
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("architecture", CASES)
def test_a_folder_answers_what_timm_does(architecture: str, tmp_path: Path) -> None:
    system, variant, whose = CASES[architecture]
    figures = reference_variants(system)[variant]
    output = figures[f"{whose}outputs"][0]
    found = read_pretrained(write(tmp_path, config(architecture), reference_state(figures[f"{whose}layout"])))
    assert found.preprocessing == Preprocessing(
        (0.5,) * 3, (0.25,) * 3, (224, 224), Resizing("short_side", "bicubic", 0.9)
    )
    model = build_network(found.specification).double().eval()
    load_checkpoint(model, found.state)
    with torch.inference_mode():
        scores = model(torch.from_numpy(images(output["input_shape"], output["input_seed"])))
    assert np.abs(sample(scores.numpy()) - np.array(output["values"])).max() / output["std"] <= FLOAT64_TOLERANCE


def test_the_size_of_pictures_is_what_the_model_was_built_for(tmp_path: Path) -> None:
    described = config("vit_tiny_patch16_384", model_args={"img_size": [96, 64], "in_chans": 1, "global_pool": "token"})
    specification = read_pretrained(write(tmp_path, described, {"tensor": torch.zeros(1)})).specification
    assert (specification.input.size, specification.input.channels) == ((96, 64), 1)
    assert specification.name == tmp_path.name


def test_another_pool_than_ours_is_refused(tmp_path: Path) -> None:
    described = config("resnet18", model_args={"global_pool": "catavgmax"})
    with pytest.raises(UserError, match="pools its tokens by 'catavgmax', and Formwright's does by 'avg' alone"):
        read_pretrained(write(tmp_path, described, {"tensor": torch.zeros(1)}))


def test_weights_of_windows_of_another_size_are_taken() -> None:
    options = {"dims": (16, 24, 32), "depths": (1, 1, 1), "heads": (2, 2, 2), "classes": 3}
    torch.manual_seed(0)
    large, small = (create_model("efficientvit_m0", image_size=size, **options) for size in (128, 64))
    name = "backbone.stages.0.blocks.0.branches.2.part.bias_table"
    state = {**large.state_dict(), name: torch.linspace(0, 1, 49).repeat(2, 1)}
    load_checkpoint(small, state, resize_positions=True)
    table = small.state_dict()[name]
    assert table.shape == (2, 16)
    assert (table.diff() > 0).all(), "from near to far, as before"

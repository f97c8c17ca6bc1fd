"""EfficientViT where the common golden test does not reach."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from formwright.catalog.reference import fill, images, reference_variants, sample
from formwright.errors import UserError
from formwright.models import Model, create_model, load_checkpoint
from formwright.nn.frame import Branch
from formwright.objectives import Batch, Classification, Distillation

VARIANTS = reference_variants("efficientvit")


def scaled_cases() -> Iterator[Any]:
    for name, reference in VARIANTS.items():
        for source in ("", "timm_"):
            for output in reference.get(f"{source}outputs_scaled", []):
                side = output["input_shape"][2]
                if side == 224 or name == "efficientvit_m0":  # padded windows are the same in every variant
                    yield pytest.param(name, reference[f"{source}layout"], output, id=f"{name}-{source}{side}")


@pytest.mark.parametrize(("name", "layout", "output"), scaled_cases())
def test_output_is_that_of_the_reference_where_attention_is_soft(
    name: str, layout: list[Any], output: dict[str, Any]
) -> None:
    """With plainly filled weights scores are so large that bias tables do not matter; with these they do."""
    suffixes, factor = tuple(output["scaled"]["suffixes"]), output["scaled"]["factor"]
    state = {
        key: torch.from_numpy(fill(key, shape)) * (factor if key.endswith(suffixes) else 1.0)
        for key, shape, kind in layout
        if "float" in kind
    }
    shape = output["input_shape"]
    model = create_model(name, image_size=tuple(shape[2:])).double().eval()
    load_checkpoint(model, state)
    pictures = torch.from_numpy(images(shape, output["input_seed"]))
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        with torch.inference_mode():
            result = model.to(dtype)(pictures.to(dtype))
        difference = np.abs(np.array(sample(result.double().numpy())) - output["values"]).max()
        assert difference <= tolerance * output["std"]


def small(**changes: Any) -> Model:
    torch.manual_seed(0)
    options = {"dims": (16, 24, 32), "heads": (2, 2, 2), "depths": (1, 1, 1), "image_size": 64, "classes": 3}
    return create_model("efficientvit_m0", **{**options, **changes})


def test_every_residual_branch_starts_at_zero() -> None:
    model = small().eval()
    branches = [module for module in model.modules() if isinstance(module, Branch)]
    assert len(branches) == 3 * 5 + 2 * 4
    changed = []
    for branch in branches:
        branch.register_forward_hook(lambda _, inputs, output: changed.append(not torch.equal(inputs[0], output[0])))
    model(torch.randn(2, 3, 64, 64))
    assert changed == [False] * len(branches)


def test_features_are_the_maps_after_each_stage() -> None:
    maps = small(image_size=128).eval().features(torch.randn(1, 3, 128, 128))
    assert [tuple(m.shape) for m in maps] == [(1, 8, 8, 16), (1, 4, 4, 24), (1, 2, 2, 32)]


def test_options_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match="3 dims, 2 depths, 3 heads"):
        small(depths=(1, 2))
    with pytest.raises(UserError, match="multiple of 8 channels, got 20"):
        small(dims=(20, 24, 32))
    with pytest.raises(UserError, match="4 x 4 tokens and got 6 x 4"):
        small()(torch.zeros(2, 3, 96, 64))


def test_the_distillation_head_follows_the_teacher() -> None:
    model = small(distillation=True).train()
    teacher = small(distillation=False)
    batch = Batch(torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 2, 0]))
    Distillation(teacher, Classification())(model, batch, 0.0).loss.backward()
    for name, parameter in model.head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_a_checkpoint_of_other_classes_loads_without_its_heads() -> None:
    source, model = small(distillation=True), small(distillation=True, classes=7)
    load_checkpoint(model, source.state_dict(), head=False)
    assert torch.equal(source.backbone.embed.convs[0].conv.weight, model.backbone.embed.convs[0].conv.weight)

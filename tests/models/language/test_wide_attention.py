"""Wide and deep shapes: the same attention in all, fewer MLPs in the wide ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from formwright.errors import UserError
from formwright.models import create_model, empty_copy, list_models, model_specification
from formwright.models.language.wide_attention import aspect_ratios
from formwright.nn import Part, part

#: The paper's ten, with blocks and windows for short rows.
TEN: dict[str, dict[str, int]] = {
    "attention": {},
    "bigbird_attention": {"block": 4},
    "linear_attention": {},
    "linformer_attention": {"rank": 4},
    "local_attention": {"block": 4},
    "longformer_attention": {"window": 4},
    "performer_attention": {"features": 8},
    "sinkhorn_attention": {"block": 4},
    "fixed_attention": {"block": 4, "summary": 2},
    "random_synthesizer": {"rank": 4},
}


def parameters(name: str, kind: str | None = None) -> int:
    model = empty_copy(model_specification(name))
    parts: list[nn.Module] = [model] if kind is None else [p for p in model.modules() if type(p).__name__ == kind]
    return sum(parameter.numel() for part in parts for parameter in part.parameters())


def test_all_shapes_of_as_many_heads() -> None:
    assert aspect_ratios(6, 8) == [(6, 8), (4, 12), (3, 16), (2, 24), (1, 48)]
    assert set(list_models("wide_attention_*")) == {f"wide_attention_{n}x{h}" for n, h in aspect_ratios(6, 8)}


def test_attention_is_equal_and_each_layer_saves_an_mlp_and_its_norms() -> None:
    dim, hidden = 512, 2048
    mlp, norms = 2 * dim * hidden + hidden + dim, 4 * dim
    biases = dim  # of attention's projection, one a layer
    weights = parameters("wide_attention_6x8", "Attention") - 6 * biases
    for depth, heads in aspect_ratios(6, 8):
        name = f"wide_attention_{depth}x{heads}"
        assert parameters(name, "Attention") - depth * biases == weights
        saved = parameters("wide_attention_6x8") - parameters(name)
        assert saved == (6 - depth) * (mlp + norms + biases)


def test_heads_keep_their_width() -> None:
    for block in empty_copy(model_specification("wide_attention_1x48")).backbone.stages[0].blocks:
        attention = block.branches[0].part
        assert isinstance(attention, Part)
        assert (attention.heads, attention.head_dim) == (48, 64)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match=r"5 layers of 9 heads are not 48 heads; these are: .*6 x 8"):
        model_specification("wide_attention_6x8", depth=5, heads=9, total_heads=48)
    with pytest.raises(UserError, match="with an option head_dim"):
        model_specification("wide_attention_6x8", mixer="pooling")


@pytest.mark.parametrize("mixer", TEN)
@pytest.mark.parametrize(("depth", "heads"), [(6, 2), (3, 4), (2, 6), (1, 12)])
def test_ten_attentions_in_four_shapes(mixer: str, depth: int, heads: int) -> None:
    options = TEN[mixer]
    torch.manual_seed(0)
    model = create_model(
        "wide_attention_6x8",
        dim=16,
        depth=depth,
        heads=heads,
        head_dim=4,
        hidden=24,
        length=20,
        vocabulary=11,
        padding=0,
        mixer=part(mixer, **options),
    ).eval()
    ids = torch.randint(1, 11, (2, 20), generator=torch.Generator().manual_seed(0))
    assert model(ids).shape == (2, 2)
    matrices = {
        parameter.numel()
        for block in model.backbone.stages[0].blocks
        for name, parameter in block.branches[0].part.named_parameters()
        if name.split(".")[0] in ("qkv", "inputs")
    }
    assert all(size % (16 * heads * 4) == 0 for size in matrices)
    assert matrices

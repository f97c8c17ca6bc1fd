"""Compact Transformers: what the authors' factories build, and what their paper says of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from formwright.catalog.reference import fill, images, reference_variants, sample
from formwright.errors import UserError
from formwright.models import create_model, load_checkpoint, model_specification
from formwright.nn.positions import SinePositions, sine_table

VARIANTS = reference_variants("cct")
TRUE_SINE = [
    (name, output)
    for name, variant in VARIANTS.items()
    for output in variant.get("outputs", [])
    if output.get("build") == {"positional_embedding": "sine"}
]


def tiny(**options):
    return create_model("cct_2_3x2_32", **options).eval()


@pytest.mark.parametrize(("name", "output"), TRUE_SINE, ids=[name for name, _ in TRUE_SINE])
def test_true_sine_models_equal_the_authors_class(name, output):
    model = create_model(name, positions="sine").double().eval()
    own_table = model.backbone.stages[0].entry[-1].table
    assert np.allclose(sample(own_table.detach().numpy()), VARIANTS[name]["sine_positional_emb"], atol=1e-6)
    assert own_table.numel() == VARIANTS[name]["sine_frozen_parameters"]
    state = {key: torch.from_numpy(fill(key, shape)) for key, shape, _ in VARIANTS[name]["layout"]}
    state["classifier.positional_emb"] = own_table.detach().clone()
    assert load_checkpoint(model, state) == "SHI-Labs/Compact-Transformers"
    with torch.inference_mode():
        result = model(torch.from_numpy(images(output["input_shape"], output["input_seed"])))
    difference = np.abs(np.array(sample(result.numpy())) - output["values"]).max()
    assert difference <= 1e-6 * output["std"]


def test_sine_names_are_fixed_tables_only_where_the_authors_names_are():
    for name in (name for name in VARIANTS if "_sine" in name):
        first = model_specification(name).stages[0].entry[-1].name
        assert first == ("sine_positions" if name.startswith("vit_") else "position_table"), name
        assert model_specification(name, positions="sine").stages[0].entry[-1].name == "sine_positions"


def test_a_fixed_table_does_not_learn():
    model = create_model("vit_2_4_32_sine").train()
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    table = model.backbone.stages[0].entry[1]
    assert isinstance(table, SinePositions)
    assert table.table.grad is None
    assert torch.equal(table.table, sine_table(65, 128))
    assert model.parameter_count() - model.parameter_count(trainable=True) == 65 * 128


def test_pooling_weights_are_positive_and_sum_to_one():
    model = tiny()
    torch.nn.init.normal_(model.head.pool.score.weight)
    tokens = torch.randn(3, 8, 8, 128)
    weights = model.head.pool.weights(tokens)
    assert weights.shape == (3, 64, 1)
    assert (weights > 0).all()
    assert torch.allclose(weights.sum(1), torch.ones(3, 1), atol=1e-6)


def test_without_positions_the_order_of_tokens_does_not_matter():
    def logits(positions: str, order: torch.Tensor) -> torch.Tensor:
        model = tiny(positions=positions).double()
        torch.manual_seed(0)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        tokens = torch.randn(1, 64, 128, dtype=torch.float64)[:, order].view(1, 8, 8, 128)
        return model.head(*model.backbone.stages[0](tokens))

    straight, shuffled = torch.arange(64), torch.randperm(64)
    assert torch.allclose(logits("none", straight), logits("none", shuffled), atol=1e-9)
    assert not torch.allclose(logits("learned", straight), logits("learned", shuffled), atol=1e-3)


@pytest.mark.parametrize(
    ("name", "tokens"),
    [("cct_7_3x1_32", 256), ("cct_7_3x2_32", 64), ("cct_7_7x2_224", 196), ("cct_14_7x2_384", 576), ("vit_2_4_32", 64)],
)
def test_token_counts(name, tokens):
    with torch.device("meta"):
        model = create_model(name)
    grid = model.backbone.grids(model.specification.input.size)[0]
    assert grid[0] * grid[1] == tokens


def test_the_second_norm_is_outside_the_branches():
    model = tiny().double()
    block = model.backbone.stages[0].blocks[1]
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    first, second = block.branches
    x = torch.randn(2, 8, 8, 128, dtype=torch.float64)
    middle = first.post_norm(x + first.part(first.norm(x)))
    assert torch.allclose(block(x)[0], middle + second.part(middle))
    assert second.norm is None


def test_tables_start_wide_and_class_tokens_at_zero():
    entry = create_model("vit_7_4_32").backbone.stages[0].entry
    assert not entry[0].tokens.any()
    assert entry[1].table.std().item() == pytest.approx(0.2, rel=0.05)


def test_bad_input_is_named():
    model = tiny()
    with pytest.raises(UserError, match=r"64 tokens \(8 x 8\) and 0 in front, and got 144 tokens \(12 x 12\)"):
        model(torch.randn(1, 3, 48, 48))
    with pytest.raises(UserError, match="128 channels cannot be split over 3 heads"):
        tiny(heads=3)
    with pytest.raises(UserError, match=r"no kind of positions named 'sin'.*did you mean sine"):
        tiny(positions="sin")

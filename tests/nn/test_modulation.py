"""A condition modulates norms and branches, per sample and per token, beside stock parts."""

from __future__ import annotations

import pytest
import torch

from formwright.errors import UserError
from formwright.models import build_network
from formwright.nn import BlockSpec, BranchSpec, ChainSpec, Context, Part, StageSpec, build_part, part
from formwright.nn.frame import Block
from formwright.nn.positions import grid_sine_table
from formwright.nn.specification import ImageInput
from tests.conformance.instances import randomise


def modulated(**options: object) -> Part:
    module: Part = build_part(part("modulated", part=part("attention", heads=2), **options), 8, grid=(3, 2))
    randomise(module)
    return module.double()


def test_the_formula_of_adaln_zero() -> None:
    module = modulated(condition_dim=5)
    x, condition = torch.randn(2, 3, 2, 8).double(), torch.randn(2, 5).double()
    y = module(x, Context(condition=condition))
    said = torch.nn.functional.silu(condition) @ module.modulation.weight.T + module.modulation.bias
    for sample in range(2):
        shift, scale, gate = said[sample, :8], said[sample, 8:16], said[sample, 16:]
        tokens = x[sample]
        normed = (tokens - tokens.mean(-1, keepdim=True)) / (tokens.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()
        expected = gate * module.part((normed * (1 + scale) + shift)[None])[0]
        torch.testing.assert_close(y[sample], expected, rtol=1e-9, atol=1e-9)


def test_it_starts_as_nothing_and_an_adaptive_norm_as_the_norm() -> None:
    block = BlockSpec((BranchSpec(part("modulated", part=part("mlp")), norm=part("adaptive_norm")),))
    stages = (StageSpec(dim=8, blocks=(block,)),)
    model = build_network(
        ChainSpec(
            family="test",
            name="test",
            task="image-classification",
            input=ImageInput(1, (4, 4)),
            classes=2,
            embed=part("patch_embedding", kernel=2),
            stages=stages,
            head=part("classifier"),
        )
    )
    block = model.backbone.stages[0].blocks[0]
    x, context = torch.randn(2, 2, 2, 8), Context(condition=torch.randn(2, 8))
    assert torch.equal(block(x, context)[0], x)
    normed = block.branches[0].norm(x, context)
    torch.testing.assert_close(normed, torch.nn.functional.layer_norm(x, (8,), eps=1e-6))
    scores = model(torch.randn(2, 1, 4, 4), context)  # a chain takes what is offered to it
    assert scores.shape == (2, 2)


def test_a_condition_per_token_is_that_of_each_sample_where_all_are_equal() -> None:
    module = modulated()
    x, condition = torch.randn(2, 3, 2, 8).double(), torch.randn(2, 8).double()
    expected = module(x, Context(condition=condition))
    for each in (condition[:, None, None].expand(2, 3, 2, 8), condition[:, None].expand(2, 6, 8)):
        torch.testing.assert_close(module(x, Context(condition=each)), expected)
    changed = condition[:, None].repeat(1, 6, 1)
    changed[0, 4] += 1
    module.part = build_part(part("mlp"), 8).double()  # tokens by themselves, so that only one of them differs
    moved = (module(x, Context(condition=changed)) - module(x, Context(condition=condition))).abs().sum(-1).flatten(1)
    assert (moved > 1e-6).nonzero().tolist() == [[0, 4]]


def test_stock_parts_stand_beside_it() -> None:
    """Attention that knows no condition, in the same block and within a group and a sum."""
    branches = (
        BranchSpec(part("attention", heads=2), norm=part("adaptive_norm")),
        BranchSpec(part("parallel", parts=(part("mlp"), part("modulated", part=part("attention", heads=2))))),
        BranchSpec(part("chain", parts=(part("adaptive_norm"), part("attention", heads=2)))),
        BranchSpec(part("mlp"), norm=part("layer_norm")),
    )
    block = Block(BlockSpec(branches), 8, (3, 2))
    randomise(block)
    x, condition = torch.randn(2, 3, 2, 8), torch.randn(2, 8)
    first = block(x, Context(condition=condition))[0]
    assert not torch.allclose(first, block(x, Context(condition=condition + 1))[0])
    mask = torch.ones(2, 3, 2, dtype=torch.bool)
    torch.testing.assert_close(block(x, Context(condition=condition, mask=mask))[0], first)


@pytest.mark.parametrize("axis", [0, 1])
def test_each_entry_of_an_axis_has_its_own_conditions(axis: int) -> None:
    inner = part("modulated", part=part("attention", heads=2))
    module = build_part(part("each", part=inner, axis=axis), 8, grid=(3, 2)).double()
    randomise(module)
    x, condition = torch.randn(2, 3, 2, 8).double(), torch.randn(2, 3, 2, 8).double()
    y = module(x, Context(condition=condition))
    torch.testing.assert_close(module(x, Context(condition=condition.flatten(1, 2))), y)
    for entry in range(x.shape[1 + axis]):
        one = Context(condition=condition.select(1 + axis, entry))
        torch.testing.assert_close(module.part(x.select(1 + axis, entry), one), y.select(1 + axis, entry))
    with pytest.raises(UserError, match="an entry for each token"):
        module(x, Context(condition=condition[:, :2]))


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (Context(), "takes a condition of 8 channels.*none came"),
        (Context(condition=torch.zeros(2, 7).double()), r"of 8 channels.*got one of shape \(2, 7\)"),
        (Context(condition=torch.zeros(2, 5, 8).double()), "an entry for each token"),
        (Context(memory=torch.zeros(2, 5, 8).double()), "memory"),
    ],
)
def test_what_it_cannot_take_is_said(context: Context, message: str) -> None:
    with pytest.raises(UserError, match=message):
        modulated()(torch.zeros(2, 3, 2, 8).double(), context)


def test_positions_have_channels_of_their_own_for_each_axis() -> None:
    table = grid_sine_table((3, 5), 16)
    assert table.shape == (15, 16)
    for row in range(3):
        for column in range(5):
            expected = []
            for place in (column, row):
                angles = [place * 10000 ** (-i / 4) for i in range(4)]
                expected += [torch.tensor(angles).sin(), torch.tensor(angles).cos()]
            torch.testing.assert_close(table[5 * row + column], torch.cat(expected))
    with pytest.raises(UserError, match="a multiple of 4 channels, got 10"):
        grid_sine_table((3, 5), 10)

from __future__ import annotations

import pytest
import torch

from formwright.errors import UserError
from formwright.nn import PARTS, BlockSpec, BranchSpec, Context, Part, Promises, StageSpec, part
from formwright.nn.context import EMPTY
from formwright.nn.frame import Backbone, Block, Branch, DropPath

EMBED = part("patch_embedding", kernel=4)
STAGE = StageSpec(dim=8, blocks=(BlockSpec((BranchSpec(part("mlp")),)),))


def test_a_branch_is_its_formula() -> None:
    spec = BranchSpec(
        part("mlp"),
        norm=part("layer_norm"),
        post_norm=part("layer_norm"),
        layer_scale=0.5,
        residual_scale=2.0,
    )
    branch = Branch(spec, 8, (3,)).double()
    x = torch.randn(2, 3, 8, dtype=torch.float64)
    assert branch.norm is not None
    assert branch.post_norm is not None
    expected = branch.post_norm(2 * x + 0.5 * branch.part(branch.norm(x)))
    torch.testing.assert_close(branch(x)[0], expected)


@pytest.mark.parametrize("layer_scale", [None, 0.5])
@pytest.mark.parametrize("residual_scale", [None, 2.0])
def test_training_and_inference_agree_where_nothing_is_dropped(
    layer_scale: float | None, residual_scale: float | None
) -> None:
    """The fused form of inference and the form of stochastic depth are written apart."""
    spec = BranchSpec(part("mlp"), layer_scale=layer_scale, residual_scale=residual_scale, drop_path=1e-12)
    branch = Branch(spec, 8, (3,)).double()
    x = torch.randn(2, 3, 8, dtype=torch.float64)
    torch.testing.assert_close(branch.train()(x)[0], branch.eval()(x)[0])


def test_stochastic_depth_drops_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    drop = DropPath(0.25).train()
    y = drop(torch.ones(4000, 3, 2))
    per_sample = y[:, 0, 0]
    assert torch.equal(y, per_sample[:, None, None].expand_as(y))
    assert per_sample.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert per_sample.mean() == pytest.approx(1, abs=0.05)
    assert torch.equal(drop.eval()(y), y)


def test_widths_must_meet() -> None:
    with pytest.raises(UserError, match="A stage of 16 channels after 8 needs a downsampling part"):
        Backbone(EMBED, [STAGE, StageSpec(dim=16, blocks=())], 3, (16, 16))
    with pytest.raises(UserError, match="at least one stage"):
        Backbone(EMBED, [], 3, (16, 16))


def test_tokens_of_another_width_are_refused() -> None:
    backbone = Backbone(EMBED, [STAGE], 3, (16, 16))
    with pytest.raises(UserError, match=r"A stage expects tokens \(batch, \*grid, 8\), and got \(2, 4, 4, 9\)"):
        backbone.stages[0](torch.zeros(2, 4, 4, 9))


@pytest.mark.parametrize("shape", [(2, 4, 16, 16), (2, 3, 16), (3, 16, 16)])
def test_inputs_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    backbone = Backbone(EMBED, [STAGE], 3, (16, 16))
    with pytest.raises(UserError, match=r"Expected an input \(batch, 3, size, size\), and got"):
        backbone(torch.zeros(shape))
    with pytest.raises(UserError, match=r"Expected an input \(batch, 3, size, size\), and got"):
        backbone.features(torch.zeros(shape), [0])


@pytest.mark.parametrize("stage", [STAGE, StageSpec(dim=8, blocks=(), entry=(part("class_token"),))])
def test_no_part_ignores_a_fact(stage: StageSpec) -> None:
    context = Context(token_size=torch.zeros(2, 16))
    backbone = Backbone(EMBED, [stage], 3, (16, 16))
    with pytest.raises(UserError, match="PatchEmbedding does not use token_size"):
        backbone(torch.zeros(2, 3, 16, 16), context)
    if stage.entry:
        with pytest.raises(UserError, match="ClassToken does not use token_size"):
            backbone.stages[0](torch.zeros(2, 4, 4, 8), context)


def test_an_offer_that_nothing_takes_is_refused() -> None:
    backbone = Backbone(EMBED, [STAGE], 3, (16, 16))
    context = Context(memory=torch.zeros(2, 3, 4))
    for module, x in ((backbone, torch.zeros(2, 3, 16, 16)), (backbone.stages[0], torch.zeros(2, 4, 4, 8))):
        with pytest.raises(UserError, match=f"No part of {type(module).__name__} uses memory"):
            module(x, context)


class _Conditioned(Part):
    """Adds the condition to every token."""

    uses = frozenset({"condition"})
    promises = Promises(per_token=True)

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: torch.Tensor, context: Context = EMPTY) -> torch.Tensor:
        return x if context.condition is None else context.condition[:, None]


def test_an_offer_that_one_part_takes_passes_the_others() -> None:
    branches = (BranchSpec(part("attention", heads=2)), BranchSpec(part("mlp")))
    block = Block(BlockSpec(branches), 8, (3,))
    block.branches[1].part = _Conditioned(8)
    x, condition = torch.randn(2, 3, 8), torch.randn(2, 8)
    y, _ = block(x, Context(condition=condition))
    expected, _ = block.branches[0](x)
    torch.testing.assert_close(y, expected + condition[:, None])
    with pytest.raises(UserError, match="No part of Attention uses condition"):
        block.branches[0].part(x, Context(condition=condition))


class _Halved(Part):
    """Keeps every second token."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: torch.Tensor, context: Context = EMPTY) -> tuple[torch.Tensor, Context]:
        return x[:, ::2], context


def test_what_stands_after_a_branch_changes_tokens_and_context(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PARTS._items, "halved", _Halved)
    spec = BlockSpec((BranchSpec(part("attention", heads=2), after=part("halved")), BranchSpec(part("mlp"))))
    block = Block(spec, 8, (8,))
    plain = Block(BlockSpec((BranchSpec(part("attention", heads=2)), spec.branches[1])), 8, (8,))
    plain.load_state_dict(block.state_dict())
    x = torch.randn(2, 8, 8)
    torch.testing.assert_close(block(x)[0], plain.branches[1](plain.branches[0](x)[0][:, ::2])[0])
    with pytest.raises(UserError, match="cannot stream"):
        list(block.parts("block"))


def test_norms_around_a_branch_are_asked_about_the_context() -> None:
    mask = Context(mask=torch.ones(2, 3, dtype=torch.bool))
    for where in ("norm", "post_norm"):
        branch = Branch(BranchSpec(part("mlp"), **{where: part("group_norm")}), 8, (3,))
        with pytest.raises(UserError, match="GroupNorm does not use mask"):
            branch(torch.zeros(2, 3, 8), mask)


def test_the_smallest_input_is_said() -> None:
    down = part("downsampling", kernel=2)
    backbone = Backbone(EMBED, [STAGE, StageSpec(dim=12, blocks=(), downsample=down)], 3, (16, 16))
    backbone.check_size((8, 8))
    with pytest.raises(UserError, match=r"An input of 8 x 7 is too small .* sides of at least 8"):
        backbone.check_size((8, 7))
    assert backbone.grids((16, 24)) == [(4, 6), (2, 3)]


def test_class_tokens_are_left_out_of_the_features() -> None:
    stage = StageSpec(
        dim=8, blocks=STAGE.blocks, entry=(part("class_token", count=2), part("position_table", prefix=2))
    )
    backbone = Backbone(EMBED, [stage], 3, (16, 12))
    x = torch.randn(2, 3, 16, 12)
    tokens, context = backbone(x)
    assert tokens.shape == (2, 2 + 12, 8)
    assert (context.prefix, context.grid) == (2, (4, 3))
    (places,) = backbone.features(x, [0])
    torch.testing.assert_close(places.flatten(1, 2), tokens[:, 2:])

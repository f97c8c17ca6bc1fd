"""Token merging gives what the authors' code gives, keeps what must not merge, and the models around it work on.

The figures are those of facebookresearch/ToMe at commit af95e4b1, in float64: of its matching alone, and of its patched
timm Vision Transformer (6 blocks of 48 channels, patches of 4 on 32 x 32 pixels) with weights from their names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from formwright.catalog.reference import fill, images
from formwright.compression.token_merging import merge_in_blocks, merging_schedule
from formwright.deployment.export import export_onnx
from formwright.errors import UserError
from formwright.models import Network, create_model, from_pretrained, load_checkpoint
from formwright.nn import Context, build_part, part
from formwright.nn.edits import merge_tokens as merge_behind
from formwright.nn.functional.token_merging import bipartite_soft_matching, merge_tokens
from formwright.nn.token_merging import TokenMerging

FIGURES: dict[str, Any] = json.loads(Path(__file__).with_name("token_merging.json").read_text())
OPTIONS = {"dim": 48, "depth": 6, "heads": 3, "classes": 10, "image_size": 32, "patch_size": 4}


def vit(**changes: Any) -> Network:
    return create_model("vit_tiny_patch16_224", **{**OPTIONS, **changes}).eval()


@pytest.mark.parametrize("figures", FIGURES["matching"], ids=lambda figures: f"protected={figures['protected']}")
def test_matching_and_merging_equal_the_authors(figures: dict[str, Any]) -> None:
    random = np.random.RandomState(figures["protected"])
    metric, x = torch.tensor(random.standard_normal((2, 21, 6))), torch.tensor(random.standard_normal((2, 21, 4)))
    size = torch.tensor(random.uniform(0.5, 3, (2, 21)))
    matching = bipartite_soft_matching(metric, figures["removed"], figures["protected"])
    assert matching is not None
    tokens, sizes = merge_tokens(matching, x, size)
    assert tokens.shape == (2, 15, 4)
    torch.testing.assert_close(tokens.flatten(), torch.tensor(figures["tokens"]).double(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(sizes.flatten(), torch.tensor(figures["sizes"]).double(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("figures", FIGURES["models"], ids=lambda figures: f"{figures['remove']}")
def test_a_vision_transformer_with_merging_equals_the_authors(figures: dict[str, Any]) -> None:
    model = vit()
    load_checkpoint(model, {key: torch.tensor(fill(key, shape)) for key, shape in FIGURES["parameters"].items()})
    merged, schedule = merge_in_blocks(model, figures["remove"], figures["inflection"])
    assert schedule == figures["schedule"]
    with torch.inference_mode():
        logits = merged.double()(torch.tensor(images((2, 3, 32, 32))))
    torch.testing.assert_close(logits.flatten(), torch.tensor(figures["logits"]).double(), rtol=1e-6, atol=1e-6)


def test_prefix_tokens_stay_and_the_weighted_sum_is_kept() -> None:
    torch.manual_seed(0)
    x, size = torch.randn(2, 14, 8, dtype=torch.float64), torch.randint(1, 4, (2, 14)).double()
    merging = TokenMerging(8, remove=4, by="tokens")
    merged, context = merging(x, Context(prefix=3, grid=(11,), token_size=size))
    assert context.token_size is not None
    assert merged.shape == (2, 10, 8)
    assert torch.equal(merged[:, :3], x[:, :3])
    assert context.grid == (7,)
    torch.testing.assert_close(context.token_size.sum(1), size.sum(1))
    torch.testing.assert_close((merged * context.token_size[..., None]).sum(1), (x * size[..., None]).sum(1))


def test_merging_all_that_may_leaves_half() -> None:
    x = torch.randn(1, 9, 8)
    merged, _ = TokenMerging(8, remove=100, by="tokens")(x, Context(prefix=1, grid=(8,)))
    assert merged.shape == (1, 5, 8)
    few, same = TokenMerging(8, remove=1, by="tokens")(x[:, :2], Context(prefix=1, grid=(1,)))
    assert torch.equal(few, x[:, :2])
    assert same.token_size is None


@pytest.mark.parametrize("pool", ["class_token_pool", "mean_pool", "sequence_pool"])
def test_a_token_of_several_counts_as_often(pool: str) -> None:
    """Equal tokens merged into one give what they gave one by one, in attention and in every pool."""
    torch.manual_seed(0)
    attention = build_part(part("attention", heads=2), 8).double()
    pooling = build_part(part(pool), 8).double()
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    many = x[:, [0, 1, 2, 2, 2, 3, 4, 4]]
    merged = Context(prefix=1, grid=(4,), token_size=torch.tensor([[1, 1, 3, 1, 2]]).double().expand(2, -1))
    plain = Context(prefix=1, grid=(7,))
    torch.testing.assert_close(
        pooling(attention(x, merged), merged), pooling(attention(many, plain), plain), rtol=1e-12, atol=1e-12
    )


def test_in_every_block_of_a_vision_transformer_by_its_specification_alone(tmp_path: Path) -> None:
    merged, schedule = merge_in_blocks(vit(class_tokens=2), 6)
    assert schedule == [6] * 6
    seen = []
    for module in merged.modules():
        if isinstance(module, TokenMerging):
            module.register_forward_hook(lambda _, __, out: seen.append(out[0].shape[1]))
    x = merged.example(2)
    with torch.inference_mode():
        answer = merged(x)
    assert seen == [60, 54, 48, 42, 36, 30]
    merged.save_pretrained(tmp_path)
    with torch.inference_mode():
        torch.testing.assert_close(from_pretrained(tmp_path).eval()(x), answer, rtol=0, atol=0)
    assert export_onnx(merged, tmp_path / "model.onnx", x) < 1e-4
    merged.train()(x).square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in merged.parameters() if p.grad is not None)
    torch.compiler.reset()  # sizes that other tests had would become symbols, which take minutes to solve here
    compiled = torch.compile(merged.eval(), backend="eager", fullgraph=True, dynamic=False)
    with torch.inference_mode():
        torch.testing.assert_close(compiled(x), answer)


def test_bfloat16_and_a_real_size() -> None:
    model = create_model("deit_tiny_patch16_224").eval().to(torch.bfloat16)
    merged, _ = merge_in_blocks(model, 13)
    with torch.inference_mode():
        answer = merged(torch.randn(2, 3, 224, 224, dtype=torch.bfloat16))
    assert answer.shape == (2, 1000)
    assert torch.isfinite(answer).all()


def test_what_cannot_merge_says_so() -> None:
    with pytest.raises(UserError, match="at least one token"):
        build_part(part("token_merging", remove=0), 8)
    with pytest.raises(UserError, match="not by 'values'"):
        build_part(part("token_merging", remove=1, by="values"), 8)
    with pytest.raises(UserError, match="between -1 and 1"):
        merging_schedule(4, 2, 1.5)
    swin = create_model("swin_tiny_patch4_window7_224", dims=(8, 16), depths=(1, 1), heads=(1, 1), classes=2)
    with pytest.raises(UserError, match="no attention over all tokens"):
        merge_in_blocks(swin, 2)
    with pytest.raises(UserError, match="compares tokens by their keys"):
        merge_behind(vit(), "backbone.stages.0.blocks.0.branches.1", part("token_merging", remove=1))
    with pytest.raises(UserError, match="there are none"):
        TokenMerging(8, remove=1)(torch.randn(1, 6, 8))
    causal = build_part(part("attention", heads=2, causal=True), 8)
    with pytest.raises(UserError, match="Attention does not use token_size"):
        causal(torch.randn(1, 4, 8), Context(token_size=torch.ones(1, 4)))

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from formwright.errors import UserError
from formwright.models import Model, create_model, empty_copy, from_pretrained
from formwright.nn import PARTS, Context, Part, build_part, part
from formwright.nn.context import EMPTY
from formwright.nn.edits import apply_edits, drop_branch, merge_tokens, replace_part, swap_mixers
from formwright.nn.specification import EditSpec

BRANCH = "backbone.stages.0.blocks.1.branches.0"


def decoder(**options: Any) -> Model:
    torch.manual_seed(0)
    return create_model("decoder_tiny", vocabulary=11, length=12, dim=16, depth=2, heads=2, **options).eval()


def ids() -> torch.Tensor:
    return torch.randint(11, (2, 9), generator=torch.Generator().manual_seed(0))


def reloaded(model: Model, folder: Path) -> Model:
    model.save_pretrained(folder)
    return from_pretrained(folder)


def test_a_dropped_branch_is_the_identity(tmp_path: Path) -> None:
    model, whole = decoder(), decoder()
    with torch.no_grad():  # what the branch adds becomes nothing
        part_of = whole.backbone.stages[0].blocks[1].branches[0].part
        for parameter in part_of.proj.parameters():
            parameter.zero_()
    before = model.parameter_count()
    removed = sum(p.numel() for p in model.get_submodule(BRANCH).parameters())
    edit = drop_branch(model, BRANCH)
    model.record_edits([edit])
    assert edit == EditSpec("drop", BRANCH)
    assert model.parameter_count() == before - removed
    assert not any(name.startswith(f"{BRANCH}.") for name in model.state_dict())
    assert any(name.startswith("backbone.stages.0.blocks.1.branches.1.") for name in model.state_dict())
    torch.testing.assert_close(model(ids()), whole(ids()))
    assert torch.equal(reloaded(model, tmp_path)(ids()), model(ids()))
    assert empty_copy(model.specification).parameter_count() == model.parameter_count()


def test_a_model_streams_past_what_was_dropped() -> None:
    model = decoder()
    drop_branch(model, BRANCH)
    with torch.no_grad():
        expected = model(ids())
        state, scores = model.init_state(2, 9), []
        assert not any(name.startswith(BRANCH) for name in state)
        for piece in (ids()[:, :4], ids()[:, 4:5], ids()[:, 5:]):
            y, state = model.stream(piece, state)
            scores.append(y)
    torch.testing.assert_close(torch.cat(scores, dim=1), expected)


def test_a_branch_of_a_loop_is_dropped_from_each_time() -> None:
    torch.manual_seed(0)
    model = create_model("algoformer", dim=16, heads=2, loops=3, channels=3, length=12).eval()
    paths = [name for name, module in model.named_modules() if type(module).__name__ == "Branch"]
    x = model.specification.input.example(2)
    before = model(x)
    looped = next(path for path in paths if model.get_submodule(path.split(".blocks")[0]).repeats > 1)
    drop_branch(model, looped)
    after = model(x)
    assert after.shape == before.shape
    assert not torch.allclose(after, before)
    state, pieces = model.init_state(2, 12), []
    for piece in x.split(5, dim=1):
        y, state = model.stream(piece, state)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, dim=1), after)


def test_every_branch_can_be_dropped_and_a_step_be_trained() -> None:
    model = decoder()
    for block in range(2):
        for branch in range(2):
            drop_branch(model, f"backbone.stages.0.blocks.{block}.branches.{branch}")
    model.train()(ids()).square().mean().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_another_token_mixer_takes_the_place(tmp_path: Path) -> None:
    model = decoder()
    before = model(ids())
    edit = replace_part(model, f"{BRANCH}.part", part("linear_attention", heads=4, causal=True))
    model.record_edits([edit])
    after = model(ids())
    assert after.shape == before.shape
    assert not torch.allclose(after, before)
    again = reloaded(model, tmp_path)
    assert type(again.get_submodule(f"{BRANCH}.part")).__name__ == "LinearAttention"
    assert torch.equal(again(ids()), after)
    assert again.specification.edits == (edit,)


def test_norms_and_entries_are_replaced_too(tmp_path: Path) -> None:
    model = decoder().double()
    edits = [replace_part(model, f"{BRANCH}.norm", part("rms_norm", eps=1e-5))]
    model.record_edits(edits)
    assert model.get_submodule(f"{BRANCH}.norm").weight.dtype is torch.float64
    assert torch.equal(reloaded(model.float(), tmp_path)(ids()), model(ids()))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (EditSpec("drop", f"{BRANCH}.part"), "Only a residual branch can be dropped, and '.*' is a"),
        (EditSpec("drop", "backbone.stages.0.blocks.7.branches.0"), "no module .*; the edits were made to another"),
        (EditSpec("replace", f"{BRANCH}.part", {"part": part("atention", heads=2)}), "no part named 'atention'"),
        (EditSpec("replace", f"{BRANCH}.part", {"part": part("attention", head=2)}), "no option 'head'"),
        (EditSpec("replace", f"{BRANCH}.part", {"part": "attention"}), "is the specification of a part"),
        (EditSpec("replace", f"{BRANCH}.part", {}), "lacks its option 'part'"),
        (EditSpec("replace", f"{BRANCH}.part.qkv", {"part": part("mlp")}), "is a Linear, for which no other part"),
        (EditSpec("replace", "head", {"part": part("mlp")}), "is a TokenScores, for which no other part"),
    ],
)
def test_what_cannot_be_done_is_said(edit: EditSpec, message: str) -> None:
    with pytest.raises(UserError, match=message):
        apply_edits(decoder(), [edit])


class _Halved(Part):
    """Means of two neighbours."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.full((dim,), 2.0))

    def forward(self, x: torch.Tensor, context: Context = EMPTY) -> tuple[torch.Tensor, Context]:
        return self.scale * (x[:, ::2] + x[:, 1::2]), context


def test_tokens_are_merged_behind_a_branch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(PARTS._items, "halved", _Halved)
    model = decoder()
    x = ids()[:, :8]
    edit = merge_tokens(model, BRANCH, part("halved"))
    model.record_edits([edit])
    with torch.no_grad():
        model.get_submodule(f"{BRANCH}.after").scale.fill_(0.5)
    scores = model(x)
    assert scores.shape == (2, 4, 11)
    again = reloaded(model, tmp_path)
    assert torch.equal(again(x), scores)
    assert again.specification.edits == (edit,)
    with pytest.raises(UserError, match=rf"A _Halved stands behind '{BRANCH}' already; replace '{BRANCH}\.after'"):
        merge_tokens(model, BRANCH, part("halved"))
    with pytest.raises(UserError, match="cannot stream"):
        model.init_state(2, 8)
    with pytest.raises(UserError, match=r"Tokens are merged behind a residual branch, and '.*' is a"):
        merge_tokens(model, f"{BRANCH}.part", part("halved"))
    replace_part(model, f"{BRANCH}.after", part("halved"))
    drop_branch(model, BRANCH)
    assert model(x).shape == (2, 8, 11)


def test_a_branch_is_dropped_once() -> None:
    model = decoder()
    with pytest.raises(UserError, match=rf"The branch '{BRANCH}' has been dropped already"):
        apply_edits(model, [EditSpec("drop", BRANCH)] * 2)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "poolformer_s12", "swin_tiny_patch4_window7_224"])
@pytest.mark.parametrize(("mixer", "options"), [("mamba", {}), ("linear_attention", {"heads": 2})])
def test_mixers_of_models_are_swapped_and_saved(name: str, mixer: str, options: dict[str, Any], tmp_path: Path) -> None:
    narrow = {"dims": (8, 8, 16, 16), "depths": (1, 1, 1, 1)}
    small = {
        "vit_tiny_patch16_224": {"dim": 16, "depth": 2, "heads": 2, "image_size": 32},
        "poolformer_s12": {**narrow, "image_size": 64},
        "swin_tiny_patch4_window7_224": {
            "dims": (8, 8, 16, 16),
            "depths": (1, 1, 1, 1),
            "heads": (1, 1, 2, 2),
            "image_size": 224,
        },
    }[name]
    model = create_model(name, classes=3, **small)
    edits = swap_mixers(model, mixer, **options)
    assert len(edits) == {"vit_tiny_patch16_224": 2}.get(name, 4)
    x = torch.randn(2, 3, small["image_size"], small["image_size"])
    model(x).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    model.eval()
    with torch.no_grad():
        assert torch.equal(reloaded(model, tmp_path).eval()(x), model(x))


def test_a_causal_mixer_reads_class_tokens_last() -> None:
    torch.manual_seed(0)
    mixer = build_part("flattened", 8, part=part("mamba"))
    tokens = torch.randn(2, 2 + 6, 8)
    with torch.no_grad():
        y = mixer(tokens, Context(prefix=2, grid=(2, 3)))
        plain = mixer.part(torch.cat([tokens[:, 2:], tokens[:, :2]], 1))
    torch.testing.assert_close(y, torch.cat([plain[:, 6:], plain[:, :6]], 1))


def test_a_model_without_mixers_says_so() -> None:
    with pytest.raises(UserError, match="no residual branch that mixes tokens"):
        swap_mixers(create_model("airbench94", dims=(8, 8, 8), classes=2, image_size=32), "mamba")


def test_a_mixer_of_sequences_does_not_stand_on_a_grid_of_two_axes() -> None:
    model = create_model("poolformer_s12", dims=(8, 8, 8, 8), depths=(1, 1, 1, 1), classes=2, image_size=64)
    edit = replace_part(model, "backbone.stages.0.blocks.0.branches.0.part", part("mamba"))
    with pytest.raises(UserError, match=r"grid of 1 axes, and this network has 2; part\(\"flattened\""):
        model.record_edits([edit])

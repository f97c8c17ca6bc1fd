from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from formwright.errors import UserError
from formwright.models import Model, create_model, load_checkpoint
from formwright.models.checkpoints import LAYOUTS, Layout, stacked, to_layout
from formwright.models.states import read_state


def vit(**changes: object) -> Model:
    options = {"dim": 16, "depth": 2, "heads": 2, "image_size": 32, "classes": 5, **changes}
    return create_model("vit_tiny_patch16_224", **options).eval()


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return vit()


def as_timm(model: Model) -> dict[str, torch.Tensor]:
    """The state of a ViT under timm's names."""
    state = {}
    for name, tensor in model.state_dict().items():
        name = name.replace("backbone.stages.0.", "").replace("backbone.embed.conv.", "patch_embed.proj.")
        for ours, theirs in (("0.norm", "norm1"), ("0.part", "attn"), ("1.norm", "norm2"), ("1.part", "mlp")):
            name = name.replace(f"branches.{ours}.", f"{theirs}.")
        name = name.replace("head.norm.", "norm.").replace("head.linear.", "head.")
        name = {"entry.0.tokens": "cls_token", "entry.1.table": "pos_embed"}.get(name, name)
        state[name] = (tensor[None] if name in ("cls_token", "pos_embed") else tensor).contiguous()
    return state


def same(a: Model, b: Model) -> bool:
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return torch.equal(a(images), b(images))


def test_our_own_layout_loads_from_a_dictionary_a_file_and_a_folder(model: Model, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    for source in (model.state_dict(), tmp_path / "model.safetensors", str(tmp_path)):
        other = vit()
        assert not same(other, model)
        assert load_checkpoint(other, source) == "formwright"
        assert same(other, model)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model": state, "epoch": 3, "best": 0.5},
        lambda state: {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}},
    ],
    ids=["plain", "wrapped", "distributed"],
)
def test_plain_tensors_in_pytorch_files_are_read(
    model: Model, tmp_path: Path, wrap: Callable[[dict[str, torch.Tensor]], object]
) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save(wrap(as_timm(model)), path)
    other = vit()
    assert load_checkpoint(other, path) == "timm"
    assert same(other, model)


class _Payload:
    """What a malicious file holds: reading it would run a command."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("harm",)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {"weight": torch.zeros(2)}, "args": _Payload()}, "zipped.pth")
    Path("plain.pth").write_bytes(pickle.dumps(_Payload(), protocol=2))
    for name in ("zipped.pth", "plain.pth"):
        with pytest.raises(UserError, match=r"holds more than plain tensors, .* it is refused"):
            read_state(name)
    assert not Path("harm").exists()


def test_damaged_files_are_named_for_what_they_are(model: Model, tmp_path: Path) -> None:
    whole = tmp_path / "whole.pth"
    torch.save(model.state_dict(), whole)
    content = whole.read_bytes()
    for length in (0, 1, 100, len(content) // 2, len(content) - 10):
        (tmp_path / "part.pth").write_bytes(content[:length])
        with pytest.raises(UserError, match=r"part\.pth is not a whole checkpoint file"):
            read_state(tmp_path / "part.pth")
    (tmp_path / "notes.pth").write_text("weights: see the other folder")
    with pytest.raises(UserError, match=r"notes\.pth is not a whole checkpoint file"):
        read_state(tmp_path / "notes.pth")
    (tmp_path / "part.safetensors").write_bytes(b"\x00" * 30)
    with pytest.raises(UserError, match="not a whole safetensors file"):
        read_state(tmp_path / "part.safetensors")
    with pytest.raises(UserError, match=r"no checkpoint file .*missing\.pth"):
        read_state(tmp_path / "missing.pth")


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [torch.zeros(2)], torch.zeros(2)], ids=str)
def test_files_without_a_state_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "checkpoint.pth")
    with pytest.raises(UserError, match="holds no"):
        read_state(tmp_path / "checkpoint.pth")


def test_a_mismatch_lists_what_differs(model: Model) -> None:
    state = dict(model.state_dict())
    del state["head.linear.bias"]
    state["head.linear.weight"] = torch.zeros(7, 16)
    state["head.extra.weight"] = torch.zeros(2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_checkpoint(model, state)
    message = str(caught.value)
    assert "1 missing: head.linear.bias" in message
    assert "1 unexpected: head.extra.weight" in message
    assert "1 of another shape: head.linear.weight (7, 16) instead of (5, 16)" in message
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items()), "nothing is loaded"


def test_long_lists_are_cut(model: Model) -> None:
    with pytest.raises(UserError, match=r"\d\d missing: [^,]+, [^,]+, [^,]+, [^,]+, \.\.\.; 1 unexpected: a\."):
        load_checkpoint(model, {"a": torch.zeros(1)})


def test_an_authors_checkpoint_that_lacks_a_tensor_says_which(model: Model) -> None:
    for name in ("pos_embed", "cls_token", "blocks.0.attn.qkv.bias"):
        state = as_timm(model)
        del state[name]
        with pytest.raises(UserError, match="These weights belong to another model"):
            load_checkpoint(model, state)


def test_the_head_can_stay_as_it_is(model: Model, tmp_path: Path) -> None:
    other = vit(classes=9)
    head = other.head.linear.weight.detach().clone()
    save_file(as_timm(model), tmp_path / "timm.safetensors")
    assert load_checkpoint(other, tmp_path / "timm.safetensors", head=False) == "timm"
    assert torch.equal(other.head.linear.weight, head)
    assert torch.equal(other.backbone.embed.conv.weight, model.backbone.embed.conv.weight)


def test_sides_of_one_are_no_other_shape(model: Model) -> None:
    state = {
        name: tensor[:, :, None, None] if name.endswith("fc1.weight") else tensor
        for name, tensor in model.state_dict().items()
    }
    other = vit()
    load_checkpoint(other, state)
    assert same(other, model)


def test_renames_apply_to_whole_names_and_the_first_one_wins(model: Model) -> None:
    layout = Layout(
        name="somebody",
        marker="^net",
        renames=(
            (r"net\.(\d+)\.w", r"blocks.\1.weight"),
            (r"net\.(\d+)\..*", lambda match: f"rest.{int(match[1]) + 1}"),
            (r"unused", None),
        ),
        convert=lambda state, _: {**state, "added": torch.ones(1)},
    )
    state = {name: torch.zeros(1) for name in ("net.0.w", "net.0.w2", "unused", "other")}
    assert layout.recognises(list(state))
    assert not layout.recognises(["subnet.0"])
    assert list(layout.apply(state, model)) == ["blocks.0.weight", "rest.1", "other", "added"]


def test_pieces_are_stacked_and_taken_apart_again() -> None:
    layout = Layout(
        "mine",
        marker="blocks",
        renames=(
            *stacked(r"(?:net\.)?blocks\.(\d+)\.{}\.(weight|bias)", ("query", "key"), r"b.\1.qk.\2"),
            (r"(\w+)\.in\.(\d+)", r"in.\2.\1"),
            (r"junk\..*", None),
        ),
    )
    query, key = torch.randn(2, 3), torch.randn(2, 3)
    theirs = {"blocks.1.key.weight": key, "net.blocks.1.query.weight": query, "left.in.2": query, "junk.x": key}
    ours = layout.apply(theirs, torch.nn.Identity())
    assert set(ours) == {"b.1.qk.weight", "in.2.left"}
    assert torch.equal(ours["b.1.qk.weight"], torch.cat([query, key]))
    assert layout._names_of("b.1.qk.weight") == ["net.blocks.1.query.weight", "net.blocks.1.key.weight"]
    assert layout._names_of("in.2.left") == ["left.in.2"]
    with pytest.raises(UserError, match=r"has no place for b\.1\.other"):
        layout._names_of("b.1.other")


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [(r"a\.(.*)", "b"), (r"a.b", "c"), (r"(?:a|b)\.c", "d"), (r"a\.\d+", "b"), (r"(a|b)\.(c|d)", r"\2")],
)
def test_renames_that_lose_something_have_no_way_back(pattern: str, replacement: str) -> None:
    layout = Layout("mine", marker="a", renames=((pattern, replacement),))
    assert not layout._inverse


@pytest.mark.parametrize("name", ["convnext_tiny", "poolformerv2_s12"])
@pytest.mark.parametrize("whose", [0, 1])
def test_what_is_written_in_somebodys_layout_is_read_from_it(name: str, whose: int) -> None:
    options = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32), "classes": 5, "image_size": 64}
    torch.manual_seed(0)
    model, other = create_model(name, **options), create_model(name, **options)
    layout = LAYOUTS[model.specification.family][whose]
    assert load_checkpoint(other, to_layout(model, layout.name)) == layout.name
    for left, right in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(left, right)


def test_a_layout_for_reading_only_says_so(model: Model) -> None:
    with pytest.raises(UserError, match=r"timm for vit can be read, not written"):
        to_layout(model, "timm")

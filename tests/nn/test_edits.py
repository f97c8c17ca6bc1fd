from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import nn

from formwright.errors import UserError
from formwright.nn import Axis, Part, build_part, part
from formwright.nn.edits import EDITS, apply_edits, keep_entries, module_at, permute_entries
from formwright.nn.specification import EditSpec


def mlp(hidden: int = 6) -> nn.ModuleDict:
    return nn.ModuleDict({"mixer": build_part(part("mlp", hidden=hidden), 4)})


def test_the_entries_that_are_kept_keep_their_values() -> None:
    model = mlp()
    before = {name: tensor.clone() for name, tensor in model.mixer.state_dict().items()}
    edit = keep_entries(model, "mixer", "hidden", [4, 1])
    after = model.mixer.state_dict()
    assert edit == EditSpec("keep", "mixer", {"axis": "hidden", "kept": 2})
    assert torch.equal(after["fc1.weight"], before["fc1.weight"][[1, 4]])
    assert torch.equal(after["fc1.bias"], before["fc1.bias"][[1, 4]])
    assert torch.equal(after["fc2.weight"], before["fc2.weight"][:, [1, 4]])
    assert torch.equal(after["fc2.bias"], before["fc2.bias"])
    assert (model.mixer.hidden, model.mixer.fc1.out_features, model.mixer.fc2.in_features) == (2, 2, 2)


def test_heads_are_cut_from_queries_keys_and_values() -> None:
    model = nn.ModuleDict({"mixer": build_part(part("attention", heads=3, head_dim=2), 4)})
    rows = model.mixer.qkv.weight.detach().clone()
    keep_entries(model, "mixer", "heads", [1])
    assert torch.equal(model.mixer.qkv.weight, rows[[2, 3, 8, 9, 14, 15]])
    assert model.mixer.proj.weight.shape == (4, 2)


class _Normed(Part):
    """A depthwise convolution and its norm, all channels of which are cut."""

    resizable: ClassVar[dict[str, str]] = {"hidden": "hidden"}

    def __init__(self) -> None:
        super().__init__()
        self.hidden = 4
        self.conv = nn.Conv2d(4, 4, 3, groups=4)
        self.norm = nn.BatchNorm2d(4)
        self.frozen = nn.Parameter(torch.arange(8.0).view(4, 2), requires_grad=False)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        hidden = Axis("hidden")
        norm = [f"norm.{name}" for name in ("weight", "bias", "running_mean", "running_var")]
        return {
            "conv.weight": (hidden, None, None, None),
            "frozen": (hidden, None),
            **dict.fromkeys(["conv.bias", *norm], (hidden,)),
        }


def test_layers_know_their_new_sizes() -> None:
    model = nn.ModuleDict({"part": _Normed()})
    keep_entries(model, "part", "hidden", [0, 3])
    cut = model.part
    assert (cut.conv.in_channels, cut.conv.out_channels, cut.conv.groups) == (2, 2, 2)
    assert (cut.norm.num_features, cut.norm.running_mean.shape) == (2, (2,))
    assert cut.frozen.tolist() == [[0, 1], [6, 7]]
    assert not cut.frozen.requires_grad
    assert "running_mean" in dict(cut.norm.named_buffers())
    assert cut.norm(cut.conv(torch.randn(2, 2, 5, 5))).shape == (2, 2, 3, 3)


@pytest.mark.parametrize(
    ("target", "axis", "entries", "message"),
    [
        ("mixer", "heads", [0], "'mixer' has no axis 'heads' that can be cut"),
        ("mixer.fc1", "hidden", [0], "has no axis 'hidden' that can be cut"),
        ("blocks.7", "hidden", [0], r"no module 'blocks\.7'; the edits were made to another model"),
        ("mixer", "hidden", [], "has 6 entries on its axis 'hidden', numbered from 0; cannot keep none"),
        ("mixer", "hidden", range(7), r"cannot keep 0, 1, 2, 3, 4, 5, 6\."),
        ("mixer", "hidden", [-1, 2], "cannot keep"),
        ("mixer", "hidden", [2, 2], "cannot keep"),
    ],
)
def test_what_cannot_be_cut_is_said(target: str, axis: str, entries: list[int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        keep_entries(mlp(), target, axis, entries)


def test_edits_are_replayed_from_shapes_in_order() -> None:
    edited = mlp()
    edits = [keep_entries(edited, "mixer", "hidden", kept) for kept in ([0, 2, 3, 5], [1, 3])]
    replayed = mlp()
    apply_edits(replayed, edits)
    replayed.load_state_dict(edited.state_dict())
    x = torch.randn(3, 4)
    assert torch.equal(replayed.mixer(x), edited.mixer(x))


def test_unknown_edits_are_refused() -> None:
    with pytest.raises(UserError, match="no edit named 'kep'; did you mean keep"):
        apply_edits(mlp(), [EditSpec("kep", "mixer")])
    assert {"keep", "fold"} <= set(EDITS)


def test_options_that_an_edit_lacks_are_named() -> None:
    with pytest.raises(UserError, match=r"The edit 'keep' of 'mixer' .*'kept'"):
        apply_edits(mlp(), [EditSpec("keep", "mixer", {"axis": "hidden"})])


def test_a_number_of_entries_is_whole() -> None:
    for kept in ("2", 2.0, True):
        with pytest.raises(UserError, match="is a whole number, got"):
            apply_edits(mlp(), [EditSpec("keep", "mixer", {"axis": "hidden", "kept": kept})])


def test_entries_are_permuted_and_the_edit_keeps_all() -> None:
    model, x = mlp(), torch.randn(3, 4)
    expected = model.mixer(x)
    edit = permute_entries(model, "mixer", "hidden", [5, 0, 3, 1, 2, 4])
    torch.testing.assert_close(model.mixer(x), expected)
    assert edit == EditSpec("keep", "mixer", {"axis": "hidden", "kept": 6})
    with pytest.raises(UserError, match="An order names each of the 6 entries"):
        permute_entries(model, "mixer", "hidden", [0, 0, 1, 2, 3, 4])


def test_the_empty_path_is_the_model_itself() -> None:
    model = mlp()
    assert module_at(model, "") is model

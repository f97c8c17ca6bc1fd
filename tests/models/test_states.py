"""Tensors are found in whatever training programs save around them."""

from __future__ import annotations

import argparse
import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.models.states import plain_names, read_state

State = dict[str, Tensor]


def state(value: float = 1.0) -> State:
    return {"stem.weight": torch.full((2, 3), value), "head.bias": torch.full((2,), value)}


def prefixed(prefix: str, value: float = 1.0) -> State:
    return {prefix + name: tensor for name, tensor in state(value).items()}


def same(found: State, value: float = 1.0) -> bool:
    wanted = state(value)
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda own: own,
        lambda own: OrderedDict(own),
        lambda own: {"state_dict": own, "epoch": 3},
        lambda own: {"model": own, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}},
        lambda own: {"net": own, "acc": 93.1, "epoch": 7},
        lambda own: {"network": own},
        lambda own: {"model_state_dict": own, "loss": torch.tensor(0.5)},
        lambda own: {"checkpoint": 1, "model": {"state_dict": own}},
        lambda own: {"state_dict": {"model": {"module": own}}},
        lambda own: {"model": own, "args": argparse.Namespace(lr=0.1, data="here", steps=[1, 2])},
        lambda own: {"epoch": 1, "pytorch-lightning_version": "2.6", "callbacks": {}, "state_dict": own},
        lambda own: {"model": own, "ema": None},
        lambda own: {"model": own, "model_ema": {}},
    ],
)
def test_known_wrappers_are_opened(wrap: Callable[[State], Any], tmp_path: Path) -> None:
    torch.save(wrap(state()), tmp_path / "checkpoint.pth")
    assert same(read_state(tmp_path / "checkpoint.pth"))


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": state(1.0), "state_dict_ema": state(2.0)},
        {"model": state(1.0), "model_ema": state(2.0)},
        {"net": state(1.0), "ema": state(2.0)},
        {"model": state(1.0), "ema": {"module": state(2.0), "updates": 10}},
        {"model": state(1.0), "model_ema": {"n_averaged": torch.tensor(4), **prefixed("module.", 2.0)}},
        {"state_dict": {**prefixed("model.", 1.0), **prefixed("ema_model.", 2.0)}},
        {"state_dict": {**prefixed("model.", 1.0), **prefixed("model_ema.module.", 2.0)}},
    ],
)
def test_averaged_weights_win(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "checkpoint.pth")
    assert same(read_state(tmp_path / "checkpoint.pth"), 2.0)


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "model.",
        "_orig_mod.",
        "module.model.",
        "model.module.",
        "_orig_mod.module.",
        "module._orig_mod.model.",
        "model.net.module._orig_mod.",
        "_forward_module.module.",
    ],
)
def test_prefixes_go_in_any_order_and_depth(prefix: str) -> None:
    assert same(plain_names(prefixed(prefix)))


def test_names_that_begin_alike_stay_where_others_do_not() -> None:
    names = {"model.layers.0.weight": torch.ones(1), "lm_head.weight": torch.ones(1)}
    assert plain_names(names) == names
    wrapped = {f"module.{name}": tensor for name, tensor in names.items()}
    assert list(plain_names(wrapped)) == list(names)


def test_what_compilers_insert_goes_from_the_middle_of_a_name() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    model[0] = torch.compile(model[0], backend="eager")
    assert "0._orig_mod.weight" in model.state_dict()
    assert list(plain_names(model.state_dict())) == ["0.weight", "0.bias"]


def sharded(folder: Path, names: tuple[str, str], index: str, save: Callable[[State, Path], object]) -> dict[str, str]:
    places = {}
    for (name, tensor), file in zip(state().items(), names, strict=True):
        save({name: tensor}, folder / file)
        places[name] = file
    (folder / index).write_text(json.dumps({"metadata": {"total_size": 32}, "weight_map": places}))
    return places


SHARDS = [
    (
        ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
        "model.safetensors.index.json",
        save_file,
    ),
    (
        ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"),
        "pytorch_model.bin.index.json",
        torch.save,
    ),
]


@pytest.mark.parametrize(("names", "index", "save"), SHARDS)
def test_several_files_with_an_index_are_one_state(
    names: tuple[str, str], index: str, save: Callable[..., object], tmp_path: Path
) -> None:
    sharded(tmp_path, names, index, save)
    assert same(read_state(tmp_path))
    assert same(read_state(tmp_path / index))
    (tmp_path / names[1]).unlink()
    with pytest.raises(UserError, match=rf"names the file {names[1]}, which is missing"):
        read_state(tmp_path)


def test_an_index_that_lies_is_refused(tmp_path: Path) -> None:
    names, index, save = SHARDS[0]
    places = sharded(tmp_path, names, index, save)
    save_file({"other": torch.ones(1)}, tmp_path / names[0])
    with pytest.raises(UserError, match=r"names stem\.weight, which is not in"):
        read_state(tmp_path)
    for content, says in (
        ({"weight_map": {**places, "stem.weight": "../elsewhere.safetensors"}}, "not in its own folder; it is refused"),
        ({"weights": {}}, "has no weight_map"),
    ):
        (tmp_path / index).write_text(json.dumps(content))
        with pytest.raises(UserError, match=says):
            read_state(tmp_path)


def test_a_folder_prefers_files_that_cannot_hold_code(tmp_path: Path) -> None:
    torch.save(state(1.0), tmp_path / "pytorch_model.bin")
    assert same(read_state(tmp_path), 1.0)
    save_file(state(2.0), tmp_path / "model.safetensors")
    assert same(read_state(tmp_path), 2.0)


def test_a_folder_without_weights_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no checkpoint file in .*: neither"):
        read_state(tmp_path)


class _Kept:
    """What no checkpoint of plain tensors holds."""


@pytest.mark.parametrize("content", [{"model": state(), "args": _Kept()}, {"model": state(), "config": Path("here")}])
def test_other_objects_than_arguments_are_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"holds more than plain tensors, .* it is refused"):
        read_state(tmp_path)

"""The tensors of checkpoint files: one file or several with an index, whatever was saved around them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from formwright.errors import UserError
from formwright.files import read_json
from formwright.models.network import WEIGHTS_FILE, read_safetensors

State = dict[str, Tensor]

#: What a folder's weights are called, the preferred first; an index names the files that hold them.
WEIGHT_FILES = (
    WEIGHTS_FILE,
    f"{WEIGHTS_FILE}.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)

#: Under what training programs save averaged weights, and the latest ones.
_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "params_ema", "ema")
_LATEST = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "params", "weights")

#: What wrappers put in front of every name.
_PREFIXES = ("module.", "model.", "net.", "network.")
#: What compilers and sharding put anywhere in a name.
_INSERTED = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_forward_module.")
#: How the names of an average begin that is kept among those of a network; a counter may be beside them.
_AVERAGED_PREFIXES = ("model_ema.", "ema_model.", "ema.")
_COUNTERS = ("n_averaged", "num_updates", "decay")


def read_state(path: str | Path) -> State:
    """Read the tensors of a checkpoint: a ``.safetensors`` file, or PyTorch's own format holding plain tensors.

    A folder is looked through for ``model.safetensors`` and ``pytorch_model.bin``, or the index of several such files.
    Tensors are found in what training programs save around them, the averaged ones where there are two sets; prefixes
    that every name has (``module.``, ``model.``) and what compilers insert (``_orig_mod.``) are left out.

    Raises:
        UserError: the file is missing or damaged, or reading it would run code of the file's author.
    """
    path = Path(path)
    if path.is_dir():
        found = next((path / name for name in WEIGHT_FILES if (path / name).is_file()), None)
        if found is None:
            raise UserError(f"There is no checkpoint file in {path}: neither {WEIGHT_FILES[0]} nor {WEIGHT_FILES[2]}.")
        path = found
    if not path.is_file():
        raise UserError(f"There is no checkpoint file {path}.")
    return plain_names(_read_shards(path) if path.suffix == ".json" else _read_file(path))


def _read_file(path: Path) -> State:
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    try:
        # Arguments of a training program are a bag of values without code of their own.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        text = str(error)
        if "GLOBAL" in text:
            raise UserError(
                f"{path} holds more than plain tensors, and reading it could run code of its author; it is refused. "
                "Ask for a .safetensors file, or save its state_dict alone."
            ) from None
        reason = "it holds something else" if "Weights only" in text else (text.splitlines() or ["it ends too soon"])[0]
        raise UserError(f"{path} is not a whole checkpoint file: {reason.rstrip('.')}.") from None
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds no dictionary of tensors.")
    state = _find_state(content)
    if not state:
        raise UserError(f"{path} holds no tensors.")
    return state


def _read_shards(index: Path) -> State:
    """The tensors of several files that an index lists, each in the file that it names."""
    content = read_json(index)
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not places:
        raise UserError(f"{index} is no index of weights: it has no weight_map from names to files.")
    state: State = {}
    for file in sorted(set(map(str, places.values()))):
        if Path(file).name != file:
            raise UserError(f"{index} names the file {file!r}, which is not in its own folder; it is refused.")
        if not (index.parent / file).is_file():
            raise UserError(f"{index} names the file {file}, which is missing; download the whole folder again.")
        state |= _read_file(index.parent / file)
    missing = [name for name in places if name not in state]
    if missing:
        raise UserError(f"{index} names {missing[0]}, which is not in {places[missing[0]]}; download it again.")
    return state


def _find_state(content: Mapping[Any, Any]) -> State:
    """The tensors in the innermost known wrapper (``model``, ``state_dict`` ...), averaged ones first."""
    for key in (*_AVERAGED, *_LATEST):
        inner = content.get(key)
        if isinstance(inner, Mapping) and (found := _find_state(inner)):
            return found
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def plain_names(state: Mapping[str, Tensor]) -> State:
    """A state without what wrappers and compilers added to its names; of two sets, the averaged one.

    Prefixes go, in any order and depth, if every name has them: ``model.layers.0`` beside ``lm_head`` is a name.
    """
    state = {_without_inserted(name): tensor for name, tensor in state.items()}
    for prefix in _AVERAGED_PREFIXES:
        averaged = dict(_under(state, prefix))
        if averaged:
            state = averaged
    while True:
        names = [name for name in state if name not in _COUNTERS]
        common = next((each for each in _PREFIXES if names and all(name.startswith(each) for name in names)), None)
        if common is None:
            return state
        state = dict(_under(state, common))


def _under(state: Mapping[str, Tensor], prefix: str) -> Iterator[tuple[str, Tensor]]:
    return ((name.removeprefix(prefix), tensor) for name, tensor in state.items() if name.startswith(prefix))


def _without_inserted(name: str) -> str:
    for inserted in _INSERTED:
        name = name.replace(inserted, "")
    return name

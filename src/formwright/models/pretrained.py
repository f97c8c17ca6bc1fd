"""A model that somebody trained: what it is, its weights, its tokeniser, and how its pictures were prepared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from formwright.errors import UserError
from formwright.files import read_json
from formwright.hub import Progress, fetch, is_hub_name
from formwright.models import load_checkpoint, model_specification
from formwright.models.checkpoints import CLASSIFIER, layout_of
from formwright.models.configurations.kind import kind_of
from formwright.models.configurations.timm import is_timm, timm_specification
from formwright.models.identification import identify
from formwright.models.network import CONFIG_FILE, EARLIER_CONFIGS, Network, build_network, read_specification
from formwright.models.preprocessing import Preprocessing as Preprocessing
from formwright.models.states import read_state
from formwright.nn.specification import ChainSpec, ImageInput, Source, part
from formwright.resizing import Filter, Resizing, Rule

#: Files that hold a tokeniser, the preferred first.
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")
#: How sentence-transformers makes one vector of tokens.
POOLING_FILE = "1_Pooling/config.json"
PREPROCESSOR_FILE, OURS_FILE = "preprocessor_config.json", "preprocessing.json"
#: What Pillow's numbers of filters mean.
_FILTERS: Mapping[int, Filter] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}


@dataclass(frozen=True)
class Pretrained:
    """What was read of a model that is there already.

    Attributes:
        specification: what it is; of a checkpoint without classifier, its head is the part ``features``.
        state: its weights, under the names that they were saved with (:func:`~formwright.models.load_checkpoint`).
        tokenizer: the file of its tokeniser.
        preprocessing: how its pictures were prepared.
        origin: the path or the name that it was asked for by.
    """

    specification: ChainSpec
    state: dict[str, Tensor]
    tokenizer: Path | None = None
    preprocessing: Preprocessing | None = None
    origin: str = ""

    def check_takes(self, source: type[Source], samples: str) -> None:
        """Refuse to start from a model of other data.

        Args:
            source: what the model should take.
            samples: what that is called, such as ``pictures``.

        Raises:
            UserError: the model takes something else.
        """
        if not isinstance(self.specification.input, source):
            raise UserError(
                f"{self.origin} holds a model for {self.specification.task} ({self.specification.name}), and {samples} "
                f"are to be learned: give the weights of a model of {samples}."
            )

    @property
    def title(self) -> str:
        """What the user calls it: the name of the folder or file, or of the model of a hub."""
        name = self.origin.partition(":")[2] if is_hub_name(self.origin) else title_of(Path(self.origin))
        return name or self.specification.name

    @property
    def int8_bytes(self) -> int:
        """What its weights take in INT8."""
        return sum(tensor.numel() for tensor in self.state.values() if tensor.is_floating_point())

    def with_tokens(self, kept: NDArray[np.int64]) -> Pretrained:
        """The same without a part of its vocabulary: the tokens ``kept``, in this order, are the new ones.

        Scores of tokens are left out, since those of a classifier take their place.
        """
        state = {name: tensor for name, tensor in self.model().state_dict().items() if not name.startswith(CLASSIFIER)}
        state["backbone.embed.weight"] = state["backbone.embed.weight"][torch.from_numpy(kept)]
        source = dataclasses.replace(self.specification.input, vocabulary=len(kept))  # type: ignore[arg-type]
        return dataclasses.replace(
            self, specification=dataclasses.replace(self.specification, input=source), state=state, tokenizer=None
        )

    @property
    def least_side(self) -> int:
        """The sides of the smallest picture that it can take."""
        with torch.device("meta"):
            model: Any = build_network(self.specification)
        return int(model.backbone.least_side)

    def on_scale(self, mean: Sequence[float], std: Sequence[float]) -> Pretrained:
        """The same model for pictures normed by another mean and deviation than its own: equal answers of a picture."""
        own = self.preprocessing
        assert own is not None
        factor = tuple(there / here for there, here in zip(std, own.std, strict=True))
        offset = tuple((there - here) / by for there, here, by in zip(mean, own.mean, own.std, strict=True))
        inner = self.specification.embed
        embed = part("rescaled_embedding", embed=inner, factor=factor, offset=offset)
        state = {
            name.replace("backbone.embed.", "backbone.embed.embed.", 1): tensor
            for name, tensor in self.model().state_dict().items()
        }
        return dataclasses.replace(
            self,
            specification=dataclasses.replace(self.specification, embed=embed),
            state=state,
            preprocessing=dataclasses.replace(own, mean=tuple(mean), std=tuple(std)),
        )

    @cached_property
    def token_table(self) -> NDArray[np.float32]:
        """The embedding of each token of a model of texts, ``(vocabulary, dim)``."""
        table: NDArray[np.float32] = self.model().get_parameter("backbone.embed.weight").detach().float().numpy()
        return table

    def model(self) -> Network:
        """The model with its weights, in eval mode.

        Raises:
            UserError: the weights are those of another model than the configuration describes.
        """
        model = build_network(self.specification)
        load_checkpoint(model, self.state)
        return model.eval()


def title_of(path: Path) -> str:
    """What a model in a folder or a file is called: the name of that, and ORG/NAME in the cache of a hub."""
    path = path.resolve()
    cached = next((part for part in path.parts if part.startswith("models--")), None)
    return path.name if cached is None else "/".join(cached.split("--")[1:])


def titles(models: Sequence[Pretrained]) -> list[str]:
    """What each of several models is called, with folders around it where names alone would be the same."""
    found = [model.title for model in models]
    folders = [Path(model.origin).expanduser().resolve().parents for model in models]
    for depth in range(max(map(len, folders), default=0)):
        repeated = {title for title in found if found.count(title) > 1}
        for place, around in enumerate(folders):
            if found[place] in repeated and depth < len(around) - 1:
                found[place] = f"{around[depth].name}/{found[place]}"
    return found


def read_pretrained(source: str | Path, progress: Progress | None = None) -> Pretrained:
    """Read a model's folder of ours, of transformers or of timm, a checkpoint file in any known layout, or a hub.

    Args:
        source: a folder or a file; ``hf:ORG/NAME``, ``hf:ORG/NAME@REVISION`` or ``timm:NAME`` for what a hub has, which
            is downloaded (:func:`formwright.hub.fetch`).
        progress: told of the bytes that a download has, and of all.

    Raises:
        UserError: it cannot be read, or belongs to none of our models.
    """
    if is_hub_name(source):
        name = str(source).partition(":")[2].partition("@")[0].rpartition("/")[2]
        return _read_folder(fetch(str(source), progress), name, str(source))
    path = Path(source).expanduser()
    if path.is_dir():
        return _read_folder(path, title_of(path), str(path))
    if _describes(path.parent / CONFIG_FILE):
        return _read_folder(path.parent, title_of(path.parent), str(path), path)
    state = read_state(path)
    specification = model_specification(identify(state, str(path)))
    preprocessing = _of_layout(specification, state)
    return Pretrained(specification, state, _tokenizer(path.parent, specification), preprocessing, str(path))


def holds_ours(source: str | Path) -> bool:
    """Whether this is a folder that Formwright wrote, or should be told what is wrong with it as with one."""
    if is_hub_name(source):
        return False
    config = Path(source) / CONFIG_FILE
    return not config.is_file() or _is_ours(read_json(config))


def _describes(config: Path) -> bool:
    """Whether this is the configuration of a model of transformers or timm."""
    content = read_json(config) if config.is_file() else None
    return isinstance(content, dict) and (is_timm(content) or "model_type" in content)


def _is_ours(config: Any) -> bool:
    return isinstance(config, dict) and ("specification" in config or any(key in config for key in EARLIER_CONFIGS))


def _read_folder(folder: Path, name: str, origin: str, weights: Path | None = None) -> Pretrained:
    config = read_json(folder / CONFIG_FILE)
    if not isinstance(config, dict):
        raise UserError(f"{folder / CONFIG_FILE} does not describe a model; give the folder of one.")
    state = read_state(weights or folder)
    if _is_ours(config):
        specification = read_specification(folder)
        if not isinstance(specification, ChainSpec):
            raise UserError(
                f"{origin} holds a network of the kind {specification.kind!r}; give a model of one input and one head."
            )
    elif is_timm(config):
        specification = timm_specification(name, config)
    elif "model_type" in config:
        kind = kind_of(config["model_type"], origin)
        specification = kind.specification(name, config, state, _token(folder, "[SEP]"), _pooling(folder))
    else:
        specification = dataclasses.replace(model_specification(identify(state, origin)), name=name)
    return Pretrained(
        specification, state, _tokenizer(folder, specification), read_preprocessing(folder, config), origin
    )


def _tokenizer(folder: Path, specification: ChainSpec) -> Path | None:
    """The tokeniser beside the weights of a model of texts."""
    if not hasattr(specification.input, "vocabulary"):
        return None
    return next((folder / name for name in TOKENIZER_FILES if (folder / name).is_file()), None)


def _pooling(folder: Path) -> str | None:
    """How a folder of sentence-transformers makes one vector of tokens: ``mean``, ``first``; none if it is no such one.

    Raises:
        UserError: it does so in another way.
    """
    file = folder / POOLING_FILE
    if not file.is_file():
        return None
    config = read_json(file)
    chosen = {name for name, value in config.items() if name.startswith("pooling_mode_") and value is True}
    ways = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "first"}
    if len(chosen) == 1 and (way := ways.get(next(iter(chosen)))):
        return way
    raise UserError(
        f"{file} makes one vector of tokens by {', '.join(sorted(chosen)) or 'nothing'}, and Formwright by their mean "
        "or the first one: choose another checkpoint, or leave this file out."
    )


def _token(folder: Path, text: str) -> int | None:
    """The id of a special token."""
    if (folder / TOKENIZER_FILES[0]).is_file():
        content = read_json(folder / TOKENIZER_FILES[0])
        added = content.get("added_tokens") if isinstance(content, dict) else None
        return next((token["id"] for token in added or [] if token.get("content") == text), None)
    if (folder / TOKENIZER_FILES[1]).is_file():
        tokens = (folder / TOKENIZER_FILES[1]).read_text(encoding="utf-8").splitlines()
        return tokens.index(text) if text in tokens else None
    return None


def read_preprocessing(folder: Path, config: Mapping[str, Any]) -> Preprocessing | None:
    """How a folder says that its pictures were prepared: as timm or Formwright does, or ``preprocessor_config.json``.

    Raises:
        UserError: what it says cannot be read, or is done in a way that we do not have.
    """
    if is_timm(config):
        return _stated(folder / CONFIG_FILE, _of_timm)
    for name, read in ((OURS_FILE, _of_ours), (PREPROCESSOR_FILE, _of_transformers)):
        if (folder / name).is_file():
            return _stated(folder / name, read)
    return None


def _stated(file: Path, read: Callable[[Any], Preprocessing | None]) -> Preprocessing | None:
    try:
        return read(read_json(file))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{file} does not say how pictures are prepared ({error}): correct it or leave that out."
        ) from None


def _of_layout(specification: ChainSpec, state: Mapping[str, Tensor]) -> Preprocessing | None:
    """As pictures were prepared for all checkpoints of a layout, where that is known."""
    layout, source = layout_of(specification.family, state), specification.input
    if layout is None or layout.preprocessing is None or not isinstance(source, ImageInput):
        return None
    height, width = source.size
    return dataclasses.replace(layout.preprocessing, size=(height, width))


def _of_ours(content: Mapping[str, Any]) -> Preprocessing | None:
    if content.get("task") != "image-classification":
        return None
    return Preprocessing(
        tuple(map(float, content["mean"])),
        tuple(map(float, content["std"])),
        _sides(content["size"]),
        Resizing(**content.get("resizing", {})),
    )


def _of_timm(config: Mapping[str, Any]) -> Preprocessing | None:
    prepared = config.get("pretrained_cfg") or {}
    if "mean" not in prepared:
        return None
    _, height, width = prepared.get("input_size") or (3, 224, 224)
    rules: Mapping[str, Rule] = {"center": "short_side", "squash": "both_sides"}
    return Preprocessing(
        tuple(map(float, prepared["mean"])),
        tuple(map(float, prepared["std"])),
        (int(height), int(width)),
        Resizing(
            rules[prepared.get("crop_mode") or "center"],
            prepared.get("interpolation") or "bicubic",
            float(prepared.get("crop_pct") or 0.875),
        ),
    )


def _of_transformers(content: Mapping[str, Any]) -> Preprocessing:
    plain = not content.get("do_normalize", True)
    mean, std = content.get("image_mean", (0.5,) * 3), content.get("image_std", (0.5,) * 3)
    if content.get("do_rescale", True) and abs(float(content.get("rescale_factor", 1 / 255)) * 255 - 1) > 1e-3:
        raise ValueError(f"rescale_factor {content['rescale_factor']} instead of 1/255")
    stated = content.get("size", 224)
    size = whole = _sides(stated)
    by_short_side = "crop_pct" in content or (isinstance(stated, Mapping) and "shortest_edge" in stated)
    crop = 1.0
    if content.get("do_center_crop", False) and "crop_size" in content:
        size = _sides(content["crop_size"])
        crop = size[0] / whole[0]
    elif "crop_pct" in content:
        if whole[0] < 384:
            crop = float(content["crop_pct"] or 224 / 256)
        else:  # ConvNeXt resizes larger pictures without cutting
            by_short_side = False
    resample = content.get("resample", 2)
    return Preprocessing(
        (0.0,) * len(mean) if plain else tuple(map(float, mean)),
        (1.0,) * len(std) if plain else tuple(map(float, std)),
        size,
        Resizing(
            "short_side" if by_short_side else "both_sides",
            _FILTERS[resample] if isinstance(resample, int) else resample,
            crop,
            halves="down",
        ),
    )


def _sides(size: Any) -> tuple[int, int]:
    """Height and width of what a size says: a side, the shortest one, or both."""
    if isinstance(size, int):
        return size, size
    if isinstance(size, Mapping):
        if "shortest_edge" in size:
            return int(size["shortest_edge"]), int(size["shortest_edge"])
        return int(size["height"]), int(size["width"])
    height, width = size
    return int(height), int(width)

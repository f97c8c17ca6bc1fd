"""The named models: build one, list them, save and load them."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from formwright.errors import UserError
from formwright.models.chain import Chain
from formwright.models.checkpoints import load_checkpoint
from formwright.models.derivation import derive
from formwright.models.network import NETWORKS, Network, build_network, empty_copy, load_folder
from formwright.nn.specification import NetworkSpec
from formwright.registry import MODEL_PLUGINS, Registry

__all__ = [
    "MODELS",
    "NETWORKS",
    "Chain",
    "Model",
    "Network",
    "Variant",
    "create_model",
    "derive",
    "empty_copy",
    "from_pretrained",
    "list_models",
    "load_checkpoint",
    "model_specification",
    "register_family",
]

#: The name of chains when there was no other kind of network.
Model = Chain


@dataclass(frozen=True)
class Variant:
    """A named model: the function of its family that returns a specification, and the published options."""

    family: str
    task: str
    build: Callable[..., NetworkSpec]
    options: Mapping[str, Any] = field(default_factory=dict)


MODELS: Registry[Variant] = Registry("model", group=MODEL_PLUGINS)


def register_family(
    build: Callable[..., NetworkSpec],
    variants: Mapping[str, Mapping[str, Any]],
    *,
    family: str,
    task: str = "image-classification",
) -> None:
    """Name the published variants of a family, given as options of ``build(name=..., **options)``."""
    for name, options in variants.items():
        MODELS.add(name, Variant(family, task, build, options))


#: What other libraries call our options.
OTHER_NAMES = {
    "num_classes": "classes",
    "num_labels": "classes",
    "num_heads": "heads",
    "num_attention_heads": "heads",
    "embed_dim": "dim",
    "hidden_size": "dim",
    "d_model": "dim",
    "num_layers": "depth",
    "num_hidden_layers": "depth",
    "img_size": "image_size",
    "in_chans": "channels",
    "in_channels": "channels",
    "drop_path_rate": "drop_path",
    "vocab_size": "vocabulary",
}


def model_specification(name: str, **changes: Any) -> Any:
    """The specification of a named model, with options of its family changed.

    Raises:
        UserError: the name or an option is unknown.
    """
    variant = MODELS[name]
    accepted = list(inspect.signature(variant.build).parameters)
    unknown = [key for key in changes if key not in accepted]
    if unknown:
        offered = [key for key in accepted if key != "name"]
        ours = OTHER_NAMES.get(unknown[0])
        hint = f"did you mean {ours}? Its" if ours in offered else "its"
        raise UserError(f"Model {name!r} has no option {unknown[0]!r}; {hint} options are: {', '.join(offered)}.")
    return variant.build(**{"name": name, **variant.options, **changes})


def create_model(name: str | NetworkSpec | Mapping[str, Any], **changes: Any) -> Network:
    """Build a model by name, or from a specification.

    >>> create_model("poolformer_s12", classes=10, image_size=32)    # doctest: +SKIP

    Args:
        name: a registered name (:func:`list_models`), a specification or the dictionary of one.
        changes: options of the model's family, such as ``classes``, ``channels``, ``image_size``, ``dims``, ``depths``.

    Raises:
        UserError: the name or an option is unknown, or the options do not fit together.
    """
    if isinstance(name, str):
        return build_network(model_specification(name, **changes))
    if changes:
        raise UserError("A specification is complete: change it with dataclasses.replace, not with options.")
    return build_network(name)


def list_models(pattern: str = "*", *, task: str | None = None) -> list[str]:
    """Names of models that match a shell-style pattern, such as ``"*former_s12"``, and a task."""
    return [name for name in MODELS.names(pattern) if task is None or MODELS[name].task == task]


def from_pretrained(folder: str | Path) -> Network:
    """Load a model in eval mode: what :meth:`Network.save_pretrained` wrote, or a folder of transformers or timm.

    >>> from_pretrained("hf:sentence-transformers/all-MiniLM-L6-v2")     # doctest: +SKIP

    Args:
        folder: the folder, or ``hf:ORG/NAME`` or ``timm:NAME`` for a model of a hub, which is downloaded.

    Raises:
        UserError: the folder is missing, does not hold a whole model, or one that we do not have.
    """
    from formwright.models.pretrained import holds_ours, read_pretrained

    if holds_ours(folder):
        return load_folder(folder)
    return read_pretrained(folder).model()


for _task in pkgutil.iter_modules(__path__):
    if _task.ispkg:
        _package = importlib.import_module(f"formwright.models.{_task.name}")
        for _module in pkgutil.iter_modules(_package.__path__):
            importlib.import_module(f"{_package.__name__}.{_module.name}")

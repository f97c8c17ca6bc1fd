"""Which of our models a checkpoint file belongs to, from the names and shapes of its tensors alone."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from importlib.resources import files

from torch import Tensor

from formwright.errors import UserError
from formwright.models import MODELS, empty_copy, model_specification
from formwright.models.checkpoints import layout_of
from formwright.models.network import Network


def identify(state: Mapping[str, Tensor], source: str = "the checkpoint") -> str:
    """The first registered model whose parameters have these names and shapes; the classifier may differ in classes.

    Raises:
        UserError: there is none.
    """
    own = any(tensor.startswith("backbone.") for tensor in state)
    counted, values = body_sizes(), values_of(body(state))
    for name in MODELS:
        variant = MODELS[name]
        layout = layout_of(variant.family, state)
        if layout is None and (not own or counted.get(name, values) != values):
            continue
        model = empty_copy(model_specification(name))
        try:
            converted = dict(state) if layout is None else layout.apply(state, model)
        except (UserError, KeyError, RuntimeError, IndexError):
            continue  # a layout of the family that this variant does not have
        if _fits(model, converted):
            return name
    raise UserError(
        f"{source} belongs to none of the registered models (see `formwright list`); give the folder of a saved model, "
        "or the checkpoint of a published one."
    )


def body(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a state without those of a classifier, and without counts of batches."""
    return {
        name: tensor
        for name, tensor in state.items()
        if not name.startswith("head.linear.") and not name.endswith("num_batches_tracked")
    }


def values_of(state: Mapping[str, Tensor]) -> int:
    """How many values the tensors of a state hold."""
    return sum(tensor.numel() for tensor in state.values())


@functools.cache
def body_sizes() -> dict[str, int]:
    """The values in the body of each named model, as the table that comes with the library says."""
    table = json.loads(files("formwright.models").joinpath("variants.json").read_text(encoding="utf-8"))
    return {name: int(facts["body"]) for name, facts in table.items()}


def _fits(model: Network, state: Mapping[str, Tensor]) -> bool:
    def sizes(tensors: Mapping[str, Tensor]) -> dict[str, list[int]]:
        return {name: [size for size in tensor.shape if size != 1] for name, tensor in body(tensors).items()}

    return sizes(model.state_dict()) == sizes(state)

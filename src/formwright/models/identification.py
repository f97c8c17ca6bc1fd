"""Which of our models a checkpoint file belongs to, from the names and shapes of its tensors alone."""

from __future__ import annotations

from collections.abc import Mapping

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
    for name in MODELS:
        variant = MODELS[name]
        layout = layout_of(variant.family, state)
        if layout is None and not own:
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


def _fits(model: Network, state: Mapping[str, Tensor]) -> bool:
    def sizes(tensors: Mapping[str, Tensor]) -> dict[str, list[int]]:
        return {
            name: [size for size in tensor.shape if size != 1]
            for name, tensor in tensors.items()
            if not name.startswith("head.linear.") and not name.endswith("num_batches_tracked")
        }

    return sizes(model.state_dict()) == sizes(state)

"""Smaller models inside a model: the first hidden channels of its channel mixers are channel mixers themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from formwright.errors import UserError
from formwright.nn.edits.axes import named_axes
from formwright.nn.part import Part

AXIS = "hidden"
#: Shares of the hidden channels that nested models have, from MatFormer's code.
RATIOS = (1 / 8, 1 / 4, 1 / 2, 1.0)


def hidden_widths(model: nn.Module) -> dict[str, int]:
    """Number of hidden channels of each channel mixer that can be narrowed, by name, in the order of the model.

    Raises:
        UserError: the model has none.
    """
    widths = {
        name: int(getattr(module, module.resizable[AXIS]))
        for name, module in model.named_modules()
        if isinstance(module, Part) and AXIS in module.resizable
    }
    if not widths:
        raise UserError("This model has no channel mixers with hidden channels, so no smaller ones are nested in it.")
    return widths


def nested_width(hidden: int, ratio: float) -> int:
    """``ratio`` of ``hidden`` channels, rounded down, at least one.

    Raises:
        UserError: ``ratio`` is not in (0, 1].
    """
    if not 0 < ratio <= 1:
        raise UserError(f"A nested model has a share above 0 and up to 1 of the hidden channels, got {ratio:g}.")
    return max(1, int(hidden * ratio))


def narrowed_parameters(model: nn.Module, widths: Mapping[str, int]) -> dict[str, Tensor]:
    """Views of the parameters that a narrower channel mixer reads, by their names in ``model``.

    Args:
        widths: how many hidden channels, the first ones, by the mixer's name.
    """
    views: dict[str, Tensor] = {}
    for path, width in widths.items():
        part = model.get_submodule(path)
        assert isinstance(part, Part)
        own, hidden = dict(part.named_parameters()), int(getattr(part, part.resizable[AXIS]))
        for name, dimension, axis in named_axes(part, AXIS):
            if name not in own:
                continue
            known = f"{path}.{name}".lstrip(".")
            view = views.get(known, own[name])
            layout = (axis.repeats, hidden, axis.block)
            view = view.view(*view.shape[:dimension], *layout, *view.shape[dimension + 1 :])
            views[known] = view.narrow(dimension + 1, 0, width).flatten(dimension, dimension + 2)
    return views


class Narrowed(nn.Module):
    """``model`` run with the first ``ratio`` of the hidden channels of every channel mixer, on the model's own weights.

    Gradients reach the weights that were read. To have a smaller model, use
    :func:`formwright.compression.nesting.extract`.

    Raises:
        UserError: the model has no channel mixers with hidden channels, or ``ratio`` is not in (0, 1].
    """

    def __init__(self, model: nn.Module, ratio: float) -> None:
        super().__init__()
        self.model = model
        self.widths = {name: nested_width(hidden, ratio) for name, hidden in hidden_widths(model).items()}

    def forward(self, *inputs: Any, **options: Any) -> Any:
        views = narrowed_parameters(self.model, self.widths)
        # Not by all names of a weight: a wrapper that holds the model twice would be left with the views.
        return functional_call(self.model, views, inputs, options, tie_weights=False)

"""Where the named axes of a part lie in its tensors, whatever layers stand in it now."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.layers import PLAIN, Layer, locate
from formwright.nn.part import Axis, Part

_MISSING = object()


def module_at(model: nn.Module, path: str) -> nn.Module:
    """The module of a model that is called ``path``.

    Raises:
        UserError: there is none.
    """
    try:
        return model.get_submodule(path)
    except AttributeError:
        raise UserError(f"The model has no module {path!r}; the edits were made to another model.") from None


def named_axes(part: Part, name: str | None = None) -> Iterator[tuple[str, int, Axis]]:
    """Each named axis of each tensor that is there: the tensor's name in the part, the dimension and the axis.

    What a part declares of a plain layer is asked of the layer that took its place; tensors and layers that are None
    are passed over. A bias that is not declared has the axis of its weight's rows: folding may have made it.

    Args:
        name: the axes of this name alone.

    Raises:
        UserError: a tensor that the part declares is not there, so that its axes would be cut in half.
    """
    declarations = part.axes()
    for declared, axes in list(declarations.items()):
        path, _, leaf = declared.rpartition(".")
        if leaf == "weight" and isinstance(_attribute(part, path), (Layer, *PLAIN)):
            declarations.setdefault(f"{path}.bias", axes[:1])
    for declared, axes in declarations.items():
        path, _, leaf = declared.rpartition(".")
        for dimension, axis in enumerate(axes):
            if axis is None or name not in (None, axis.name):
                continue
            owner = _attribute(part, path)
            if owner is None:
                continue
            if not isinstance(owner, nn.Module):
                raise _missing(part, declared, axis)
            for own, place in locate(owner, leaf, dimension, path):
                tensor = _attribute(part, own)
                if isinstance(tensor, Tensor):
                    yield own, place, axis
                elif tensor is not None:
                    raise _missing(part, own, axis)


def tensor_at(part: nn.Module, name: str) -> Tensor:
    """The parameter or buffer of a part that is called ``name``."""
    tensor = _attribute(part, name)
    assert isinstance(tensor, Tensor)
    return tensor


def _attribute(module: nn.Module, path: str) -> object:
    """What is found under a dotted path: None where a step of it is, a mark of its own where there is nothing."""
    found: object = module
    for step in path.split(".") if path else ():
        found = getattr(found, step, _MISSING)
        if found is None or found is _MISSING:
            return found
    return found


def _missing(part: Part, name: str, axis: Axis) -> UserError:
    return UserError(
        f"{type(part).__name__} declares an axis {axis.name!r} of {name!r}, and there is no such tensor: what was put "
        "in the place of a layer must be a formwright.nn.layers.Layer, which says where its tensors have it."
    )

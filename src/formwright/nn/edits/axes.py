"""Where the named axes of parts and of whole networks lie in their tensors, whatever layers stand in them now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.layers import PLAIN, Layer, locate
from formwright.nn.parts import Axis, Part, Width

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


def sharers(module: nn.Module, axis: Axis, path: str = "") -> Iterator[tuple[str, nn.Module, Axis, Axis]]:
    """``module`` and the modules in it, at any depth, of which ``axis`` is an axis too.

    Yields:
        The path, the module, its own axis, and how the entries of ``axis`` lie in the module's.
    """
    yield path, module, axis, axis
    inner_axes = getattr(module, "inner_axes", dict)
    for inner_path, inner in inner_axes().items():
        found = _attribute(module, inner_path)
        for name, outer in inner.items():
            if outer.name == axis.name and isinstance(found, nn.Module):
                for below, sharer, own, lies in sharers(found, Axis(name), inner_path):
                    whole = Axis(axis.name, lies.repeats * outer.repeats, outer.block * lies.block, lies.before)
                    yield f"{path}.{below}".lstrip("."), sharer, own, whole


def named_axes(module: nn.Module, name: str) -> Iterator[tuple[str, int, Axis]]:
    """The axes called ``name`` of all tensors that are there: the tensor's name, the dimension and the axis.

    What a part declares of a plain layer is asked of the layer that took its place; tensors and layers that are None
    are passed over. A bias that is not declared has the axis of its weight's rows.

    Raises:
        UserError: a tensor that is declared is not there, so that the axis would be cut in half.
    """
    for path, sharer, own, whole in sharers(module, Axis(name)):
        for tensor, dimension, axis in _own_axes(sharer, own.name):
            lies = Axis(name, axis.repeats * whole.repeats, whole.block * axis.block, axis.before)
            yield f"{path}.{tensor}".lstrip("."), dimension, lies


def _own_axes(module: nn.Module, name: str) -> Iterator[tuple[str, int, Axis]]:
    declare = getattr(module, "axes", dict)
    declarations: dict[str, tuple[Axis | None, ...]] = declare()
    for declared, axes in list(declarations.items()):
        path, _, leaf = declared.rpartition(".")
        if leaf == "weight" and isinstance(_attribute(module, path), (Layer, *PLAIN)):
            declarations.setdefault(f"{path}.bias", axes[:1])
    for declared, axes in declarations.items():
        path, _, leaf = declared.rpartition(".")
        for dimension, axis in enumerate(axes):
            if axis is None or axis.name != name:
                continue
            owner = _attribute(module, path)
            if owner is None:
                continue
            if not isinstance(owner, nn.Module):
                raise _missing(module, declared, axis)
            for own, place in locate(owner, leaf, dimension, path):
                tensor = _attribute(module, own)
                if isinstance(tensor, Tensor):
                    yield own, place, axis
                elif tensor is not None:
                    raise _missing(module, own, axis)


def tensor_at(module: nn.Module, name: str) -> Tensor:
    """The parameter or buffer of a module that is called ``name``."""
    tensor = _attribute(module, name)
    assert isinstance(tensor, Tensor)
    return tensor


def widths_of(model: nn.Module) -> list[Width]:
    """The widths of the tokens of a network, as far as it says what shares them."""
    widths = getattr(model, "widths", list)
    return list(widths())


def width_at(model: nn.Module, target: str, axis: str) -> Width | None:
    """The width of a network that is the axis of the module ``target``."""
    return next((width for width in widths_of(model) if (target, axis) in width.members), None)


def width_axes(model: nn.Module, width: Width) -> list[tuple[str, int, Axis]]:
    """As :func:`named_axes`, of all that shares a width of a network.

    Raises:
        UserError: a part is not the same for every order of its channels; says which, and why.
    """
    found = []
    for path, name in width.members:
        member = module_at(model, path)
        for below, sharer, _, _ in sharers(member, Axis(name)):
            reason = sharer.promises.exemptions.get("residual") if isinstance(sharer, Part) else None
            if reason is not None:
                where = f"{path}.{below}".strip(".")
                raise UserError(
                    f"The width of the tokens at {path!r} cannot be cut or permuted, because of {where!r} "
                    f"({type(sharer).__name__}): {reason}."
                )
        axes = named_axes(member, name)
        found += [(f"{path}.{tensor}".lstrip("."), dimension, axis) for tensor, dimension, axis in axes]
    return found


def size_of(model: nn.Module, axes: Iterable[tuple[str, int, Axis]]) -> int:
    """How many entries an axis has, by the tensors that have nothing else beside them."""
    sizes = {
        tensor_at(model, name).shape[dimension] // (axis.repeats * axis.block)
        for name, dimension, axis in axes
        if not axis.before
    }
    if len(sizes) != 1:
        raise UserError(f"The tensors that share a width disagree about it: {sorted(sizes)}.")
    return sizes.pop()


def _attribute(module: nn.Module, path: str) -> object:
    """What is found under a dotted path: None where a step of it is, a mark of its own where there is nothing."""
    found: object = module
    for step in path.split(".") if path else ():
        found = getattr(found, step, _MISSING)
        if found is None or found is _MISSING:
            return found
    return found


def _missing(module: nn.Module, name: str, axis: Axis) -> UserError:
    return UserError(
        f"{type(module).__name__} declares an axis {axis.name!r} of {name!r}, and there is no such tensor: what took "
        "the place of a layer must be a formwright.nn.layers.Layer, which says where its tensors have it."
    )

"""A choice out of a network: how many entries its axes have and which branches it does without, on the same weights.

A network that was trained for it (a supernet) holds many smaller ones in its weights: of each axis the first entries.
:func:`narrowed` runs the network as one of them on the network's own weights, and
:func:`formwright.compression.choices.extract` makes a network of its own of it, which computes the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from formwright.errors import UserError
from formwright.models.network import Network
from formwright.nn.edits import Found, drop_branch, find_axis, record_size, tensor_at
from formwright.nn.edits.axes import width_at
from formwright.nn.edits.keeping import rows_of
from formwright.nn.frame import Branch
from formwright.nn.parts import Axis, Part, forget_checks


@dataclass(frozen=True)
class Choice:
    """Sizes of axes, and residual branches that are the identity; what is not named stays whole.

    >>> half = Choice({("backbone.stages.0.blocks.0.branches.1.part", "hidden"): 64})

    Attributes:
        sizes: how many entries an axis has, the first ones, by the path of a part and the name of its axis (``heads``,
            ``hidden``), or of a module that shares a width of the network (``backbone.stages.0``, ``residual``): the
            channels are chosen in all that shares them.
        dropped: paths of branches.
    """

    sizes: Mapping[tuple[str, str], int] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", dict(self.sizes))
        object.__setattr__(self, "dropped", frozenset(self.dropped))

    def __hash__(self) -> int:
        return hash((frozenset(self.sizes.items()), self.dropped))

    def to_dict(self) -> dict[str, Any]:
        """The form that JSON can hold: ``{"sizes": {"path:axis": size}, "dropped": [path]}``."""
        sizes = {f"{path}:{axis}": size for (path, axis), size in sorted(self.sizes.items())}
        return {"sizes": sizes, "dropped": sorted(self.dropped)}

    @classmethod
    def from_dict(cls, data: Any) -> Choice:
        """The choice that :meth:`to_dict` describes.

        Raises:
            UserError: it does not describe one.
        """
        if not isinstance(data, Mapping) or not set(data) <= {"sizes", "dropped"}:
            raise UserError(f'A choice is {{"sizes": {{"path:axis": size}}, "dropped": [path]}}, and got {data!r}.')
        sizes, dropped = data.get("sizes", {}), data.get("dropped", [])
        for name, size in sizes.items() if isinstance(sizes, Mapping) else [("", sizes)]:
            if not isinstance(name, str) or ":" not in name or isinstance(size, bool) or not isinstance(size, int):
                raise UserError(f"The sizes of a choice are whole numbers by path:axis, and got {name!r}: {size!r}.")
        if not isinstance(dropped, list | tuple) or not all(isinstance(path, str) for path in dropped):
            raise UserError(f"What a choice drops is a list of the paths of branches, and got {dropped!r}.")
        named = {name.rpartition(":"): size for name, size in sizes.items()}
        return cls({(path, axis): size for (path, _, axis), size in named.items()}, frozenset(dropped))

    def check(self, network: Network) -> None:
        """Refuse what is no choice out of ``network``.

        Raises:
            UserError: a path, an axis or a branch is not there, or a size is not one of 1 to the axis's own, or two
                sizes are given for one width, or nothing would take what the network offers its parts.
        """
        with narrowed(network, self):
            pass

    def drops(self) -> list[str]:
        """The branches that are dropped, but for those inside of others."""
        return sorted(path for path in self.dropped if not self._leaves_out(path))

    def _leaves_out(self, path: str) -> bool:
        return any(path.startswith(f"{branch}.") for branch in self.dropped)

    def cuts(self, network: Network) -> Iterator[tuple[str, str, Found, int]]:
        """What must be cut: path and axis, where it lies in the network as it then is, and how much of it stays.

        Whoever iterates cuts each before asking for the next. What lies in a branch that is dropped is left out.

        Raises:
            UserError: as in :meth:`check`, but for the offers.
        """
        for path in sorted(self.dropped):
            _module(network, path)
            if not isinstance(network.get_submodule(path), Branch):
                kind = type(network.get_submodule(path)).__name__
                raise UserError(f"A choice drops residual branches, and {path!r} is a {kind}.")
        chosen: dict[tuple[str, str], int] = {}
        for (path, axis), size in sorted(self.sizes.items()):
            key = _first_name(network, path, axis)
            if chosen.setdefault(key, size) != size:
                raise UserError(
                    f"{path!r} shares its axis {axis!r} with {key[0]!r}, and a choice gives them {size} and "
                    f"{chosen[key]} entries: choose one size."
                )
            found = find_axis(network, path, axis)
            if not 1 <= size <= found.size:
                raise UserError(f"{path!r} has {found.size} entries on its axis {axis!r}; {size} cannot be chosen.")
            if size < found.size and not self._leaves_out(path):
                yield path, axis, found, size


#: The choice of everything.
WHOLE = Choice()


def _module(network: Network, path: str) -> nn.Module:
    try:
        return network.get_submodule(path)
    except AttributeError:
        raise UserError(f"{network.specification.name} has no module {path!r}, which a choice names.") from None


def _first_name(network: Network, path: str, axis: str) -> tuple[str, str]:
    """The name that all have in common who share the axis: where their width begins."""
    module = _module(network, path)
    own = list(module.resizable) if isinstance(module, Part) else []
    if axis in own:
        return path, axis
    width = width_at(network, path, axis)
    if width is None:
        shown = ", ".join(map(repr, own)) or "none"
        raise UserError(f"{path!r} has no axis {axis!r} of which a size could be chosen; its axes are: {shown}.")
    return width.members[0]


def network_in(model: nn.Module) -> Network:
    """The network that ``model`` is, or wraps.

    Raises:
        UserError: there is none.
    """
    found = next((module for module in model.modules() if isinstance(module, Network)), None)
    if found is None:
        raise UserError(f"Sizes are chosen out of a network, and there is none in a {type(model).__name__}.")
    return found


@contextmanager
def narrowed(model: nn.Module, choice: Choice) -> Iterator[None]:
    """In this context ``model`` computes what the smaller network of ``choice`` does, on its own weights.

    >>> with narrowed(model, choice):                                   # doctest: +SKIP
    ...     loss = criterion(model(images), classes)
    >>> loss.backward()                                                 # doctest: +SKIP

    Its tensors are the first entries of the model's, in everything that has them: weights, biases, norms, scales and
    buffers. Gradients reach the model's own weights, and the statistics that norms collect are shared by all sizes.
    Afterwards, also after an error, the model is as it was.

    Args:
        model: a network, or a module that wraps one.

    Raises:
        UserError: it is no choice out of this network; says why.
    """
    network = network_in(model)
    before = [
        (own, dict(own))
        for module in network.modules()
        for own in (module.__dict__, module._parameters, module._buffers, module._modules)
    ]
    after: list[dict[str, Any]] = []
    try:
        for _, _, found, size in choice.cuts(network):
            for name, dimension, axis in found.axes:
                tensor = tensor_at(found.holder, name)
                _put(found.holder, name, first_entries(tensor, dimension, axis, found.size, size))
            record_size(found, size)
        for path in choice.drops():
            drop_branch(network, path)
        if choice.dropped:
            network.check_parts()
        after = [dict(own) for own, _ in before]
        yield
    finally:
        _restore(before, after or [dict(own) for own, _ in before])
        if choice.dropped:
            forget_checks(network)


def first_entries(tensor: Tensor, dimension: int, axis: Axis, size: int, kept: int) -> Tensor:
    """``tensor`` with the first ``kept`` of the ``size`` entries of an axis, and with all that is none of its entries.

    It is a view where the entries lie side by side.
    """
    length = tensor.shape[dimension]
    if axis.repeats == 1 and not axis.before and length == size * axis.block:
        return tensor.narrow(dimension, 0, kept * axis.block)
    return tensor.index_select(dimension, rows_of(axis, size, range(kept), length).to(tensor.device))


def _put(holder: nn.Module, name: str, tensor: Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    owner = holder.get_submodule(path)
    own: dict[str, Any] = owner._parameters if leaf in owner._parameters else owner._buffers
    own[leaf] = tensor


def _restore(before: list[tuple[dict[str, Any], dict[str, Any]]], after: list[dict[str, Any]]) -> None:
    """Undo what changed from ``before`` to ``after``, and nothing else: a forward may have changed more since."""
    missing = object()
    for (own, old), new in zip(before, after, strict=True):
        for name in new.keys() | old.keys():
            if old.get(name, missing) is new.get(name, missing):
                continue
            if name in old:
                own[name] = old[name]
            else:
                own.pop(name, None)

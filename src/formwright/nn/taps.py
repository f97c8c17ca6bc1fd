"""Named values on the way through a model, to be read or replaced by path.

A tap point is ``path:name``. Every part, every piece of the frame (branch, block, stage, backbone) and every layer
(dense, convolution, table) has ``input`` and ``output``: the tokens that it is called with and those that it returns,
without the context (what is called with names alone shows a dictionary of them). Parts have names of their own
besides, in :attr:`~formwright.nn.parts.Part.taps`:

========================================  ==========================================================================
``queries``, ``keys``, ``values``         what attention or a recurrence is computed from
``scores``, ``weights``                   of attention, before the softmax (scaled, with bias and mask) and after it
``mixed``                                 what attention or a recurrence gives, before it is projected
``hidden``                                of a channel mixer, after its activation
========================================  ==========================================================================

Where a fused kernel would hide a value, the part computes step by step while somebody listens. A part that is called
several times (in a looped stage) shows its values each time. While a part streams, its own taps show what the next
tokens give; ``input`` and ``output`` are those of calls alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.frame import Backbone, Block, Branch, Stage
from formwright.nn.layers import PLAIN, Layer
from formwright.nn.parts import Listener, Part

ENDS = ("input", "output")
_LAYERS = (*PLAIN, nn.Embedding, Layer)
_FRAME = (Branch, Block, Stage, Backbone)


def tap_points(model: nn.Module) -> list[str]:
    """Every tap point of ``model``, in the order of its modules; the model's own path is empty (``":output"``)."""
    points = []
    for path, module in model.named_modules():
        if module is model or isinstance(module, (Part, *_FRAME, *_LAYERS)):
            points += [f"{path}:{end}" for end in ENDS]
        if isinstance(module, Part):
            points += [f"{path}:{name}" for name in module.taps]
    return points


def matching_points(model: nn.Module, patterns: str | Iterable[str]) -> list[str]:
    """The tap points that match a pattern (``*``, ``?`` and ``[...]`` as in file names), in the order of the model.

    Raises:
        UserError: a pattern matches none.
    """
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    if all(pattern in (f":{end}" for end in ENDS) for pattern in patterns):
        return patterns  # the model's own: a training step need not look at all modules for them
    points = tap_points(model)
    for pattern in patterns:
        if not any(fnmatchcase(point, pattern) for point in points):
            raise UserError(
                f"The model has no tap point {pattern!r}; it has {len(points)}, such as {', '.join(points[-3:])}; "
                "formwright.nn.taps.tap_points(model) lists them."
            )
    return [point for point in points if any(fnmatchcase(point, pattern) for pattern in patterns)]


@contextmanager
def replace_taps(model: nn.Module, functions: Mapping[str, Listener]) -> Iterator[None]:
    """Let functions see, and change, values of ``model`` while the context lasts.

    >>> with replace_taps(model, {"*:scores": lambda scores: scores / 2}):        # doctest: +SKIP
    ...     model(x)

    Args:
        model: a model, or a part of one.
        functions: by tap point, or pattern of tap points, what turns a value into the one that takes its place; a
            function that returns ``None`` leaves the value as it is.

    Raises:
        UserError: a pattern matches no tap point.
    """
    found = [(point, function) for pattern, function in functions.items() for point in matching_points(model, pattern)]
    with ExitStack() as stack:
        for point, function in found:
            path, _, name = point.rpartition(":")
            stack.callback(_listen(model.get_submodule(path), name, function))
        yield


@contextmanager
def read_taps(model: nn.Module, patterns: str | Iterable[str]) -> Iterator[dict[str, Any]]:
    """Collect values of ``model`` while the context lasts: a dictionary from tap points to their latest values.

    >>> with read_taps(model, "*.part:weights") as values:                        # doctest: +SKIP
    ...     model(x)
    >>> values["backbone.stages.0.blocks.1.branches.0.part:weights"].shape

    Values are the tensors themselves, with what is needed for their gradients.

    Raises:
        UserError: a pattern matches no tap point.
    """
    values: dict[str, Any] = {}

    def keep(point: str) -> Callable[[Tensor], None]:
        return lambda value: values.__setitem__(point, value)

    with replace_taps(model, {point: keep(point) for point in matching_points(model, patterns)}):
        yield values


def _listen(module: nn.Module, name: str, function: Listener) -> Callable[[], None]:
    """Begin to listen to one tap, and return what ends it."""
    if name == "input":
        return module.register_forward_pre_hook(_on_input(function), with_kwargs=True).remove
    if name == "output":
        return module.register_forward_hook(_on_output(function)).remove
    assert isinstance(module, Part)
    return module.listen(name, function)


def _on_input(function: Listener) -> Callable[..., tuple[Any, Any] | None]:
    def hook(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any] | None:
        replaced = function(inputs[0] if inputs else named)
        if replaced is None:
            return None
        return ((replaced, *inputs[1:]), named) if inputs else ((), replaced)

    return hook


def _on_output(function: Listener) -> Callable[[nn.Module, tuple[Any, ...], Any], Any]:
    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        with_context = isinstance(output, tuple)
        replaced = function(output[0] if with_context else output)
        if replaced is None:
            return None
        return (replaced, *output[1:]) if with_context else replaced

    return hook

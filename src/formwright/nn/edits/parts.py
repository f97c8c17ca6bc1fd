"""Branches are dropped, parts give way to others, and tokens are merged behind branches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from formwright.errors import UserError
from formwright.nn.edits.axes import module_at
from formwright.nn.edits.layers import set_module
from formwright.nn.embeddings import ClassToken
from formwright.nn.frame import Branch, DroppedBranch
from formwright.nn.initialization import initialize
from formwright.nn.parts import Part, build_part
from formwright.nn.specification import EditSpec, PartSpec


def drop(model: nn.Module, target: str, options: Mapping[str, Any]) -> None:
    """Make the residual branch ``target`` the identity: its parts, its norms and its scales are gone."""
    drop_branch(model, target)


def drop_branch(model: nn.Module, target: str) -> EditSpec:
    """Make the residual branch ``target`` the identity; the branches behind it keep their names.

    Returns:
        The edit that replays it.

    Raises:
        UserError: ``target`` is no branch, or was dropped before.
    """
    branch = module_at(model, target)
    if isinstance(branch, DroppedBranch):
        raise UserError(f"The branch {target!r} has been dropped already.")
    if not isinstance(branch, Branch):
        raise UserError(f"Only a residual branch can be dropped, and {target!r} is a {type(branch).__name__}.")
    set_module(model, target, DroppedBranch())
    return EditSpec("drop", target)


def replace(model: nn.Module, target: str, options: Mapping[str, Any]) -> None:
    """Put another part in the place of ``target``; option: ``part``, its specification."""
    replace_part(model, target, options["part"])


def replace_part(model: nn.Module, target: str, spec: PartSpec) -> EditSpec:
    """Put the part of a specification, with new weights, in the place of ``target``.

    Args:
        target: a part or a norm of a branch, of a chain of parts, or an entry or the downsampling of a stage.
        spec: what shall stand there.

    Returns:
        The edit that replays it.

    Raises:
        UserError: no such part stands there, or the specification does not fit.
    """
    old = module_at(model, target)
    holder, slot = _holder(model, target)
    if holder is None or not isinstance(old, Part):
        raise UserError(
            f"{target!r} is a {type(old).__name__}, for which no other part can be built: name a part or a norm of a "
            "branch, or an entry or the downsampling of a stage."
        )
    set_module(model, target, _built(model, holder, slot, spec).train(old.training))
    return EditSpec("replace", target, {"part": spec})


def swap_mixers(model: nn.Module, mixer: PartSpec | str, **options: Any) -> list[EditSpec]:
    """Put another token mixer, with new weights, in the place of every token mixer of a model, and record it there.

    >>> swap_mixers(model, "mamba")                                  # doctest: +SKIP

    A mixer of sequences that meets a grid of several axes, or class tokens that it does not know of, is put into a
    ``flattened`` part: it reads the places row by row, and class tokens last.

    Args:
        model: a network with residual branches; it is changed in place, and is saved and loaded as it becomes.
        mixer: a part, or its name.
        options: of the part, beside those that it has.

    Returns:
        The edits that replay it.

    Raises:
        UserError: the model has no token mixer in a residual branch, or the part cannot take its tokens.
    """
    spec = (PartSpec(mixer) if isinstance(mixer, str) else mixer).with_options(**options)
    facts = {"prefix", "grid"} if any(isinstance(part, ClassToken) for part in model.modules()) else set()
    edits = []
    for name, branch in list(model.named_modules()):
        if not isinstance(branch, Branch) or branch.part.promises.per_token:
            continue
        new = build_part(spec, branch.dim, grid=branch.grid)
        fits = len(branch.grid) in new.promises.dimensions and facts <= new.uses
        edits.append(replace_part(model, f"{name}.part", spec if fits else PartSpec("flattened", {"part": spec})))
    if not edits:
        raise UserError(f"{type(model).__name__} has no residual branch that mixes tokens, so no mixer can be swapped.")
    record = getattr(model, "record_edits", None)
    if record is not None:
        record(edits)
    return edits


def merge(model: nn.Module, target: str, options: Mapping[str, Any]) -> None:
    """Merge or drop tokens behind the residual branch ``target``; option: ``part``, the specification of what does."""
    merge_tokens(model, target, options["part"])


def merge_tokens(model: nn.Module, target: str, spec: PartSpec) -> EditSpec:
    """Let a part that maps ``(x, context)`` to ``(x, context)`` stand behind the residual branch ``target``.

    What already stands there is replaced by :func:`replace_part`.

    Returns:
        The edit that replays it.

    Raises:
        UserError: ``target`` is no branch, something stands behind it already, or the specification does not fit.
    """
    branch = module_at(model, target)
    if not isinstance(branch, Branch):
        raise UserError(f"Tokens are merged behind a residual branch, and {target!r} is a {type(branch).__name__}.")
    if branch.after is not None:
        raise UserError(
            f"A {type(branch.after).__name__} stands behind {target!r} already; replace {f'{target}.after'!r} instead."
        )
    branch.after = _built(model, branch, "after", spec).train(branch.training)
    return EditSpec("merge", target, {"part": spec})


def _built(model: nn.Module, holder: nn.Module, slot: str, spec: PartSpec) -> Part:
    """The part of a specification for a slot, with weights that start by the model's rule, where the model's are."""
    if not isinstance(spec, PartSpec):
        raise UserError(f"What stands there is the specification of a part, with name and options, and got {spec!r}.")
    new: Part = holder.build_slot(slot, spec)  # type: ignore[operator]
    initialize(new, rule=getattr(getattr(model, "specification", None), "initialization", "truncated_normal"))
    like = next((p for p in model.parameters() if p.is_floating_point()), None)
    return new if like is None else new.to(like.device, like.dtype)


def _holder(model: nn.Module, target: str) -> tuple[nn.Module | None, str]:
    """The innermost module around ``target`` that builds parts, and what ``target`` is called in it."""
    path, slot = target, ""
    while path:
        path, _, step = path.rpartition(".")
        slot = f"{step}.{slot}".rstrip(".")
        module = model.get_submodule(path)
        if isinstance(module, Part) or hasattr(module, "build_slot"):
            return (module, slot) if hasattr(module, "build_slot") else (None, slot)
    return None, slot

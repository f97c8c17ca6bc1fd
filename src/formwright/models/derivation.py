"""Families that are others but for something."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from formwright.nn.specification import NetworkSpec

S = TypeVar("S", bound=NetworkSpec)


def derive(
    base: Callable[..., S], *, family: str, without: Collection[str] = (), **defaults: Any
) -> Callable[[Callable[..., S]], Callable[..., S]]:
    """Make a family of a function of another one's specification.

    >>> @derive(llama, family="polycom", length=2048)                # doctest: +SKIP
    ... def polycom(base, *, hidden: int, activation: str = "poly_norm") -> ChainSpec:
    ...     return with_channel_mixer(base(), part("mlp", hidden=hidden, activation=activation, bias=False))

    The function is given ``base``, which makes the other family's specification from the options that both have; it
    passes on what it decides itself (``base(norm=...)``), and changes what comes back. Its arguments are the options
    that it adds or reads. All options of the other family that it does not name are the new one's as well.

    Args:
        base: the function of the other family.
        family: the name of the new one.
        without: options of the other family that the new one does not have: it decides them, or leaves their defaults.
        defaults: options of the other family, and what they are here if unset.
    """
    theirs = inspect.signature(base).parameters

    def decorate(change: Callable[..., S]) -> Callable[..., S]:
        _, *named = inspect.signature(change).parameters.values()
        own = {one.name: one for one in named}
        kept = {name: one for name, one in theirs.items() if name not in without or name in defaults}
        kept |= {name: kept[name].replace(default=value) for name, value in {"name": family, **defaults}.items()}
        # What has to be given comes first, then what is new.
        needed = [name for name, one in kept.items() if one.default is one.empty]
        merged = {name: own.get(name) or kept[name] for name in dict.fromkeys(["name", *needed, *own, *kept])}
        signature = inspect.Signature(list(merged.values()))

        @functools.wraps(change)
        def build(**given: Any) -> S:
            bound = signature.bind(**given)
            bound.apply_defaults()
            options = bound.arguments
            shared = functools.partial(base, **{name: value for name, value in options.items() if name in theirs})
            specification = change(shared, **{name: options[name] for name in own})
            return dataclasses.replace(specification, family=family)

        build.__signature__ = signature  # type: ignore[attr-defined]
        return build

    return decorate

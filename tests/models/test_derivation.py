"""A family that is derived from another has its options, its own, and the changed specification."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest

from formwright.errors import UserError
from formwright.models import create_model, derive, model_specification
from formwright.models.language.transformer import decoder, with_channel_mixer
from formwright.nn.specification import ChainSpec, part


@derive(decoder, family="plain", without=("mixers", "rotary"), length=33, tied=False)
def plain(base: Callable[..., ChainSpec], *, dim: int, hidden: int, activation: str = "relu") -> ChainSpec:
    """A decoder with plain MLPs."""
    return with_channel_mixer(base(rotary=None), part("mlp", hidden=hidden, activation=activation))


@derive(plain, family="wide", dropout=0.5)
def wide(base: Callable[..., ChainSpec], *, dim: int, hidden: int = 0) -> ChainSpec:
    """One whose MLPs are eight times as wide if not told otherwise."""
    return base(hidden=hidden or 8 * dim)


SIZES = {"dim": 16, "depth": 2, "heads": 2}


def test_the_signature_has_the_options_of_both() -> None:
    theirs, options = inspect.signature(decoder).parameters, inspect.signature(plain).parameters
    assert set(options) == set(theirs) - {"mixers", "rotary"} | {"hidden", "activation"}
    assert list(options)[:6] == ["name", "dim", "depth", "heads", "hidden", "activation"]
    changed = {"name": "plain", "length": 33, "tied": False}
    for name, one in options.items():
        assert one.kind is one.KEYWORD_ONLY
        if name in theirs:
            assert one.default == changed.get(name, theirs[name].default)
    assert inspect.signature(wide).parameters["hidden"].default == 0
    assert inspect.signature(wide).parameters["dropout"].default == 0.5
    assert plain.__doc__ == "A decoder with plain MLPs."


def test_the_specification_is_the_other_one_changed() -> None:
    own = plain(**SIZES, hidden=24, vocabulary=11)
    assert (own.family, own.name) == ("plain", "plain")
    theirs = decoder(name="plain", **SIZES, rotary=None, tied=False, length=33, vocabulary=11)
    expected = with_channel_mixer(theirs, part("mlp", hidden=24, activation="relu"))
    assert own.stages == expected.stages
    assert own.input == expected.input
    assert plain(**SIZES, hidden=24, length=7).input.size == (7,)


def test_a_derived_family_can_be_derived_from() -> None:
    own = wide(**SIZES)
    assert own.family == "wide"
    assert own.stages[0].blocks[0].branches[1].part.options["hidden"] == 128
    assert own.stages[0].blocks[0].branches[0].part.options["dropout"] == 0.5
    assert wide(**SIZES, hidden=9).stages[0].blocks[1].branches[1].part.options["hidden"] == 9
    assert create_model(own).parameter_count() > 0


def test_what_it_goes_without_is_no_option() -> None:
    with pytest.raises(TypeError, match="rotary"):
        plain(**SIZES, hidden=24, rotary={})
    with pytest.raises(TypeError, match="hidden"):
        plain(**SIZES)
    with pytest.raises(UserError, match="no option 'rotary'; its options are: dim, depth, heads, hidden, activation"):
        model_specification("polynorm_1b", rotary={})

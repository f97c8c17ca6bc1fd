from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from formwright import registry
from formwright.errors import UnknownNameError, UserError
from formwright.registry import Registry


@pytest.fixture
def colours() -> Registry[int]:
    colours: Registry[int] = Registry("colour", group="formwright.test_colours")
    colours.add("red", 1)
    colours.add("dark_red", 2)
    return colours


def test_names_are_found_and_listed_in_order(colours: Registry[int]) -> None:
    assert colours["red"] == 1
    assert list(colours) == ["dark_red", "red"]
    assert colours.names("*_red") == ["dark_red"]
    assert "red" in colours
    assert "blue" not in colours


def test_decorator_returns_what_it_registers(colours: Registry[int]) -> None:
    assert colours.register("green")(3) == 3
    assert colours["green"] == 3


def test_a_name_is_given_once(colours: Registry[int]) -> None:
    with pytest.raises(ValueError, match="already a colour named 'red'"):
        colours.add("red", 5)


def test_nearest_names_are_suggested(colours: Registry[int]) -> None:
    with pytest.raises(UnknownNameError, match="no colour named 'drak_red'; did you mean dark_red"):
        colours["drak_red"]


def test_known_names_are_listed_where_none_is_near(colours: Registry[int]) -> None:
    with pytest.raises(UserError, match="known: dark_red, red"):
        colours["octarine"]


def test_plugins_are_loaded_when_a_name_is_not_found(colours: Registry[int], monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []

    def entry_points(*, group: str) -> list[EntryPoint]:
        loads.append(group)
        return [EntryPoint("tau", "math:tau", group), EntryPoint("red", "math:pi", group)]

    monkeypatch.setattr(registry, "entry_points", entry_points)
    assert colours["red"] == 1
    assert loads == []
    assert colours["tau"] == pytest.approx(6.2831853)
    assert colours["red"] == 1, "a plug-in does not replace a name of ours"
    assert "tau" in list(colours)
    assert loads == ["formwright.test_colours"], "they are looked for once"

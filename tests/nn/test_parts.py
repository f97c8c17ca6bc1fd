from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from formwright.errors import UserError
from formwright.nn import Context, Part, PartSpec, build_part, part
from formwright.nn.context import EMPTY, split_prefix


def test_options_and_grid_reach_the_constructor() -> None:
    mixer = build_part(part("spatial_linear"), 8, grid=(2, 3))
    assert mixer.fc.weight.shape == (6, 6)
    assert build_part(part("spatial_linear", grid=(2, 2)), 8, grid=(2, 3)).fc.weight.shape == (4, 4)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (part("atention"), "no part named 'atention'; did you mean attention"),
        (part("mlp", width=3), r"Part 'mlp' has no option 'width'; its options are: ratio, hidden, "),
        (part("identity", width=3), "has no option 'width'; its options are: none"),
        (part("chain"), "Part 'chain' cannot be built: .*'parts'"),
        (part("attention", heads=5), "16 channels cannot be split over 5 heads"),
        (part("mlp", activation="gelo"), "no activation named 'gelo'; did you mean .*gelu"),
    ],
)
def test_what_cannot_be_built_is_said(spec: PartSpec, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_part(spec, 16, grid=(2, 2))


def test_a_part_inside_a_part_is_asked_about_the_context() -> None:
    mask = Context(mask=torch.ones(2, 3, 3, dtype=torch.bool))
    build_part(part("classifier", norm=part("layer_norm")), 8, 5).check_context(mask)
    with pytest.raises(UserError, match="GroupNorm does not use mask"):
        build_part(part("classifier", norm=part("group_norm")), 8, 5).check_context(mask)


class _Careless(Part):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)


def test_all_ignored_fields_are_named() -> None:
    context = Context(token_size=torch.zeros(1, 2), mask=torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(UserError, match="_Careless does not use mask, token_size of the context"):
        _Careless().check_context(context)
    with pytest.raises(UserError, match="No part of _Careless uses condition, memory of the context"):
        _Careless().check_context(Context(memory=torch.zeros(1, 2, 3), condition=torch.zeros(1, 3)))
    _Careless().check_context(Context(condition=torch.zeros(1, 3), checked=True))
    _Careless().check_context(EMPTY)
    _Careless().check_context(Context())


def test_context_says_what_is_set() -> None:
    assert Context().fields_set() == []
    context = Context(prefix=1, grid=(2, 2))
    assert context.fields_set() == ["prefix", "grid"]
    assert context.flat
    assert not context.replace(grid=None).flat


def test_prefix_tokens_are_separated_from_the_grid() -> None:
    x = torch.arange(14.0).view(1, 7, 2)
    front, places = split_prefix(x, Context(prefix=1, grid=(2, 3)))
    assert front.tolist() == [[[0, 1]]]
    assert places.shape == (1, 2, 3, 2)
    assert places[0, 1, 0].tolist() == [8, 9]


def test_the_guide_lists_every_hook_and_who_asks_for_it() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "write-a-part.md").read_text(encoding="utf-8")
    table = page.partition("## Who asks")[2].partition("\n## ")[0]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    #: What parts call rather than say.
    called = {"promise", "listen", "listeners", "listened", "tap", "check_context", "ignored_facts"}
    declared = {*vars(Part), *Part.__annotations__}
    assert listed == {name for name in declared if not name.startswith("_")} - called

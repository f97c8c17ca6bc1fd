"""What is listed of parts is what they are."""

from __future__ import annotations

import pytest

from formwright.nn import PARTS
from formwright.nn.listing import listed_parts


def test_every_part_is_listed_with_a_sentence() -> None:
    facts = listed_parts()
    assert [one.name for one in facts] == PARTS.names()
    assert all(one.summary and "`" not in one.summary and ":func:" not in one.summary for one in facts)


@pytest.mark.parametrize(
    ("name", "kind", "axes", "causal", "streams"),
    [
        ("mamba", "token mixer", (1,), "yes", True),
        ("attention", "token mixer", (1, 2, 3), "option", True),
        ("mlp", "channel mixer", (1, 2, 3), "yes", True),
        ("classifier", "head", (1, 2, 3), "no", False),
    ],
)
def test_what_a_part_says(name: str, kind: str, axes: tuple[int, ...], causal: str, streams: bool) -> None:
    (facts,) = listed_parts(name)
    assert (facts.kind, facts.axes, facts.causal, facts.streams) == (kind, axes, causal, streams)


def test_by_kind_and_pattern() -> None:
    assert {one.kind for one in listed_parts(kind="head")} == {"head"}
    assert [one.name for one in listed_parts("mamb?2")] == ["mamba2"]

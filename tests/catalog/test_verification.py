from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

import formwright
from formwright.catalog import cards
from formwright.catalog.claim import Claim, ClaimReport, ClaimResult
from formwright.catalog.verification import all_systems, rows, verify
from formwright.cli.app import app
from formwright.errors import UserError
from formwright.reporting import Reporter


def claim(name: str, kind: str, *, holds: bool = True, slow: bool = False) -> Claim:
    return Claim(name, kind, "it is so", "7", lambda reporter: ClaimResult("7" if holds else "8", holds), slow)


def broken(reporter: Reporter) -> ClaimResult:
    raise ZeroDivisionError("nothing to divide by")


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> list[Claim]:
    """The claims of poolformer and vit, for the time of a test."""
    claims: list[Claim] = []
    monkeypatch.setattr("formwright.catalog.verification.claims_of", lambda system: claims)
    return claims


def test_published_stands_beside_measured(claims: list[Claim]) -> None:
    claims += [claim("size", "count"), claim("width", "count", holds=False)]
    reports = verify(["poolformer", "vit"])
    assert rows(reports) == [
        (system, name, "7", measured, verdict)
        for system in ("poolformer", "vit")
        for name, measured, verdict in (("size", "7", "holds"), ("width", "8", "does not hold"))
    ]


@pytest.mark.parametrize(
    ("kind", "holds", "failed"),
    [
        ("count", True, False),
        ("count", False, True),
        ("equality", False, True),
        ("direction", False, False),
        ("measured", False, False),
    ],
)
def test_only_counts_and_equalities_can_fail(claims: list[Claim], kind: str, holds: bool, failed: bool) -> None:
    claims.append(claim("size", kind, holds=holds))
    (report,) = verify("poolformer")
    assert report.failed is failed
    assert report.to_json()["failed"] is failed


def test_a_broken_claim_is_reported_and_hides_no_other(claims: list[Claim]) -> None:
    claims += [Claim("size", "direction", "it is so", "7", broken), claim("width", "count")]
    first, second = verify("poolformer")
    assert first.failed
    assert rows([first])[0][3:] == ("ZeroDivisionError: nothing to divide by", "broken")
    assert second.holds


def test_quick_leaves_out_what_is_slow(claims: list[Claim]) -> None:
    claims += [claim("size", "count"), claim("race", "direction", slow=True)]
    assert [report.claim for report in verify("poolformer", quick=True)] == ["size"]
    assert [report.claim for report in verify("poolformer")] == ["size", "race"]


class Listener(Reporter):
    def __init__(self) -> None:
        self.heard: list[tuple[str, object]] = []

    def stage(self, name: str, seconds: float | None = None) -> None:
        self.heard.append(("stage", name))

    def progress(self, done: float, text: str = "") -> None:
        self.heard.append((text, done))


def test_progress_of_a_claim_is_part_of_that_of_the_system(claims: list[Claim]) -> None:
    def run(reporter: Reporter) -> ClaimResult:
        reporter.progress(0.5, "half way")
        return ClaimResult("7", True)

    claims += [claim("size", "count"), Claim("race", "direction", "it is so", "7", run)]
    listener = Listener()
    verify("vit", reporter=listener)
    assert listener.heard == [("stage", "vit"), ("size", 0.0), ("race", 0.5), ("half way", 0.75)]


def test_published_sizes_are_counted() -> None:
    reports = [report for report in formwright.verify("resnet", quick=True) if report.kind == "count"]
    assert {report.claim: report.measured for report in reports}["parameters:resnet18"] == "11,689,512"
    assert all(report.holds for report in reports)


def test_equal_outputs_and_altered_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison tells an equal model from one with another epsilon in one place."""
    (equal,) = [found for found in cards.claims_of("cct") if found.id == "outputs:cvt_2_4_32"]
    assert equal.run(Reporter()).holds
    monkeypatch.setattr("formwright.models.vision.cct._NORM", formwright.nn.part("layer_norm", eps=1e-3))
    altered = equal.run(Reporter())
    assert not altered.holds


def test_unknown_systems_are_refused() -> None:
    with pytest.raises(UserError, match="did you mean poolformer"):
        verify("poolformr")


class TestCommand:
    def run(self, *arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["verify", "--quiet", *arguments])
        return result.exit_code, result.stdout

    def test_it_exits_with_one_where_a_count_does_not_hold(self, claims: list[Claim]) -> None:
        claims.append(claim("race", "direction", holds=False))
        assert self.run("vit")[0] == 0
        claims.append(claim("size", "count", holds=False))
        status, text = self.run("vit")
        assert status == 1
        assert "does not hold" in text
        assert "0 of 2 claims hold" in text

    def test_it_prints_json(self, claims: list[Claim]) -> None:
        claims.append(claim("size", "count"))
        status, text = self.run("--all", "--json")
        assert status == 0
        printed = json.loads(text)
        assert [report["system"] for report in printed] == all_systems()
        assert ClaimReport(**{key: value for key, value in printed[0].items() if key != "failed"}).holds

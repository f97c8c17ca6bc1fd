from __future__ import annotations

import re
from pathlib import Path

import pytest

from formwright.catalog import site
from formwright.catalog.cards import read_cards
from formwright.files import write_json


@pytest.fixture
def results() -> list[dict[str, object]]:
    return [
        {"system": "vit", "claim": "parameters:vit_tiny_patch16_224", "measured": "5,717,416", "holds": True},
        {"system": "vit", "claim": "macs:vit_tiny_patch16_224-224", "measured": "9 <G>", "holds": False},
    ]


def test_there_is_a_page_for_each_system_and_an_index(tmp_path: Path) -> None:
    pages = site.write_site(tmp_path)
    assert {page.name for page in pages} == {"index.html", *(f"{name}.html" for name in read_cards())}
    index = (tmp_path / "index.html").read_text()
    for link in re.findall(r'href="([^":#]+)"', index):
        assert (tmp_path / link).exists()


def test_pages_need_nothing_else(tmp_path: Path) -> None:
    for page in site.write_site(tmp_path):
        text = page.read_text()
        assert not re.findall(r"<(?:script|link|img)\b|@import|url\(", text)
        assert 'name="viewport"' in text


def test_nothing_is_shown_as_measured_that_was_not_run(tmp_path: Path, results: list[dict[str, object]]) -> None:
    site.write_site(tmp_path)
    text = (tmp_path / "vit.html").read_text()
    assert "5,717,416" in text, "it is published"
    assert ">holds<" not in text
    assert "not run" in text
    rungs = {rung.name: (rung.state, rung.text) for rung in site.systems()[-1].rungs}
    assert rungs["built"][0] == "claimed"


def test_results_stand_beside_what_is_published(tmp_path: Path, results: list[dict[str, object]]) -> None:
    write_json(tmp_path / "results.json", results)
    assert site.main([str(tmp_path / "site"), "--results", str(tmp_path / "results.json")]) == 0
    text = (tmp_path / "site" / "vit.html").read_text()
    assert ">holds<" in text
    assert ">does not hold<" in text
    assert "9 &lt;G&gt;" in text
    (vit,) = [system for system in site.systems(results) if system.card.id == "vit"]
    built = vit.rungs[0]
    assert (built.name, built.state, built.run, built.held) == ("built", "open", 2, 1)
    assert built.text == f"1 of 2 hold, {built.claims - 2} to run"
    assert built.text in (tmp_path / "site" / "index.html").read_text()


def test_results_that_are_missing_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert site.main([str(tmp_path), "--results", str(tmp_path / "gone.json")]) == 2
    assert "There is no file" in capsys.readouterr().err

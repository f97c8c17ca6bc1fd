from __future__ import annotations

import re
from pathlib import Path

import pytest

from formwright.catalog import check
from formwright.catalog.cards import read_cards


def test_the_catalogue_is_in_order() -> None:
    assert check.check_cards() == []


def test_the_documents_of_this_repository_have_no_dead_links() -> None:
    assert check.dead_links(Path(__file__).parents[2]) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"module": "formwright.models.vision.weaver"}, "which cannot be imported"),
        ({"family": "weaver"}, "names the family 'weaver', which no model is registered under"),
        ({"parts": ("warp",)}, "names the part 'warp', which is not registered"),
        (
            {"mechanisms": ("atention",)},
            "has 'atention' among its mechanisms, which .* does not know; did you mean 'attention'",
        ),
        ({"claims": ("parameters", "speed")}, "lists the claims .*'speed'.* and its program has"),
    ],
)
def test_a_card_that_is_out_of_date_is_named(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], message: str
) -> None:
    cards = {**read_cards(), "vit": read_cards()["vit"].model_copy(update=changes)}
    monkeypatch.setattr(check, "read_cards", lambda: cards)
    problems = [problem for problem in check.check_cards() if problem.startswith("The card vit ")]
    assert len(problems) == 1
    assert re.search(message, problems[0])


def test_a_family_without_a_card_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = {name: card for name, card in read_cards().items() if name != "swin"}
    monkeypatch.setattr(check, "read_cards", lambda: cards)
    problems = check.check_cards()
    assert "The family 'swin' has no card." in problems
    cites = "The part 'patch_merging' cites arXiv 2103.14030, which neither a card nor papers.yaml knows."
    assert cites in problems


def test_dead_links_are_found_and_others_left_alone(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "how to.md").write_text("[up](../README.md#start) [self](#here) [code]: `[x](nowhere.md)`")
    (tmp_path / "README.md").write_text(
        "[good](docs/how%20to.md) ![picture](docs/picture.png) [web](https://example.org/a.md)\n"
        '[titled](docs/missing.md "A title") [mail](mailto:a@example.org) \\[not](a.md)\n'
        "```\n[in code](gone.md)\n```\n"
    )
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "other.md").write_text("[dead](gone.md)")
    assert check.dead_links(tmp_path) == [
        "README.md links to docs/picture.png, which does not exist.",
        "README.md links to docs/missing.md, which does not exist.",
    ]


def test_the_program_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert check.main() == 0
    assert "in order" in capsys.readouterr().out
    (tmp_path / "README.md").write_text("[dead](gone.md)")
    assert check.main() == 1
    assert "README.md links to gone.md" in capsys.readouterr().err

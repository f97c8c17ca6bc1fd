from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from formwright.catalog import provenance, results
from formwright.catalog.cards import Card, card_of
from formwright.catalog.claim import Claim, ClaimReport
from formwright.catalog.readme import BEGIN, END, main, outdated, table
from formwright.catalog.results import read_file, record, standing
from formwright.errors import UserError


def report(claim: str, kind: str, *, holds: bool = True, error: bool = False) -> ClaimReport:
    figures = {"ours": (0.5, 0.75)} if kind == "direction" else {}
    return ClaimReport(
        "vit",
        claim,
        kind,
        "it is so",
        "7",
        "7",
        holds,
        0.0,
        error=error,
        figures=figures,
        seeds=(0, 1)[: 2 * len(figures)],
    )


KINDS = {"size": "count", "outputs": "equality", "race": "direction", "speed": "measured"}


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Card]:
    """The card of ViT, with a claim of each kind and an empty folder of results."""
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    claims = [Claim(name, kind, "it is so", "7", lambda reporter: None) for name, kind in KINDS.items()]
    monkeypatch.setattr(results, "claims_of", lambda system: claims)
    yield card_of("vit")
    results.read_results.cache_clear()


def rung(card: Card, *names: str, failed: str = "") -> str:
    reports = [report(name, KINDS[name], holds=name != failed) for name in names]
    return standing(card, read_file(record(card, reports, quick=True))).rung


def test_what_is_recorded_is_read_again(card: Card) -> None:
    found = read_file(record(card, [report("race", "direction")], quick=False))
    (claim,) = found.claims.values()
    assert (claim.figures, claim.seeds, claim.seconds) == ({"ours": (0.5, 0.75)}, (0, 1), 0.0)
    (run,) = found.runs
    assert not run.quick
    assert run.processor.endswith("cores")
    assert {"torch", "formwright"} <= {*run.versions}
    assert not found.stale(card)


@pytest.mark.parametrize(
    ("names", "failed", "expected"),
    [
        ((), "", "none"),
        (("size",), "", "built"),
        (("size", "outputs"), "", "equal"),
        (("size", "outputs"), "outputs", "built"),
        (("size", "outputs", "speed"), "", "equal"),  # the race was not run
        (("size", "outputs", "race", "speed"), "", "measured"),
        (("size", "outputs", "race", "speed"), "race", "equal"),
        (("outputs",), "", "none"),  # sizes were not counted
    ],
)
def test_rungs_are_computed(card: Card, names: tuple[str, ...], failed: str, expected: str) -> None:
    assert rung(card, *names, failed=failed) == expected
    assert standing(card, None).rung == "none"
    assert standing(card_of("survey-inference"), None).rung == "guide"


def test_a_broken_claim_reaches_nothing(card: Card) -> None:
    path = record(card, [report("size", "count", holds=False, error=True)], quick=True)
    assert standing(card, read_file(path)).rung == "none"


def test_further_runs_add_to_what_is_recorded(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    record(card, [report("size", "count"), report("race", "direction")], quick=False)
    both = read_file(record(card, [report("size", "count")], quick=True))
    assert [run.quick for run in both.runs] == [False, True]
    assert {name: claim.run for name, claim in both.claims.items()} == {"race": 0, "size": 1}
    again = read_file(record(card, [report("size", "count"), report("race", "direction")], quick=False))
    assert len(again.runs) == 1
    monkeypatch.setattr(results, "fingerprint", lambda card: "another")
    assert again.stale(card)
    assert [*read_file(record(card, [report("size", "count")], quick=True)).claims] == ["size"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"system": "vit"}'])
def test_damaged_files_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "vit.json").write_text(text)
    with pytest.raises(UserError, match=r"vit\.json is damaged and ignored"):
        read_file(tmp_path / "vit.json")


def test_what_is_recorded_in_the_package_can_be_read() -> None:
    found, problems = results.read_results()
    assert problems == ()
    assert all(card_of(system).built for system in found)


class TestProvenance:
    def test_what_is_computed_counts_and_how_it_is_trained_does_not(self) -> None:
        sources = provenance.sources(card_of("poolformer"))
        wanted = {
            "catalog/claims/poolformer.py",
            "models/vision/poolformer.py",
            "nn/token_mixers/pooling.py",
            "nn/frame.py",
        }
        assert wanted <= {*sources}
        assert not [path for path in sources if path.split("/")[0] in ("training", "measurement", "fitting", "cli")]
        assert "nn/token_mixers/mamba.py" not in sources
        assert "nn/token_mixers/mamba.py" in provenance.sources(card_of("mamba"))

    def test_words_of_the_card_do_not_count_and_its_claims_do(self) -> None:
        card = card_of("poolformer")
        now = provenance.fingerprint(card)
        assert provenance.fingerprint(card.model_copy(update={"summary": "It pools."})) == now
        assert provenance.fingerprint(card.model_copy(update={"claims": ("parameters",)})) != now

    @pytest.mark.parametrize(
        ("text", "bare"),
        [
            ('"""What it is."""\n\nx = 1  # one\n', "x = 1"),
            ('def f():\n    r"""It\n    does."""\n    return "# no"\n', 'def f():\n    return "# no"'),
            ('# only\nx = \'#\'\ny = """a # b"""\n', 'x = \'#\'\ny = """a # b"""'),
        ],
    )
    def test_comments_and_documentation_do_not_count(
        self, text: str, bare: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(provenance, "_text", lambda path: text)
        assert provenance._bare.__wrapped__("x.py") == bare


def test_the_table_of_the_readme_is_written_between_its_marks(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("# Here\n")
    with pytest.raises(UserError, match="lacks the lines"):
        main(readme)
    readme.write_text(f"# Here\n{BEGIN}\n{END}\nMore.\n")
    assert "is not that of the cards" in str(outdated(readme))
    main(readme)
    assert outdated(readme) is None
    assert readme.read_text() == f"# Here\n{BEGIN}\n{table()}{END}\nMore.\n"

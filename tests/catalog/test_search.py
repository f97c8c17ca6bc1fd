from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from formwright.catalog import results
from formwright.catalog.cards import read_cards
from formwright.catalog.concepts import CONCEPTS
from formwright.catalog.decisions import PLAIN, RULES, Need, recommend
from formwright.catalog.search import Filters, search
from formwright.catalog.vocabulary import MECHANISMS, SUBJECTS, TASKS
from formwright.cli.app import app
from formwright.errors import UserError


def ids(words: str, **filters: str) -> list[str]:
    return [match.entry.card.id for match in search(words, Filters(**filters))]


def test_a_question_in_other_words_finds_what_answers_it() -> None:
    found = ids("make a ViT faster without retraining")
    assert found[0] == "pitome"
    assert {"q-hyvit", "repquant", "noisyquant"} <= {*found[:7]}
    assert {"lina-speech", "samba-asr", "lmuformer"} <= {*ids("linear attention for long audio")[:5]}


def test_an_id_is_found_first_and_endings_do_not_matter() -> None:
    assert ids("t2")[0] == "t2"
    assert ids("mamba")[0] == "mamba"
    assert {*ids("quantization")[:6]} == {*ids("quantisation")[:6]}


def test_it_says_why() -> None:
    best = search("make a ViT faster without retraining")[0]
    assert {"faster", "faster (token-reduction)", "without retraining"} <= {*best.why}


def test_filters_hold_of_all_that_is_found() -> None:
    for match in search(None, Filters(task="forecasting", year="2023-")):
        assert {"forecasting", "any"} & {*match.entry.card.tasks}
        assert match.entry.card.year >= 2023
    assert all("hashing" in match.entry.card.mechanisms for match in search(None, Filters(mechanism="hashing")))


@pytest.mark.parametrize(
    ("words", "filters", "message"),
    [
        ("", {}, "holds no word"),
        ("with the", {}, "holds no word"),
        ("qqqq", {}, "Nothing matches 'qqqq'"),
        (None, {"task": "musik"}, "no task named 'musik'; did you mean music"),
        (None, {"mechanism": "linear-atention"}, "did you mean linear-attention"),
        (None, {"rung": "eqal"}, "did you mean equal"),
        (None, {"year": "soon"}, "'soon' is not a year"),
        (None, {"year": "2024-2020"}, "run backwards.*2020-2024"),
        (None, {"task": "any", "year": "1950"}, r"task any and the year 1950 together: \d+ have the task any, 0 have"),
    ],
)
def test_what_finds_nothing_is_said(words: str | None, filters: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        search(words, Filters(**filters))


def test_the_tables_use_the_vocabulary() -> None:
    known = {*MECHANISMS, *TASKS}
    assert all(concept.tags <= known for concept in CONCEPTS)
    assert all(rule.mechanisms <= {*MECHANISMS} and {*rule.systems} <= {*read_cards()} for rule in (*RULES, PLAIN))
    assert {rule.source for rule in RULES} <= {*read_cards()}
    assert sorted(task for tasks in SUBJECTS.values() for task in tasks) == sorted(TASKS)


def test_long_inputs_get_linear_time_and_short_ones_keep_attention() -> None:
    def found(**need: object) -> set[str]:
        advice = recommend(Need("language-modelling", **need))  # type: ignore[arg-type]
        return {choice.card.id for one in advice for choice in one.alternatives}

    assert {"mamba", "deltanet"} <= found(length=100_000)
    assert "mamba" not in found(length=512)


def test_every_rule_has_systems_for_a_common_task_and_something_is_always_advised() -> None:
    for rule in (*RULES, PLAIN):
        assert any(rule.candidates(task) for task in ("image-classification", "audio-classification"))
    assert [one.rule for one in recommend(Need("music", train_size=10**6))] == [PLAIN]
    with pytest.raises(UserError, match="--length is 0"):
        Need("music", length=0)
    with pytest.raises(UserError, match="no task named"):
        Need("musik")


class TestCommand:
    def run(self, *arguments: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, ["catalog", *arguments])
        return result.exit_code, result.stdout, result.stderr

    def test_words_need_no_command(self) -> None:
        status, text, _ = self.run("token", "merging", "--json")
        assert status == 0
        first = json.loads(text)[0]
        assert (first["id"], first["built"]) == ("pitome", read_cards()["pitome"].built)
        assert "token" in first["why"]
        assert self.run("token", "merging")[1].splitlines()[1].startswith("pitome")

    def test_a_system_is_shown_with_its_models(self) -> None:
        text = re.sub(r"\s+", " ", self.run("show", "mamba")[1])
        assert "arXiv 2312.00752, 2023" in text
        assert "mamba_130m 129M parameters" in text
        assert json.loads(self.run("show", "pitome", "--json")[1])["rung"] == "none"

    def test_advice_says_what_is_not_recorded(self) -> None:
        status, text, _ = self.run("recommend", "--task", "language-modelling", "--length", "100000")
        assert status == 0
        assert "Are inputs long? Yes." in text
        assert "no measurement is recorded" in text

    def test_a_damaged_file_is_named_and_ignored(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(results, "FOLDER", tmp_path)
        results.read_results.cache_clear()
        (tmp_path / "vit.json").write_text('{"system": "vit"')
        status, text, errors = self.run("--task", "forecasting")
        results.read_results.cache_clear()
        assert status == 1
        assert "itransformer" in text
        assert "The results file vit.json is damaged and ignored" in errors

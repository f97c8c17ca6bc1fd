"""``formwright bench lra``: table, JSON and files, and what it refuses."""

from __future__ import annotations

import json

import pytest


def test_speed_alone_as_table_json_and_picture(cli, tmp_path):
    args = ["bench", "lra", "--task", "none", "--mixers", "full,local", "--lengths", "64,1k", "--budget", "5s"]
    answer = cli(*args, "--quiet", "--out", str(tmp_path))
    assert answer.code == 0, answer
    assert "1,024" in answer.out
    assert "local" in answer.out
    assert json.loads((tmp_path / "arena.json").read_text())["mixers"] == ["full", "local"]
    assert "Long Range Arena" in (tmp_path / "arena.html").read_text()
    answer = cli(*args, "--json")
    speeds = json.loads(answer.out)["speeds"]
    assert [(speed["mixer"], speed["length"]) for speed in speeds[:2]] == [("full", 64), ("full", 1024)]
    assert answer.err == ""


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--task", "listop"], "There is no task of the arena named 'listop'; did you mean listops?"),
        (["--mixers", "longfomer"], "There is no mixer of the arena named 'longfomer'; did you mean longformer"),
        (["--mixers", ","], "No mixer was named; choose among full, local"),
        (["--lengths", "0"], "'0' is no length; expected numbers of tokens such as 4096 or 4k"),
        (["--lengths", "1k5"], "'1k5' is no length"),
        (["--budget", "soon"], "'soon' is not a duration"),
        (["--task", "text", "--text", "nowhere", "--lengths", "none"], "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_came_is_named_with_what_was_expected(cli, args, words):
    assert words in cli("bench", "lra", *args).refusal()

"""Terminals that lack characters, columns, colours, input or a reader: every command goes on, or ends in a sentence."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.cli.conftest import environment
from tests.deployment.untrained import text_folder

ASCII = {"PYTHONIOENCODING": "ascii"}
PLAIN_C = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def shell(command, cwd, **variables):
    """Runs a command line of the shell, in which ``formwright`` is ours; exit code, output and errors as bytes."""
    ours = f'formwright() {{ "{sys.executable}" -m formwright.cli "$@"; }}; '
    done = subprocess.run(
        ["bash", "-c", ours + command],
        cwd=cwd,
        env={**environment(), **variables},
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
        check=False,
    )
    for said in (done.stdout, done.stderr):
        assert b"Traceback" not in said, said
        assert b"Exception" not in said, said
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def folder(tmp_path):
    return text_folder(tmp_path / "рун", labels=("хорошо", "bad"))


@pytest.mark.parametrize("variables", [ASCII, PLAIN_C, {**PLAIN_C, **ASCII}])
def test_consoles_of_ascii_get_the_answer(folder, variables):
    code, out, _ = shell("formwright predict рун 'кот lovely' отзыв", folder.parent, **variables)
    assert code == 0
    assert out.isascii()
    assert b"lovely" in out
    assert out.count(b"%") == 2


def test_json_loses_nothing_on_consoles_of_ascii(folder):
    code, out, _ = shell("formwright predict рун 'кот lovely' --json", folder.parent, **PLAIN_C)
    assert code == 0
    (answer,) = json.loads(out)
    assert answer["file"] == "кот lovely"
    assert set(answer["probabilities"]) == {"хорошо", "bad"}


def test_the_nearest_characters_stand_for_those_that_are_lacking(tmp_path):
    code, out, _ = shell("formwright predict --help", tmp_path, **ASCII)
    assert code == 0
    assert out.isascii()
    assert b"?" not in out.replace(b"?]", b"")
    code, _, err = shell("formwright predict нет 'text'", tmp_path, **ASCII)
    assert code == 2
    assert err.startswith(b"formwright: There is no folder ???")


def test_an_argument_that_is_no_utf_8(folder):
    code, out, err = shell(r"formwright predict рун $'caf\xe9 lovely'", folder.parent)
    assert code == 0
    assert "caf\ufffd lovely".encode() in out
    assert b"1 broken character was replaced" in err


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("formwright list <&-", 0),
        ("formwright list >&-", 0),
        ("formwright list >&- 2>&-", 0),
        ("formwright predict nowhere x 2>&-", 2),
        ("formwright predict рун - <&-", 2),
        ("formwright list | head -n 1", 0),
        ("formwright list --json | true; test ${PIPESTATUS[0]} = 1", 0),
        ("formwright fit --help 2>&1 | true", 0),
    ],
)
def test_streams_that_are_closed(folder, command, expected):
    assert shell(command, folder.parent)[0] == expected


@pytest.mark.parametrize("variables", [{"COLUMNS": "20"}, {"COLUMNS": "0"}, {"COLUMNS": "x", "TERM": "dumb"}])
def test_narrow_and_plain_terminals_show_every_letter(tmp_path, variables):
    code, out, _ = shell("formwright list 'vit_tiny*'", tmp_path, NO_COLOR="1", **variables)
    assert code == 0
    assert b"\x1b" not in out
    names = "".join(line.split()[0] for line in out.decode().splitlines()[1:] if line[0] != " ")
    assert "vit_tiny_patch16_224" in names


def test_a_text_that_looks_like_an_option_is_given_behind_two_dashes(folder):
    code, out, _ = shell("formwright predict рун -- '-5 stars'", folder.parent)
    assert (code, b"-5 stars" in out) == (0, True)
    code, _, err = shell("formwright predict рун '-5 stars'", folder.parent)
    assert code == 2
    assert b"put -- before texts that begin with -" in err


def test_a_path_that_is_too_long_is_named(tmp_path):
    code, _, err = shell(f"formwright fit {'long' * 100}", tmp_path)
    assert code == 2
    assert b"check the path" in err

from __future__ import annotations

import errno
import json
import math
from pathlib import Path

import pytest

from formwright.errors import UserError
from formwright.files import atomic_folder, atomic_path, read_json, write_json


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "result.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("half")
        assert not target.exists()
        assert temporary.parent == target.parent, "only within a file system is a rename one step"
        temporary.write_text("whole")
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def interrupted_write(target: Path) -> None:
    with atomic_path(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt


def test_a_crash_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted_write(tmp_path / "result.txt")
    assert list(tmp_path.iterdir()) == []


def test_a_crash_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    target = tmp_path / "result.txt"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        interrupted_write(target)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No space left.*make room"), atomic_path(tmp_path / "result.txt"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(UserError, match="choose a folder that can be written to"):
        write_json(tmp_path / "runs" / "result.json", 1)


def test_json_comes_back_as_it_was(tmp_path: Path) -> None:
    value = {"name": "Zürich", "values": [1, 2.5, None]}
    write_json(tmp_path / "value.json", value)
    assert read_json(tmp_path / "value.json") == value
    assert "Zürich" in (tmp_path / "value.json").read_text(encoding="utf-8")


def test_json_has_no_infinite_numbers(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": [math.nan, (math.inf, 1.5)], "b": {"c": -math.inf}})
    assert json.loads((tmp_path / "x.json").read_text(), parse_constant=pytest.fail) == {
        "a": [None, [None, 1.5]],
        "b": {"c": None},
    }


@pytest.mark.parametrize("content", [b"", b'{"half": ', b"\xff\xfe\x00broken"])
def test_what_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "value.json").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as JSON"):
        read_json(tmp_path / "value.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no file .*value\.json"):
        read_json(tmp_path / "value.json")


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "result"
    with atomic_folder(target) as temporary:
        (temporary / "one.txt").write_text("half")
        assert not target.exists()
        assert temporary.parent == target.parent
    assert (target / "one.txt").read_text() == "half"
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_that_fails_leaves_the_empty_one(tmp_path: Path) -> None:
    (tmp_path / "result").mkdir()

    def write(folder: Path) -> None:
        (folder / "one.txt").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "result") as temporary:
        write(temporary)
    assert list(tmp_path.rglob("*")) == [tmp_path / "result"]
    with atomic_folder(tmp_path / "result") as temporary:
        (temporary / "one.txt").write_text("whole")
    assert (tmp_path / "result" / "one.txt").read_text() == "whole"


def test_a_folder_in_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="could not be written"), atomic_folder(tmp_path / "file" / "result"):
        pass

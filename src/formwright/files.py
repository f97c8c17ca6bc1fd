"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from formwright.errors import StorageError, UserError

if TYPE_CHECKING:
    from torch import Tensor

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
#: What a killed process may leave: our temporary files, and those that safetensors makes beside them.
_LEFTOVER = re.compile(r"\..+\.\w{8}\.part|\.tmp\w{6}")


@contextmanager
def atomic_path(path: Path, mode: int = 0o644) -> Iterator[Path]:
    """A temporary path beside ``path``; it takes the place of ``path`` in one step when the block ends well.

    Raises:
        StorageError: the folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise not_written(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A new folder beside ``path``, which takes its place in one step when the block ends well.

    Where ``path`` is, it is empty; if the block fails, it stays so.

    Raises:
        StorageError: the folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    except OSError as error:
        raise not_written(path, error) from error
    try:
        yield temporary
        temporary.chmod(0o755)
        if path.is_dir():
            path.rmdir()
        temporary.replace(path)
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def not_written(path: Path, error: OSError) -> StorageError:
    """The error for a path that the system would not write."""
    remedy = "make room on the disk" if error.errno in _FULL else "choose a folder that can be written to"
    return StorageError(f"{path} could not be written ({error.strerror or error}): {remedy}.")


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all."""
    with atomic_path(Path(path)) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def rewrite(path: Path, content: bytes) -> None:
    """Replace what a file holds, whole or not at all: the file that a link leads to, with the rights that it has.

    Raises:
        StorageError: it may not be written, its folder cannot be written to, or the disk is full.
    """
    target = Path(path).resolve()
    if not os.access(target, os.W_OK):
        raise not_written(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    rights = target.stat()
    with atomic_path(target, mode=stat.S_IMODE(rights.st_mode)) as temporary:
        temporary.write_bytes(content)
        with suppress(OSError):  # only some may give a file to its owner
            os.chown(temporary, rights.st_uid, rights.st_gid)


def write_safetensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors of any device and memory format to a safetensors file, whole or not at all."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(Path(path)) as temporary:
        try:
            save_file(contiguous, temporary, metadata=dict(metadata))
        except SafetensorError as error:  # it tells the system's errors in words
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]), os.strerror(int(number[1]))) if number else OSError(str(error)) from error


def is_leftover(path: Path) -> bool:
    """Whether a file is the unfinished one of a process that was killed while it wrote."""
    return _LEFTOVER.fullmatch(path.name) is not None


def remove_leftovers(folder: Path) -> None:
    """Delete the unfinished files in ``folder`` and below: nothing will ever take them for whole ones."""
    for path in folder.rglob(".*"):
        if is_leftover(path) and path.is_file():
            path.unlink(missing_ok=True)


def json_text(value: Any, *, ascii: bool = False) -> str:
    """Plain data as JSON, which knows no infinite numbers and nothing that is no number: such are null."""
    return json.dumps(_finite(value), indent=2, ensure_ascii=ascii, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def write_json(path: Path, value: Any) -> None:
    """Write plain data as JSON (:func:`json_text`), whole or not at all."""
    try:
        write_atomically(path, json_text(value) + "\n")
    except UnicodeEncodeError:  # the name of a file that is not UTF-8
        write_atomically(path, json_text(value, ascii=True) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: it is missing, unreadable or not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"There is no file {path}.") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}.") from None

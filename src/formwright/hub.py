"""Models of a hub: downloaded when they are asked for by name, checked, and kept in the cache of ``huggingface_hub``.

``hf:ORG/NAME``, ``hf:ORG/NAME@REVISION`` and ``timm:NAME`` are names of such models. The hub is that of
``HF_ENDPOINT``, the cache that of ``HF_HOME``; ``HF_HUB_OFFLINE=1`` takes what the cache has.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from formwright.errors import StorageError, UserError
from formwright.reporting import SILENT, Reporter

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

#: Is told how many bytes there are of how many.
Progress = Callable[[int, int], None]

_NAME = re.compile(r"(?:hf:(?P<repository>[\w.-]+/[\w.-]+)|timm:(?P<timm>[\w.-]+))(?:@(?P<revision>[\w./-]+))?")
#: What is fetched beside the weights, where it is there.
_BESIDE = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "preprocessor_config.json",
    "preprocessing.json",
)
#: Names of weights, the preferred first; of several files, the index comes along.
_WEIGHTS = (
    re.compile(r"model\.safetensors"),
    re.compile(r"model\.safetensors\.index\.json|model-\d+-of-\d+\.safetensors"),
    re.compile(r"pytorch_model\.bin"),
    re.compile(r"pytorch_model\.bin\.index\.json|pytorch_model-\d+-of-\d+\.bin"),
)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK = 2**20


def is_hub_name(source: object) -> bool:
    """Whether this is the name of a model of a hub, and no path."""
    return str(source).startswith(("hf:", "timm:"))


def located(source: str | Path, reporter: Reporter = SILENT) -> Path:
    """The path of a model: itself, or that of a hub's, which is downloaded while ``reporter`` hears how far it is."""
    if not is_hub_name(source):
        return Path(source).expanduser()
    reporter.stage(f"Downloading {source}")

    def show(done: int, total: int) -> None:
        reporter.progress(done / max(total, 1), f"{done / 1e6:.0f} of {total / 1e6:.0f} MB")

    return fetch(str(source), show)


def fetch(name: str, progress: Progress | None = None) -> Path:
    """The folder of a model of a hub, downloaded if the cache does not have it.

    Args:
        name: ``hf:ORG/NAME``, ``hf:ORG/NAME@REVISION`` or ``timm:NAME``.
        progress: told of the bytes that are there, and of all.

    Returns:
        The folder in the cache: its path names the commit, so that it is the same files for ever.

    Raises:
        UserError: the name is none, the hub has no such model or shows it to others only, there is no network, a
            download broke off, or a file is not the one that the hub promises.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise UserError(f"{name!r} names no model of a hub; write hf:ORG/NAME, hf:ORG/NAME@REVISION or timm:NAME.")
    repository, revision = match["repository"] or f"timm/{match['timm']}", match["revision"]
    with _sentences(repository, revision):
        return _fetched(repository, revision, progress)


def _fetched(repository: str, revision: str | None, progress: Progress | None) -> Path:
    from huggingface_hub import HfApi

    try:
        listed = HfApi().model_info(repository, revision=revision, files_metadata=True)
    except Exception as error:
        if not _unreachable(error):
            raise
        return _cached(repository, revision)
    return _downloaded(repository, revision, listed, _wanted(repository, listed), progress)


def _cached(repository: str, revision: str | None) -> Path:
    """What an earlier download left."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    folder = Path(snapshot_download(repository, revision=revision, local_files_only=True))
    if not any(pattern.fullmatch(file.name) for file in folder.iterdir() for pattern in _WEIGHTS):
        raise LocalEntryNotFoundError(f"There are no weights in {folder}.")
    return folder


def _wanted(repository: str, listed: ModelInfo) -> list[RepoSibling]:
    """The files of a model: its configuration, tokeniser and weights, in one form only."""
    files = {file.rfilename: file for file in listed.siblings or []}
    for pattern in _WEIGHTS:
        weights = [name for name in files if pattern.fullmatch(name)]
        if weights:
            return [files[name] for name in (*_BESIDE, *weights) if name in files]
    raise UserError(
        f"{repository} on the hub has no weights that are read (model.safetensors or pytorch_model.bin); choose "
        "another model."
    )


def _downloaded(
    repository: str, revision: str | None, listed: ModelInfo, wanted: Collection[RepoSibling], progress: Progress | None
) -> Path:
    from huggingface_hub import hf_hub_download

    total, done = sum(file.size or 0 for file in wanted), 0
    folder = Path()
    for file in wanted:
        bar = _bar(lambda n, before=done: progress(min(before + n, total), total) if progress else None)  # type: ignore[misc]
        path = Path(hf_hub_download(repository, file.rfilename, revision=revision, tqdm_class=bar))
        folder, done = path.parent, done + (file.size or 0)
        if folder.name != listed.sha:
            raise UserError(f"{repository} changed on the hub while it was downloaded; start again.")
        _check(path, file, repository)
        if progress is not None:
            progress(done, total)
    return folder


def _check(path: Path, file: RepoSibling, repository: str) -> None:
    """Refuse, and take out of the cache, a file with another hash than the hub states."""
    stated = file.lfs.sha256 if file.lfs is not None else None
    if stated is None or not _SHA256.fullmatch(stated):
        return
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != stated:
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise UserError(
            f"{file.rfilename} of {repository} came with another content than the hub states (its SHA-256 is "
            f"{digest.hexdigest()[:12]}... instead of {stated[:12]}...); it is deleted: download it again."
        )


def _bar(show: Callable[[int], None]) -> Any:
    """A class of progress bars that draw nothing, and show how many bytes the fullest of them has."""
    from huggingface_hub import utils

    reached = 0

    class Bar(utils.tqdm):  # type: ignore[misc, name-defined]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self.bytes = int(options.get("initial") or 0)
            super().__init__(*arguments, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            nonlocal reached
            self.bytes += int(n or 0)
            reached = max(reached, self.bytes)
            show(reached)
            return None

    return Bar


@contextmanager
def _sentences(repository: str, revision: str | None) -> Iterator[None]:
    """Tell what the library raises as a sentence."""
    from huggingface_hub import errors, get_token

    try:
        yield
    except UserError:
        raise
    except errors.GatedRepoError:
        raise UserError(
            f"{repository} is shown to those only who accepted its terms: do so on its page of the hub, and give your "
            "token (hf auth login, or HF_TOKEN)."
        ) from None
    except errors.RevisionNotFoundError:
        raise UserError(
            f"{repository} on the hub has no revision {revision!r}; name a branch, a tag or a commit."
        ) from None
    except (errors.RepositoryNotFoundError, errors.DisabledRepoError):
        raise UserError(_hidden(repository)) from None
    except errors.LocalEntryNotFoundError:
        raise UserError(_absent(repository)) from None
    except errors.HFValidationError:
        raise UserError(f"{repository!r} is no name of a model on the hub; write hf:ORG/NAME.") from None
    except errors.HfHubHTTPError as error:
        code = error.response.status_code
        if code == 401 and not get_token():
            raise UserError(_hidden(repository)) from None
        remedy = "check your token (HF_TOKEN)" if code in (401, 403) else "try again later"
        raise UserError(f"The hub refused {repository} with the status {code}; {remedy}.") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise StorageError(
                f"{repository} could not be kept in {os.environ.get('HF_HOME', 'the cache of the hub')} "
                f"({error.strerror}): make room, or name another folder by HF_HOME."
            ) from None
        raise UserError(_broken(repository)) from None
    except Exception as error:
        if _unreachable(error):
            raise UserError(_broken(repository)) from None
        raise


def _unreachable(error: Exception) -> bool:
    """Whether a request could not be made or answered, whichever library of HTTP the hub's is built upon."""
    library = type(error).__module__.partition(".")[0]
    return isinstance(error, ConnectionError) or library in ("httpx", "httpx2", "httpcore", "httpcore2", "hf_xet")


def _hidden(repository: str) -> str:
    from huggingface_hub import get_token

    remedy = "check the name" if get_token() else "check the name, and give a token if it is private (HF_TOKEN)"
    return f"The hub has no model {repository} that you may read; {remedy}."


def _broken(repository: str) -> str:
    return f"The download of {repository} broke off, and went on no more; check the network and start again."


def _absent(repository: str) -> str:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return f"{repository} is not in the cache, and HF_HUB_OFFLINE forbids downloads: unset it, or give a folder."
    return f"{repository} is not in the cache, and the hub cannot be reached: check the network, or give a folder."

"""A small hub of models over HTTP on the loopback: what ``huggingface_hub`` asks of a hub, and faults on demand."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_test"


@dataclass
class Repository:
    """A model that the hub has.

    Attributes:
        files: their contents by name; all but JSON and texts are kept as large ones, with a SHA-256.
        private: is there for those with :data:`TOKEN` alone.
        gated: shows what it has, and gives it to nobody.
        stated: hashes that the hub states instead of the true ones.
        breaks: after how many bytes a download of a file breaks off, once; or each time, if it is in ``broken``.
        revision: another name than ``main`` of the commit.
        seen: what was asked for: method, file, and the first byte.
    """

    files: Mapping[str, bytes]
    private: bool = False
    gated: bool = False
    stated: dict[str, str] = field(default_factory=dict)
    breaks: dict[str, int] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    revision: str = "v1"
    seen: list[tuple[str, str, int]] = field(default_factory=list)

    @property
    def commit(self) -> str:
        return hashlib.sha1(repr(sorted(self.files.items())).encode()).hexdigest()

    def etag(self, name: str) -> str:
        if self.is_large(name):
            return self.stated.get(name) or hashlib.sha256(self.files[name]).hexdigest()
        return hashlib.sha1(self.files[name]).hexdigest()

    @staticmethod
    def is_large(name: str) -> bool:
        return not name.endswith((".json", ".txt", ".md"))

    def described(self, name: str) -> dict[str, object]:
        size = len(self.files[name])
        large = {"lfs": {"size": size, "sha256": self.etag(name), "pointerSize": 134}} if self.is_large(name) else {}
        return {"rfilename": name, "size": size, "blobId": hashlib.sha1(self.files[name]).hexdigest(), **large}


class Hub:
    """The hub while it serves: ``with Hub({"org/name": Repository(...)}) as hub: hub.address``."""

    def __init__(self, repositories: Mapping[str, Repository]) -> None:
        self.repositories = repositories
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        steps = unquote(urlsplit(self.path).path).strip("/").split("/")
        if steps[:2] == ["api", "models"]:
            name, rest = "/".join(steps[2:4]), steps[4:]
            revision, file = (rest[1] if rest[:1] == ["revision"] else "main"), None
        elif len(steps) < 5:
            return self._refuse(404, "")
        else:
            name, revision, file = "/".join(steps[:2]), steps[3], "/".join(steps[4:])
        repository = self.hub.repositories.get(name)
        trusted = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repository is None or (repository.private and not trusted):
            self._refuse(*((404, "RepoNotFound") if trusted else (401, "")))
        elif revision not in ("main", repository.revision, repository.commit):
            self._refuse(404, "RevisionNotFound")
        elif file is None:
            siblings = [repository.described(each) for each in repository.files]
            about = {"id": name, "modelId": name, "sha": repository.commit, "siblings": siblings, "tags": []}
            self._send(200, json.dumps(about).encode(), {"Content-Type": "application/json"})
        elif repository.gated:
            self._refuse(401, "GatedRepo")
        elif file not in repository.files:
            self._refuse(404, "EntryNotFound")
        else:
            self._file(repository, file, body=body)

    def _file(self, repository: Repository, name: str, *, body: bool) -> None:
        content = repository.files[name]
        headers = {"X-Repo-Commit": repository.commit, "ETag": f'"{repository.etag(name)}"', "Accept-Ranges": "bytes"}
        if repository.is_large(name):
            headers |= {"X-Linked-Etag": f'"{repository.etag(name)}"', "X-Linked-Size": str(len(content))}
        asked = self.headers.get("Range", "")
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        repository.seen.append((self.command, name, start))
        if asked:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        end = repository.breaks.get(name, len(content)) if body else len(content)
        if body and name not in repository.broken:
            repository.breaks.pop(name, None)
        sent = content[start:end]
        self._send(206 if asked else 200, sent if body else b"", headers, length=len(content) - start)
        if body and len(sent) < len(content) - start:
            self.close_connection = True

    def _refuse(self, status: int, code: str) -> None:
        headers = {"Content-Type": "application/json", **({"X-Error-Code": code} if code else {})}
        self._send(status, b'{"error": "no"}' if self.command != "HEAD" else b"", headers)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str], length: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

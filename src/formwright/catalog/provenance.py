"""What a recorded result depends on, as one hash: it holds while that is what it was.

Hashed are the facts of the card that decide what is run, the claims, the reference's figures, and the sources that
define what is computed: the module of the system and, from module to module, what it and the claims import of the
packages in :data:`FOLLOWED`, with the parts that are named in them. How something is trained, timed or shown is not
among them, nor are comments, documentation and layout.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from formwright.catalog.cards import Card

#: Imports are followed into these packages: the ones that define what is computed.
FOLLOWED = ("nn", "models", "objectives", "compression", "data.synthetic", "catalog.claims", "catalog.experiments")
#: Fields of a card that decide what is run; others, such as its summary, are told and not tested.
TESTED_FIELDS = ("module", "family", "claims")

_ROOT = Path(str(files("formwright")))
_STRING = r"'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\""
#: Strings, so that a # in one starts no comment; documentation, which begins a line; comments.
_TOKENS = re.compile(
    rf'(?P<doc>^[ \t]*r?"""(?s:.*?)"""[ \t]*$)|(?P<keep>"""(?s:.*?)"""|{_STRING})|(?P<comment>\#[^\n]*)', re.MULTILINE
)
_IMPORT = re.compile(
    r"^[ \t]*from (formwright[\w.]*) import (\((?:[^)]*)\)|[^\n]*)|^[ \t]*import (formwright[\w.]*)", re.M
)
_NAME = re.compile(r"[\"']([a-z][a-z0-9_]*)[\"']")
_REGISTERED = re.compile(r"PARTS\.register\(\s*\"(\w+)\"|PARTS\.add\(\s*\"(\w+)\"")


@functools.cache
def fingerprint(card: Card) -> str:
    """The hash of everything that the results of a system depend on."""
    found = hashlib.sha256()
    found.update(repr([getattr(card, field) for field in TESTED_FIELDS]).encode())
    golden = _ROOT / "catalog" / "golden" / f"{card.id}.json"
    if golden.is_file():
        found.update(golden.read_bytes())
    for path in sources(card):
        found.update(f"{path}\n{_bare(path)}\n".encode())
    return found.hexdigest()[:16]


def sources(card: Card) -> list[str]:
    """The files that are hashed, relative to the package."""
    assert card.module is not None
    followed = (*FOLLOWED, card.module.split(".")[1])
    claims = f"formwright.catalog.claims.{card.id.replace('-', '_')}"
    waiting = [start for start in (_file(claims), _file(card.module)) if start is not None]
    seen: set[str] = set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        parts = [_parts()[name] for name in _NAME.findall(_bare(path)) if name in _parts()]
        # What is imported from a package is looked up by name, so all that the package gathers does not count.
        imports = () if path.endswith("__init__.py") else _imports(path)
        waiting += [other for other in (*imports, *parts) if _is_below(other, followed)]
    return sorted(seen)


def _is_below(path: str, packages: tuple[str, ...]) -> bool:
    dotted = path.removesuffix(".py").replace("/", ".")
    return any(dotted == package or dotted.startswith(f"{package}.") for package in packages)


@functools.cache
def _text(path: str) -> str:
    return (_ROOT / path).read_text(encoding="utf-8")


@functools.cache
def _bare(path: str) -> str:
    """The source without comments, documentation and empty lines."""
    text = _TOKENS.sub(lambda found: found["keep"] or "", _text(path))
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip())


def _file(module: str) -> str | None:
    path = "/".join(module.split(".")[1:])
    return next((one for one in (f"{path}.py", f"{path}/__init__.py") if (_ROOT / one).is_file()), None)


@functools.cache
def _imports(path: str) -> tuple[str, ...]:
    """The files that a file imports; a name that a package passes on stands for where it comes from."""
    return tuple({other for module, name in _imported(path) if (other := _origin(module, name)) is not None})


@functools.cache
def _imported(path: str) -> tuple[tuple[str, str], ...]:
    """Pairs of a module and the name that is imported from it."""

    def pairs() -> Iterator[tuple[str, str]]:
        for module, names, plain in _IMPORT.findall(_bare(path)):
            for name in re.findall(r"(\w+)(?: as \w+)?", names):
                yield module, name
            if plain:
                yield plain, ""

    return tuple(pairs())


@functools.cache
def _origin(module: str, name: str) -> str | None:
    inner = _file(f"{module}.{name}") if name else None
    if inner is not None:
        return inner
    path = _file(module)
    if path is not None and path.endswith("__init__.py"):
        for source, passed_on in _imported(path):
            if passed_on == name and source != module:
                return _origin(source, name)
    return path


@functools.cache
def _parts() -> dict[str, str]:
    """The files that parts are registered in, by the parts' names."""
    found = {}
    for file in sorted((_ROOT / "nn").rglob("*.py")):
        path = file.relative_to(_ROOT).as_posix()
        for names in _REGISTERED.findall(_text(path)):
            found[next(filter(None, names))] = path
    return found

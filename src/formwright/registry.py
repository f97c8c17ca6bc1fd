"""Names and what they stand for: the only way from a file to code.

A specification names parts and models; a registry turns the names into constructors. Other packages add their own
through an entry-point group, so no file ever holds an import path.
"""

from __future__ import annotations

import fnmatch
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from formwright.errors import UnknownNameError

T = TypeVar("T")

#: The entry-point group by which other packages add models.
MODEL_PLUGINS = "formwright.models"


class Registry(Generic[T]):
    """A table from names to objects of one kind (``what``, used in messages), open to plug-ins.

    With a ``package``, its modules are what registers: the module that is called like a name is imported when the name
    is asked for, and all of them when names are listed.
    """

    def __init__(self, what: str, *, group: str, package: str = "") -> None:
        self.what = what
        self._group = group
        self._package = package
        self._items: dict[str, T] = {}
        self._plugins_loaded = False

    def add(self, name: str, item: T) -> None:
        if name in self._items:
            raise ValueError(f"There is already a {self.what} named {name!r}.")
        self._items[name] = item

    def register(self, name: str) -> Callable[[T], T]:
        def decorate(item: T) -> T:
            self.add(name, item)
            return item

        return decorate

    def __getitem__(self, name: str) -> T:
        if name not in self._items:
            self._load_modules(name.replace("-", "_"))
        if name not in self._items:
            self._load_plugins()
        if name not in self._items:
            raise UnknownNameError(self.what, name, self._items)
        return self._items[name]

    def __contains__(self, name: object) -> bool:
        self._load_plugins()
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        self._load_plugins()
        return iter(sorted(self._items))

    def names(self, pattern: str = "*") -> list[str]:
        """Registered names that match a shell-style pattern, sorted."""
        return fnmatch.filter(self, pattern)

    def _load_plugins(self) -> None:
        if self._plugins_loaded:
            return
        self._plugins_loaded = True
        self._load_modules()
        for point in entry_points(group=self._group):
            self._items.setdefault(point.name, point.load())

    def _load_modules(self, only: str | None = None) -> None:
        """Import the modules of the package, or the one of a name; each registers what it holds."""
        if self._package:
            for module in pkgutil.iter_modules(importlib.import_module(self._package).__path__):
                if only in (None, module.name):
                    importlib.import_module(f"{self._package}.{module.name}")

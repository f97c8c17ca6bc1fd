"""What is changed of docstrings before pages are made of them."""

from __future__ import annotations

import re
from typing import Any

import griffe

_SESSION = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)


class Sessions(griffe.Extension):
    """Sessions of the interpreter become blocks of code; Markdown takes their prompts for quotations."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = _SESSION.sub(
                lambda match: f"```pycon\n{match[0].replace('  # doctest: +SKIP', '')}\n```", obj.docstring.value
            )

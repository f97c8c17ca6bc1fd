"""What MkDocs calls while it builds the site."""

from __future__ import annotations

import re
from typing import Any

_ROLE = re.compile(r":[a-z]+:<code>(~?)([^<]*)</code>")


def on_page_content(html: str, **_: Any) -> str:
    """Show names that docstrings mark with a role, such as ``:func:`~formwright.fit```, as code."""
    return _ROLE.sub(lambda match: f"<code>{match[2].rpartition('.')[2] if match[1] else match[2]}</code>", html)

"""The systems: what each is, and its claims as programs. It may look at everything; nothing looks at it."""

from __future__ import annotations

from formwright.catalog.claim import ClaimReport
from formwright.catalog.verification import verify

__all__ = ["ClaimReport", "verify"]

"""Errors that a user can make, as sentences.

Every message says what was given, what was expected and what to do. The command line prints the sentence and exits
with code 2; in Python they are ordinary ``ValueError``s, so nothing of ours has to be imported to catch them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in what was given: data, names, options, files or budgets."""


class UnknownNameError(UserError):
    """A name that is not registered; the message suggests the nearest ones."""

    def __init__(self, what: str, name: object, known: Iterable[str]) -> None:
        known = sorted(known)
        near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known[:12])}."
        super().__init__(f"There is no {what} named {name!r}; {hint}")


class StorageError(UserError):
    """A file could not be written: no room, no right, no folder."""


class CandidateError(UserError):
    """A candidate of a search cannot go on, and the search can; the message says why."""


class NonFiniteLossError(CandidateError):
    """The loss became infinite or not a number; the message names the step."""


class LostError(CandidateError):
    """The process of a candidate ended, or there was not enough memory for it."""

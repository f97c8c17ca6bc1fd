"""How far transcripts are from what was said."""

from __future__ import annotations

from collections.abc import Sequence

from formwright.errors import UserError


def edits(found: Sequence[Sequence[int]], wanted: Sequence[Sequence[int]]) -> int:
    """Insertions, deletions and substitutions that make the rows ``found`` those ``wanted``, in sum."""
    from torchmetrics.functional.text import edit_distance

    if len(found) != len(wanted):
        raise UserError(f"{len(found)} transcripts cannot be compared with {len(wanted)}; give one for each row.")
    if not found:
        return 0
    ours, theirs = (["".join(map(chr, row)) for row in rows] for rows in (found, wanted))
    return int(edit_distance(ours, theirs, reduction="sum"))


def character_error_rate(found: Sequence[Sequence[int]], wanted: Sequence[Sequence[int]]) -> float:
    """Edits over labels: 0 for perfect transcripts, 1 for empty ones, more where too much is said.

    Raises:
        UserError: there are no labels to be found.
    """
    labels = sum(map(len, wanted))
    if not labels:
        raise UserError("Transcripts without any label have no error rate.")
    return edits(found, wanted) / labels


def majority_transcript(transcripts: Sequence[Sequence[int]]) -> list[int]:
    """What to answer without listening: the most frequent label, as often as the median transcript is long."""
    labels = [label for row in transcripts for label in row]
    if not labels:
        return []
    lengths = sorted(map(len, transcripts))
    most = max(sorted(set(labels)), key=labels.count)
    return [most] * lengths[len(lengths) // 2]

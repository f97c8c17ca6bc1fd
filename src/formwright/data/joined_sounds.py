"""Several recordings in a row, as one that is to be transcribed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from formwright.batch import Batch
from formwright.errors import UserError


def transcription_batch(rows: Sequence[Float[Tensor, "time bands"]], transcripts: Sequence[Sequence[int]]) -> Batch:
    """Padded rows of frames and transcripts: inputs ``input`` and ``lengths``, targets ``labels`` and ``lengths``.

    Raises:
        UserError: there are not as many transcripts as rows, or no rows.
    """
    if len(rows) != len(transcripts) or not rows:
        raise UserError(f"Each row has a transcript; got {len(rows)} rows and {len(transcripts)} transcripts.")
    lengths, counts = torch.tensor([len(row) for row in rows]), torch.tensor([len(row) for row in transcripts])
    labels = torch.zeros(len(rows), max(map(len, transcripts)), dtype=torch.int64)
    for row, transcript in zip(labels, transcripts, strict=True):
        row[: len(transcript)] = torch.tensor(transcript, dtype=torch.int64)
    padded = nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    return Batch({"input": padded, "lengths": lengths}, {"labels": labels, "lengths": counts})


def joined_sounds(
    frames: Float[Tensor, "n time bands"],
    labels: Int[Tensor, " n"],
    generator: torch.Generator,
    *,
    count: int = 32,
    most: int = 4,
    cut: int = 8,
) -> Batch:
    """A batch of one to ``most`` recordings in a row, drawn from the generator.

    Args:
        frames, labels: the recordings, and what is said in each; the labels of the batch are one more, 0 being the
            blank.
        count: rows of the batch.
        most: recordings in the longest row.
        cut: most frames that are cut at either end of a recording.

    Raises:
        UserError: nothing would be joined, or nothing left of a recording.
    """
    time = frames.shape[1]
    if most < 1 or count < 1 or not len(frames) or not 0 <= 2 * cut < time:
        raise UserError(
            f"Rows of at least 1 recording are joined; got {len(frames)} recordings of {time} frames, {most} in a row, "
            f"{count} rows, and {cut} frames to cut at either end."
        )

    def drawn(below: int, *size: int) -> Tensor:
        return torch.randint(below, size, generator=generator)

    rows, transcripts = [], []
    for _ in range(count):
        chosen = drawn(len(frames), 1 + int(drawn(most, 1)))
        ends = drawn(cut + 1, len(chosen), 2).tolist()
        rows.append(torch.cat([frames[n, first : time - last] for n, (first, last) in zip(chosen, ends, strict=True)]))
        transcripts.append((labels[chosen] + 1).tolist())
    return transcription_batch(rows, transcripts)

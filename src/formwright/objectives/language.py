"""Cross entropy of each next token."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from formwright.batch import IGNORED, Batch, call
from formwright.errors import UserError
from formwright.objectives.objective import Objective, Outcome


class NextToken(Objective):
    """``-log softmax(model(ids))[t, ids[t + 1]]``, its mean over all places whose target is not ``IGNORED``.

    Inputs are ids ``(batch, time)``, targets what follows each of them, of the same shape. Counted as ``loss`` (nats).
    With ``segments`` beside the ids, no sequence is asked for the first token of the next one, and padding (a negative
    segment) for nothing.

    Args:
        label_smoothing: share of the target that is spread over the vocabulary.

    Raises:
        UserError: the model's scores do not fit the targets.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
        scores: Tensor = call(model, batch.inputs)
        if scores.shape[:-1] != batch.targets.shape:
            raise UserError(
                f"For scores of shape {tuple(scores.shape)}, targets of shape {tuple(scores.shape[:-1])} are expected; "
                f"got {tuple(batch.targets.shape)}."
            )
        targets = _within_sequences(batch)
        loss = F.cross_entropy(
            scores.flatten(0, -2),
            targets.flatten(),
            ignore_index=IGNORED,
            label_smoothing=self.label_smoothing,
        )
        count = int((targets != IGNORED).sum())
        return Outcome(loss, sums={"loss": loss.detach() * count}, counts={"loss": count})


def _within_sequences(batch: Batch) -> Tensor:
    """The targets, ``IGNORED`` where a sequence that is packed with others ends, and in padding."""
    segments = batch.inputs.get("segments") if isinstance(batch.inputs, Mapping) else None
    if segments is None:
        return batch.targets
    ends = F.pad(segments[:, 1:] != segments[:, :-1], (0, 1))
    return batch.targets.masked_fill(ends | (segments < 0), IGNORED)

"""Connectionist temporal classification: labels in a row for frames in a row, without knowing which frame is which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.batch import Batch, call
from formwright.errors import UserError
from formwright.metrics.transcription import edits
from formwright.nn.functional.best_path import best_path
from formwright.objectives.objective import Objective, Outcome


class Transcription(Objective):
    """``-log sum over all ways of saying it p(way)``, per label: CTC.

    A way says at each token a label or ``blank``; equal labels in a row count once, and blanks not at all. Inputs are
    named, ``lengths`` among them; targets are ``{"labels": (batch, longest), "lengths": (batch,)}``, what lies beyond a
    row's length being padding. Outside training the ``character_error`` of the most probable way is counted too: edits
    over labels.

    Args:
        blank: the class that stands for no label.

    Raises:
        UserError: the model does not say how many tokens a row gives, targets are not of this form, or a row has more
            labels than its tokens can say.

    Source: Connectionist Temporal Classification, ICML 2006.
    """

    def __init__(self, blank: int = 0) -> None:
        super().__init__()
        self.blank = blank

    def forward(self, model: nn.Module, batch: Batch, progress: float) -> Outcome:
        scores: Tensor = call(model, batch.inputs)
        steps = answers(model, batch.inputs, scores)
        labels, lengths = self._targets(batch.targets, scores)
        check_fits(labels, lengths, steps)
        logarithms = scores.float().log_softmax(-1).transpose(0, 1)
        losses = F.ctc_loss(logarithms, labels, steps, lengths, blank=self.blank, reduction="sum")
        count = int(lengths.sum())
        loss = losses / max(count, 1)
        sums, counts = {"loss": losses.detach()}, {"loss": count}
        if not self.training:
            found = best_path(scores.detach(), steps, blank=self.blank)
            wanted = [row[:n].tolist() for row, n in zip(labels, lengths.tolist(), strict=True)]
            sums["character_error"] = torch.tensor(float(edits(found, wanted)))
            counts["character_error"] = count
        return Outcome(loss, sums=sums, counts=counts)

    def _targets(self, targets: Any, scores: Tensor) -> tuple[Tensor, Tensor]:
        if not isinstance(targets, Mapping) or set(targets) != {"labels", "lengths"}:
            given = ", ".join(targets) if isinstance(targets, Mapping) else type(targets).__name__
            raise UserError(f"Transcripts are given as labels and lengths, by these names; got {given}.")
        labels, lengths = targets["labels"], targets["lengths"]
        if labels.ndim != 2 or lengths.shape != (len(scores),) or len(labels) != len(scores):
            raise UserError(
                f"For {len(scores)} rows, labels are (batch, longest) and lengths (batch,); got shapes "
                f"{tuple(labels.shape)} and {tuple(lengths.shape)}."
            )
        if len(lengths) and (int(lengths.min()) < 0 or int(lengths.max()) > labels.shape[1]):
            raise UserError(
                f"Transcripts have from 0 to {labels.shape[1]} labels here, and lengths from {int(lengths.min())} to "
                f"{int(lengths.max())} were given."
            )
        real = torch.arange(labels.shape[1], device=labels.device) < lengths[:, None]
        named = labels[real]
        classes = scores.shape[-1]
        if bool(((named == self.blank) | (named < 0) | (named >= classes)).any()):
            raise UserError(
                f"Labels are classes from 0 to {classes - 1} other than the blank, {self.blank}; got labels "
                f"from {int(named.min())} to {int(named.max())}."
            )
        return labels.masked_fill(~real, 0), lengths


def answers(model: nn.Module, inputs: Any, scores: Tensor) -> Int[Tensor, " batch"]:
    """How many of the tokens of each row are real in the scores ``(batch, tokens, classes)``.

    Raises:
        UserError: rows have lengths, and the model does not say what becomes of them.
    """
    lengths = inputs.get("lengths") if isinstance(inputs, Mapping) else None
    if lengths is None:
        return torch.full((len(scores),), scores.shape[1], device=scores.device)
    counted = getattr(model, "answers", None)
    if counted is None:
        raise UserError(f"{type(model).__name__} does not say how many tokens a row of some length gives.")
    return counted(lengths)


def check_fits(
    labels: Int[Tensor, "batch longest"], lengths: Int[Tensor, " batch"], steps: Int[Tensor, " batch"]
) -> None:
    """Refuse transcripts that are too long for their rows: each label takes a token, and equal neighbours one between.

    Raises:
        UserError: names the first such row.
    """
    pairs = torch.arange(1, labels.shape[1], device=labels.device) < lengths[:, None]
    repeats = ((labels[:, 1:] == labels[:, :-1]) & pairs).sum(1)
    too_long = (lengths + repeats > steps).nonzero()
    if len(too_long):
        row = int(too_long[0])
        again = f" and {int(repeats[row])} between equal ones" if int(repeats[row]) else ""
        raise UserError(
            f"Row {row} has {int(lengths[row])} labels, which take {int(lengths[row])} tokens{again}, and its input "
            f"gives {int(steps[row])}; leave it out, or let the model keep more tokens."
        )

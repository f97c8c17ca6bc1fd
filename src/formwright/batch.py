"""What one training step sees; data makes it, objectives take it."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Inputs of a model and what it should answer.

    Attributes:
        inputs: what the model takes, for images ``(batch, channels, height, width)``.
        targets: what it should answer; for classification the class of each sample ``(batch,)``, or its share of each
            class ``(batch, classes)``.
    """

    inputs: Tensor
    targets: Tensor

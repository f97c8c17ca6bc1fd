"""The tables of tokens of small models, started from that of a larger one with the same tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from formwright.models.pretrained import Pretrained
from formwright.nn.embeddings import TokenEmbedding


def start_tables(model: nn.Module, weights: Sequence[Pretrained]) -> None:
    """Let every table of tokens start as the first checkpoint's with as many rows, by its main directions.

    The values have the deviation that those of the table had; without such a checkpoint, or where a table is wider than
    the checkpoint's, it stays as it is.
    """
    for module in model.modules():
        table = module.weight if isinstance(module, TokenEmbedding) else None
        source = next((one for one in weights if table is not None and _rows(one) == len(table)), None)
        if table is None or source is None:
            continue
        whole = torch.from_numpy(source.token_table)
        if table.shape[1] <= whole.shape[1]:
            narrow = main_directions(whole, table.shape[1])
            table.data.copy_(narrow / narrow.std() * table.data.std())


def main_directions(table: Float[Tensor, "rows wide"], dim: int) -> Float[Tensor, "rows dim"]:
    """The rows less their mean, in the ``dim`` directions in which they differ most."""
    centred = table - table.mean(0)
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    return centred @ vectors.flip(1)[:, :dim]


def _rows(weights: Pretrained) -> int | None:
    return getattr(weights.specification.input, "vocabulary", None)

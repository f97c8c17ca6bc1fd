"""Dense layers as the nearest product of two thin ones."""

from __future__ import annotations

import copy
from fnmatch import fnmatchcase

from torch import nn

from formwright.errors import UserError
from formwright.models import Network
from formwright.nn.edits import factorise_layer


def check_share(keep: float) -> None:
    """Refuse a share of a layer's weights that no product of two thin layers has.

    Raises:
        UserError: it is not above 0 and below 1.
    """
    if not 0 < keep < 1:
        raise UserError(f"A factorised layer keeps a share of its weights above 0 and below 1, got {keep}.")


def factorise(model: Network, *, keep: float = 0.5, layers: str = "*") -> tuple[Network, dict[str, int]]:
    """A copy of ``model`` whose dense layers are products ``U V`` of a rank that leaves ``keep`` of their weights.

    ``rank = floor(keep * in * out / (in + out))``; a layer whose rank would be below one stays as it is.

    Args:
        model: left as it is.
        keep: share of the weights of each layer, above 0 and below 1.
        layers: pattern of the names of the layers (``*`` and ``?`` as in file names).

    Returns:
        The smaller model, which saves and reloads as it is, and the rank of each layer.

    Raises:
        UserError: ``keep`` is out of range, or no layer can be factorised.
    """
    check_share(keep)
    smaller = copy.deepcopy(model)
    ranks: dict[str, int] = {}
    edits = []
    for name, module in list(smaller.named_modules()):
        if type(module) is nn.Linear and fnmatchcase(name, layers):
            rank = int(keep * module.weight.numel() / (module.in_features + module.out_features))
            if rank >= 1:
                edits.append(factorise_layer(smaller, name, rank))
                ranks[name] = rank
    if not ranks:
        raise UserError(f"No dense layer named {layers!r} can be a product of thinner ones that keeps {keep} of it.")
    smaller.record_edits(edits)
    return smaller, ranks

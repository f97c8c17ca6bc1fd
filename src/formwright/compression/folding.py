"""Norms, branches and scales folded into the layers beside them."""

from __future__ import annotations

import copy

from formwright.models import Network
from formwright.nn.edits import apply_edits
from formwright.nn.specification import EditSpec


def fold(model: Network) -> Network:
    """A copy of ``model`` whose batch norms have become part of their convolutions and dense layers, in eval mode.

    So have the weights of layer norms and LayerScale, where a dense layer follows or goes before.

    It gives the outputs that ``model`` gives in eval mode, with fewer operations, and saves and reloads as it is. It
    can be trained on, but without the norms that made training easy: prune and fine-tune first, fold last.
    """
    folded = copy.deepcopy(model).eval()
    edit = EditSpec("fold")
    apply_edits(folded, [edit])
    if folded.state_dict().keys() != model.state_dict().keys():
        folded.record_edits([edit])
    return folded

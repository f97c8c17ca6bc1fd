"""Cheaper norms in a model that computes the same."""

from __future__ import annotations

import copy

from formwright.models import Network
from formwright.nn.edits import apply_edits
from formwright.nn.specification import EditSpec


def replace_layer_norms(model: Network, by: str = "rms_norm") -> Network:
    """A copy of ``model`` with RMS norms in place of its layer norms, which gives what ``model`` gives.

    For models with layer norms before their branches and before their head (ViT, GPT-2). What is added to the stream
    is brought to mean zero in the weights that write it; weights of norms and LayerScale are taken into the layers
    beside them; scores that share the embedding's weight get one of their own. It saves and reloads as it is. Training
    goes on from here as that of any other model: the stream no longer stays at mean zero by itself.

    Args:
        model: left as it is.
        by: ``rms_norm``, or ``crms_norm``, which also leaves out the last channel of the stream: a token of ``dim``
            channels has ``dim - 1``.

    Raises:
        UserError: a part of the model is not linear where it reads or writes the stream, norms come after the branches,
            or there are layers between stages.

    Source: Pre-RMSNorm and Pre-CRMSNorm Transformers, arXiv 2305.14858.
    """
    converted = copy.deepcopy(model)
    edit = EditSpec("replace_norms", options={"by": by})
    apply_edits(converted, [edit])
    converted.record_edits([edit])
    return converted

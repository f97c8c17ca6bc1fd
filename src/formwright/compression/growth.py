"""Larger models from trained ones: parameter tokens are appended and what was learned stays."""

from __future__ import annotations

import copy
import math
from typing import Literal

import torch
from torch import nn

from formwright.errors import UserError
from formwright.models import Network
from formwright.nn.channel_mixers.pattention import Pattention
from formwright.nn.edits import extend_entries

Growth = Literal["exact", "zero_keys", "random_keys"]


def check_factor(factor: float) -> None:
    """Refuse a factor by which nothing grows.

    Raises:
        UserError: it is not above 1.
    """
    if not factor > 1:
        raise UserError(f"Growing multiplies the parameter tokens by more than 1, got {factor}; to shrink, prune.")


@torch.no_grad()
def grow(model: Network, factor: float = 2.0, *, form: Growth = "exact") -> Network:
    """A copy of ``model`` with ``factor`` times as many parameter tokens in every layer of them, to be trained on.

    New values are random, as a layer starts with.

    Args:
        model: has layers of :class:`~formwright.nn.channel_mixers.pattention.Pattention`; it is left as it is.
        factor: new number of parameter tokens over the present one, more than 1.
        form: ``exact``: new keys are zero and each layer keeps its scale, so that the copy gives what the model gives.
            ``zero_keys``, as the paper says it: new keys are zero, and the scale follows the number of tokens, by which
            every layer's activations are ``sqrt(factor)`` times what they were. ``random_keys``, as the authors'
            released code does it: keys start at random too.

    Raises:
        UserError: the model has no such layers, nothing would be added, or their softmax does not let new tokens be
            without effect.

    Source: TokenFormer, arXiv 2410.23168.
    """
    check_factor(factor)
    grown = copy.deepcopy(model)
    layers = [(name, layer) for name, layer in grown.named_modules() if isinstance(layer, Pattention)]
    if not layers:
        raise UserError("This model has no layers of parameter tokens to append to; a tokenformer has.")
    edits = []
    for name, layer in layers:
        if form == "exact" and not layer.ignores_new_tokens:
            raise UserError(
                f"The softmax of {name} counts new parameter tokens, so none can be appended without effect; use "
                "form='zero_keys', or a model with l2_norm_gelu."
            )
        before = layer.tokens
        edits.append(extend_entries(grown, name, "tokens", max(1, round((factor - 1) * before))))
        nn.init.normal_(layer.values[before:], std=layer.value_std)
        if form == "random_keys":
            nn.init.normal_(layer.keys[before:], std=layer.std)
        if form != "exact":
            layer.scale.fill_(math.sqrt(layer.tokens))
    grown.record_edits(edits)
    return grown

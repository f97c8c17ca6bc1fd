"""What of a series a classifier's answer rests on."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from formwright.errors import UserError
from formwright.models import Chain
from formwright.nn.heads import Classifier, MeanPool
from formwright.nn.taps import read_taps
from formwright.nn.token_mixers.attention import Attention


@torch.inference_mode()
def class_activation(model: Chain, x: Tensor) -> Float[Tensor, "batch classes *grid"]:
    """How much every place speaks for every class: ``w_c · h_t + b_c``, whose mean over the places is the logit.

    Args:
        model: a classifier whose head is the mean over all tokens and one linear layer.
        x: what the model takes.

    Raises:
        UserError: the model has another head, so that its scores are no sum over places.

    Source: Learning Deep Features for Discriminative Localization, arXiv 1512.04150.
    """
    head = model.head
    if not isinstance(head, Classifier) or not isinstance(head.pool, MeanPool) or head.pooled_norm is not None:
        raise UserError(
            f"The scores of {model.specification.name} are no mean over places: class activations need a head that is "
            "the mean of all tokens and one linear layer, such as t2's."
        )
    training = model.training
    model.eval()
    model.check_input(x)
    tokens, context = model.backbone(x)
    model.train(training)
    if head.norm is not None:
        tokens = head.norm(tokens, context)
    return head.linear(tokens).movedim(-1, 1)


@torch.inference_mode()
def attention_maps(model: Chain, x: Tensor) -> list[Float[Tensor, "batch heads tokens tokens"]]:
    """Which token looks at which, in every softmax attention over all tokens of the model, in order.

    A row is the token that looks; its entries are positive, and one in sum.

    Raises:
        UserError: the model has no such attention.
    """
    points = [
        f"{path}:weights"
        for path, module in model.named_modules()
        if isinstance(module, Attention) and module.window is None
    ]
    if not points:
        raise UserError(f"{model.specification.name} has no softmax attention over all tokens to show.")
    training = model.training
    model.eval()
    with read_taps(model, points) as values:
        model(x)
    model.train(training)
    return [values[point] for point in points]

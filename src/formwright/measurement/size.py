"""The size of a model's file, estimated before anything is exported."""

from __future__ import annotations

import itertools
from typing import Literal

import torch
from torch import nn

from formwright.nn.embeddings import TokenEmbedding
from formwright.nn.layers import Quantised, Quantiser

Precision = Literal["float32", "int8"]

LAYER_BYTES = 300  # nodes of a layer with their names, attributes and shapes, or with what quantises their inputs
SCALE_BYTES = 5  # float32 scale and int8 zero point of a channel's weights
INTEGER_BIAS_BYTES = 12  # int32 value, float32 scale and int32 zero point of a channel's bias

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_QUANTISED = (nn.Linear, *_CONVOLUTIONS)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all parameters and saved buffers as they are held, shared ones once."""
    tensors = {id(tensor): tensor for tensor in itertools.chain(model.parameters(), model.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def model_bytes(model: nn.Module, precision: Precision = "float32") -> int:
    """Bytes of the ONNX file that ``model`` would become, estimated from its modules (within 10 % or 2 kB).

    ``float32``: 4 a parameter. ``int8``: 1 for each weight of a linear or convolution layer, a scale for each of its
    output channels, an integer bias for convolutions, 1 for each value of the tables of tokens; the rest stays float32.
    A batch norm becomes a bias, for it is folded into the convolution before it. Every layer adds what its nodes take.
    Quantised weights of 8 and 4 bits count by their bits in either precision.
    """
    integer = precision == "int8"
    bias_bytes = INTEGER_BIAS_BYTES if integer else 4
    total, seen = 0, set[int]()
    for module in model.modules():
        if isinstance(module, _BATCH_NORMS):
            total += bias_bytes * module.num_features
            continue
        if isinstance(module, Quantiser):
            total += 4 * module.scale.numel() + LAYER_BYTES + (0 if module.zero is None else module.zero.numel())
            continue
        if isinstance(module, Quantised) and module.deployed_form != "simulated":
            seen.add(id(module.weight))
            total += module.weight.numel() * module.weight_quantiser.bits // 8
        for parameter in module.parameters(recurse=False):
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            if integer and isinstance(module, TokenEmbedding) and parameter.ndim > 1:
                total += parameter.numel()
            elif integer and isinstance(module, _QUANTISED) and parameter.ndim > 1:
                total += parameter.numel() + SCALE_BYTES * parameter.shape[0]
            elif isinstance(module, _CONVOLUTIONS) and parameter.ndim == 1:
                total += bias_bytes * parameter.numel()
            else:
                total += 4 * parameter.numel()
        total += 4 * sum(buffer.numel() for buffer in module.buffers(recurse=False) if buffer.dtype == torch.float32)
        total += LAYER_BYTES * (not any(module.children()))
    return total

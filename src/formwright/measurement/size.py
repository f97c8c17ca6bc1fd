"""The size of a model's file, estimated before anything is exported."""

from __future__ import annotations

import itertools
from typing import Literal

import torch
from torch import nn

Precision = Literal["float32", "int8"]

NODE_BYTES = 250  # an ONNX node with its names, attributes and value shapes
QUANTISED_NODE_BYTES = 900  # with the quantise and dequantise nodes around it and their scales

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_QUANTISED = (nn.Linear, *_CONVOLUTIONS, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all parameters and saved buffers as they are held, shared ones once."""
    tensors = {id(tensor): tensor for tensor in itertools.chain(model.parameters(), model.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def model_bytes(model: nn.Module, precision: Precision = "float32") -> int:
    """Bytes of the ONNX file that ``model`` would become, estimated from its modules (within some 10 %).

    ``float32``: 4 a parameter. ``int8``: 1 for each weight of a linear or convolution layer, 5 for each of its output
    channels (scale, zero point) and 4 for each bias; the rest stays float32. A batch norm counts one bias a channel,
    for it is folded into the convolution before it; every layer adds what its nodes take.
    """
    total, seen = 0, set[int]()
    for module in model.modules():
        own = [p for p in module.parameters(recurse=False) if id(p) not in seen]
        seen.update(map(id, own))
        if isinstance(module, _BATCH_NORMS):
            total += 4 * module.num_features
            continue
        quantised = precision == "int8" and isinstance(module, _QUANTISED)
        for parameter in own:
            if quantised and parameter.ndim > 1:
                total += parameter.numel() + 5 * parameter.shape[0]
            else:
                total += 4 * parameter.numel()
        total += 4 * sum(buffer.numel() for buffer in module.buffers(recurse=False) if buffer.dtype == torch.float32)
        if not any(module.children()):
            total += QUANTISED_NODE_BYTES if quantised else NODE_BYTES
    return total

"""Quantised layers as ONNX holds them: integers behind DequantizeLinear, activations between it and QuantizeLinear.

Weights of 8 and 4 bits are stored as such integers, those of 4 bits two to a byte. Other bits have no form of their own
in ONNX Runtime: their weights are stored as the floats that simulate them.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from onnxscript import ir
from torch import Tensor, nn

from formwright.errors import UserError
from formwright.nn.functional.quantisation import LEAST_SCALE, to_integers
from formwright.nn.layers import Layer, Quantised, Quantiser
from formwright.nn.parts import Part

OPSET = 21  # the first with integers of 4 bits, and with scales of groups
_DEPLOYED_BITS = (8, 4)
#: PyTorch keeps integers of 4 bits in a byte each, until :func:`pack`; signed ones are symmetric.
_STORED = {True: torch.int8, False: torch.uint8}
_PACKED = {ir.DataType.INT8: ir.DataType.INT4, ir.DataType.UINT8: ir.DataType.UINT4}
_BITS = "formwright.bits"


def is_quantised(model: nn.Module) -> bool:
    """Whether something in ``model`` is rounded to integers."""
    return any(isinstance(module, Quantiser) for module in model.modules())


def rounds_activations(model: nn.Module) -> bool:
    """Whether not only weights are rounded, but also values that depend on the input."""
    weights = {id(module.weight_quantiser) for module in model.modules() if isinstance(module, Quantised)}
    return any(isinstance(module, Quantiser) and id(module) not in weights for module in model.modules())


def exportable(model: nn.Module) -> nn.Module:
    """A copy of ``model`` for the exporter alone, which writes integers where the original simulates them."""
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        for name, quantiser in module._modules.items():
            activations = not isinstance(module, Quantised) or name == "input_quantiser"
            if activations and isinstance(quantiser, Quantiser) and _has_form(quantiser):
                deployed = _IntegerActivations(quantiser)
                module._modules[name] = deployed
                if isinstance(module, Part) and module.listeners is not None:
                    for listeners in module.listeners.values():
                        listeners[:] = [deployed if one is quantiser else one for one in listeners]
    for path, module in list(model.named_modules()):
        if isinstance(module, Quantised) and module.deployed_form != "simulated":
            model.set_submodule(path, _IntegerLayer(module))
    return model


def _has_form(quantiser: Quantiser) -> bool:
    """Whether there are integers for such values: ONNX Runtime's products take no scales of input channels."""
    return quantiser.bits in _DEPLOYED_BITS and not quantiser.scale.ndim


def pack(model: ir.Model) -> None:
    """Store the integers of 4 bits two to a byte."""
    graph = model.graph
    for node in graph.all_nodes():
        if node.metadata_props.get(_BITS) != "4":
            continue
        for index, value in enumerate(node.inputs):
            tensor = None if value is None else value.const_value
            if value is None or tensor is None or tensor.dtype not in _PACKED:
                continue
            kind, name = _PACKED[tensor.dtype], f"{value.name}.packed"
            if name not in graph.initializers:
                packed = ir.Tensor(tensor.numpy().astype(kind.numpy()), dtype=kind, name=name)
                initializer = ir.Value(name=name, type=ir.TensorType(kind), shape=packed.shape, const_value=packed)
                graph.register_initializer(initializer)
            node.replace_input_with(index, graph.initializers[name])
        for value in node.outputs:
            if value.dtype in _PACKED:
                value.dtype = _PACKED[value.dtype]
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]


def _symbolic(operator: str, inputs: tuple[Tensor, ...], axes: dict[str, Any], like: Tensor, bits: int) -> Tensor:
    """A node of the exported graph, of the type of ``like`` or, where it quantises, of its zero."""
    quantises = operator == "QuantizeLinear"
    return torch.onnx.ops.symbolic(
        f"::{operator}",
        inputs,
        axes,
        dtype=inputs[2].dtype if quantises else inputs[1].dtype,
        shape=like.shape,
        version=OPSET,
        metadata_props={_BITS: str(bits)},
    )


class _IntegerActivations(nn.Module):
    """QuantizeLinear and DequantizeLinear, one after the other."""

    scale: Tensor
    zero: Tensor

    def __init__(self, quantiser: Quantiser) -> None:
        super().__init__()
        self.bits = quantiser.bits
        self.register_buffer("scale", quantiser.scale.detach().clamp(min=LEAST_SCALE))
        zero = torch.zeros_like(self.scale) if quantiser.zero is None else quantiser.zero
        self.register_buffer("zero", zero.to(_STORED[quantiser.symmetric]))

    def forward(self, x: Tensor, axis: int = 0) -> Tensor:
        axes = {"axis": axis % x.ndim}
        integers = _symbolic("QuantizeLinear", (x, self.scale, self.zero), axes, x, self.bits)
        return _symbolic("DequantizeLinear", (integers, self.scale, self.zero), axes, x, self.bits)


class _IntegerLayer(Layer):
    """A layer whose weight is integers, a scale and a zero behind DequantizeLinear.

    The matrix of a dense layer is stored as ``(in, out)``, which a product takes as it is; the kernel of a convolution
    whose input channels have groups as ``(out, in * places)``, so that a group is a run.
    """

    integers: Tensor
    scale: Tensor
    zero: Tensor | None

    def __init__(self, layer: Quantised) -> None:
        super().__init__(layer.plain())
        quantiser, weight = layer.weight_quantiser, layer.weight.detach()
        self.bits, self.shape = quantiser.bits, weight.shape
        self.input_axis, self.input_quantiser, self.bias = layer.input_axis, layer.input_quantiser, layer.bias
        scale, zero = quantiser.scale.detach().clamp(min=LEAST_SCALE), quantiser.zero
        spread = quantiser.spread(scale, weight, 0), None if zero is None else quantiser.spread(zero, weight, 0)
        integers = to_integers(weight, *spread, quantiser.least, quantiser.most)
        dense = layer.form.dense
        self.axes: dict[str, int] = {}
        if quantiser.groups is not None:
            self.axes = {"axis": 0 if dense else 1, "block_size": layer.group * weight[0, 0].numel()}
            integers = integers.flatten(1)
        elif scale.ndim:
            self.axes = {"axis": 1 if dense else 0}

        def store(name: str, values: Tensor | None, dtype: torch.dtype) -> None:
            if values is not None:
                values = (values.t() if dense and values.ndim == 2 else values).to(dtype).contiguous()
            self.register_buffer(name, values)

        store("integers", integers, _STORED[quantiser.symmetric])
        store("scale", scale, scale.dtype)
        store("zero", zero, _STORED[quantiser.symmetric])

    def _size(self, dimension: int) -> int:
        return self.shape[dimension]

    def _floats(self) -> Tensor:
        inputs = (self.integers, self.scale) if self.zero is None else (self.integers, self.scale, self.zero)
        return _symbolic("DequantizeLinear", inputs, self.axes, self.integers, self.bits)

    def effective_weight(self) -> Tensor:
        weight = self._floats()
        return weight.t() if self.form.dense else weight.view(self.shape)

    def effective_bias(self) -> Tensor | None:
        return self.bias

    def locate(self, name: str, dimension: int) -> tuple[tuple[str, int], ...]:
        raise UserError("A copy for the exporter is not cut; cut the model, and export that.")

    def forward(self, x: Tensor) -> Tensor:
        if self.input_quantiser is not None:
            x = self.input_quantiser(x, self.input_axis)
        if not self.form.dense:
            return self.form(x, self.effective_weight(), self.bias)
        y = x @ self._floats()
        return y if self.bias is None else y + self.bias

"""Multiply-accumulates of a model: half of what PyTorch's FLOP counter counts, with the operators that it misses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

Shape = tuple[int, ...]


def _attention(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    # A mask or a causal flag saves nothing here: the dense count is what papers give, and a masked score costs the
    # same multiplication on most machines. Grouped keys and values serve each of the queries' heads.
    *batch_and_heads, queries, dim = query
    return 2 * math.prod(batch_and_heads) * queries * key[-2] * (dim + value[-1])


def _matrix_vector(matrix: Shape, vector: Shape, *_: Any, **__: Any) -> int:
    return 2 * math.prod(matrix)


def _add_matrix_vector(bias: Shape, matrix: Shape, vector: Shape, *_: Any, **__: Any) -> int:
    return 2 * math.prod(matrix)


def _dot(left: Shape, right: Shape, *_: Any, **__: Any) -> int:
    return 2 * math.prod(left)


def _add_batched_matrix(bias: Shape, left: Shape, right: Shape, *_: Any, **__: Any) -> int:
    return 2 * math.prod(left) * right[-1]


def _complex_fft(x: Shape, dims: list[int], *_: Any, **__: Any) -> int:
    """5 N log₂ N real operations for N complex points: the radix-2 figure that the field reports."""
    points = math.prod(x[dim] for dim in dims)
    return round(5 * math.prod(x) * math.log2(points)) if points > 1 else 0


def _real_fft(x: Shape, dims: list[int], *_: Any, **__: Any) -> int:
    return _complex_fft(x, dims) // 2


def _real_inverse_fft(x: Shape, dims: list[int], *_: Any, out_shape: Shape, **__: Any) -> int:
    return _complex_fft(out_shape, dims) // 2


def _weighted_rows(table: Shape, indices: Shape, *arguments: Any, **__: Any) -> int:
    """Sums of table rows cost a multiplication each where rows have weights, and additions alone where not."""
    weighted = len(arguments) > 4 and arguments[4] is not None
    return 2 * math.prod(indices) * table[-1] if weighted else 0


def _formulas() -> dict[Any, Callable[..., int]]:
    aten = torch.ops.aten
    return {
        # The CPU kernel; other backends' kernels are known to PyTorch, and its plain form is two counted products.
        aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        aten._scaled_dot_product_fused_attention_overrideable: _attention,
        aten.mv: _matrix_vector,
        aten.addmv: _add_matrix_vector,
        aten.dot: _dot,
        aten.vdot: _dot,
        aten.addbmm: _add_batched_matrix,
        aten._embedding_bag: _weighted_rows,
        aten._embedding_bag_forward_only: _weighted_rows,
        aten._fft_c2c: _complex_fft,
        aten._fft_r2c: _real_fft,
        aten._fft_c2r: _real_inverse_fft,
    }


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; every module's own flag is put back afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def count_macs(model: nn.Module, *inputs: Any) -> int:
    """Multiply-accumulates of ``model(*inputs)`` in evaluation mode, for all of ``inputs``' batch.

    A single mapping gives the inputs by name.

    Matrix products, convolutions, attention (two products of queries, keys and values, masked or not) and Fourier
    transforms (5 N log₂ N real operations, halved) count; element-wise operations do not. The model is left as it was;
    model and inputs may be on the meta device, where nothing is computed.
    """
    counter = FlopCounterMode(display=False, custom_mapping=_formulas())
    fast_path = torch.backends.mha.get_fastpath_enabled()
    # The fast path of nn.TransformerEncoderLayer is one opaque operator that would count as nothing.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        # no_grad, not inference_mode: there the counter sees whole composite operators and loses attention.
        with evaluation_mode(model), torch.no_grad(), counter:
            model(**inputs[0]) if len(inputs) == 1 and isinstance(inputs[0], Mapping) else model(*inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return counter.get_total_flops() // 2

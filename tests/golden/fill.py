"""The fixed rule that fills a reference model's weights, so that only figures need to be kept.

A reference model is run once, elsewhere, with weights from :func:`fill`; its parameter names, shapes and a few of its
outputs are stored in ``tests/golden/ID.json``. The tests fill the same tensors from the same names, load them into our
model through its checkpoint converter, and compare outputs. Nothing of the reference's code is needed or kept.

The values depend on a tensor's name and shape alone. ``numpy.random.RandomState`` is used because its streams are
frozen across versions of NumPy. The scales keep activations of order one through deep networks, and nothing is left at
an initialisation (norm weights of one, LayerScale of 1e-6, zero biases) that would hide a difference.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

SAMPLES = 64


def fill(name: str, shape: Sequence[int]) -> np.ndarray:
    """Values (float64) of the tensor ``name`` of ``shape`` in the reference's own layout."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    shape = tuple(shape)
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "running_var":
        return random.uniform(0.5, 1.5, shape)
    if leaf == "running_mean":
        return 0.1 * random.standard_normal(shape)
    if "pos" in leaf or "token" in leaf:  # position tables, class tokens
        return 0.2 * random.standard_normal(shape)
    if "bias" in leaf:  # vectors, and tables of attention biases
        return (0.1 if len(shape) < 2 else 0.5) * random.standard_normal(shape)
    if sum(size > 1 for size in shape) < 2:  # norm weights, LayerScale, ResScale, activation scales
        return random.uniform(0.5, 1.5, shape)
    fan_in = int(np.prod(shape[1:]))
    return random.standard_normal(shape) / np.sqrt(fan_in)


def fill_state(shapes: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    return {name: fill(name, shape) for name, shape in shapes.items()}


def images(shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """The input: standard normal values, ``(batch, channels, height, width)``, float64."""
    return np.random.RandomState(seed).standard_normal(tuple(shape))


def sample(output: np.ndarray) -> list[float]:
    """64 values at evenly spaced places of the flattened output."""
    flat = np.asarray(output, dtype=np.float64).reshape(-1)
    return [float(value) for value in flat[np.linspace(0, flat.size - 1, SAMPLES).astype(int)]]

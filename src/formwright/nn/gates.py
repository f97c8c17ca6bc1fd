"""What joins a residual branch to its input where a sum is not stable enough: the gates of GTrXL.

``x`` is the input of the branch and ``y`` its output. Each gate has a bias that lets it start near ``x``, the identity.
All matrices are square and without biases.

Source: Stabilizing Transformers for Reinforcement Learning, arXiv 1910.06764.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from formwright.nn.parts import Axis, Part, Promises
from formwright.nn.specification import PartSpec
from formwright.registry import Registry

GATES: Registry[type[Gate]] = Registry("gate", group="formwright.gates")


class Gate(Part):
    """Joins ``x`` and ``y``, both ``(..., dim)``, to the same shape.

    Args:
        dim: channels.
        bias: initial value of the bias, one value per channel; larger keeps more of ``x``.
    """

    promises: ClassVar[Promises] = Promises(per_token=True, causal=True)
    matrices: ClassVar[tuple[str, ...]]
    has_bias: ClassVar[bool] = True
    w: nn.Linear
    u: nn.Linear
    w_r: nn.Linear
    u_r: nn.Linear
    w_z: nn.Linear
    u_z: nn.Linear
    w_g: nn.Linear
    u_g: nn.Linear

    def __init__(self, dim: int, *, bias: float = 2.0) -> None:
        super().__init__()
        for name in self.matrices:
            self.add_module(name, nn.Linear(dim, dim, bias=False))
        self.bias = nn.Parameter(torch.full((dim,), bias)) if self.has_bias else None

    def init_weights(self) -> None:
        """Outputs of the size of inputs: with smaller matrices nothing would pass the tanh of what is gated."""
        for name in self.matrices:
            nn.init.xavier_uniform_(getattr(self, name).weight)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        square = {f"{name}.weight": (Axis("residual"), Axis("residual")) for name in self.matrices}
        return {**square, "bias": (Axis("residual"),)}

    def forward(self, x: Float[Tensor, "*batch dim"], y: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        raise TypeError(f"{type(self).__name__} does not say how it joins two tensors.")


def build_gate(spec: PartSpec, dim: int) -> Gate:
    """Construct a gate from its name and options."""
    return GATES[spec.name](dim, **spec.options)


@GATES.register("input_gate")
class InputGate(Gate):
    """``sigmoid(W x) * x + y``."""

    matrices = ("w",)
    has_bias = False

    def __init__(self, dim: int) -> None:
        super().__init__(dim)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.sigmoid(self.w(x)) * x + y


@GATES.register("output_gate")
class OutputGate(Gate):
    """``x + sigmoid(W x - bias) * y``."""

    matrices = ("w",)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + torch.sigmoid(self.w(x) - self.bias) * y


@GATES.register("highway_gate")
class HighwayGate(Gate):
    """``s * x + (1 - s) * y`` with ``s = sigmoid(W x + bias)``."""

    matrices = ("w",)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.lerp(y, x, torch.sigmoid(self.w(x) + self.bias))


@GATES.register("sigmoid_tanh_gate")
class SigmoidTanhGate(Gate):
    """``x + sigmoid(W y - bias) * tanh(U y)``."""

    matrices = ("w", "u")

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + torch.sigmoid(self.w(y) - self.bias) * torch.tanh(self.u(y))


@GATES.register("gru_gate")
class GRUGate(Gate):
    """``(1 - z) * x + z * h``: the gated recurrent unit, the best gate of the paper.

    ``r = sigmoid(Wr y + Ur x)``, ``z = sigmoid(Wz y + Uz x - bias)``, ``h = tanh(Wg y + Ug (r * x))``.
    """

    matrices = ("w_r", "u_r", "w_z", "u_z", "w_g", "u_g")

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        r = torch.sigmoid(self.w_r(y) + self.u_r(x))
        z = torch.sigmoid(self.w_z(y) + self.u_z(x) - self.bias)
        return torch.lerp(x, torch.tanh(self.w_g(y) + self.u_g(r * x)), z)

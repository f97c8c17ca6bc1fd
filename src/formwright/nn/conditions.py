"""From what generation is told, a time or a class, to the vector that modulates the tokens."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.activations import build_activation
from formwright.nn.functional.dense import dense
from formwright.nn.parts import Axis, Part, Promises

#: Steps of the diffusion that the frequencies of :func:`time_features` were chosen for.
STEPS = 1000.0


def time_features(time: Float[Tensor, " batch"], count: int) -> Float[Tensor, "batch count"]:
    """``[cos(t w_0), ..., cos(t w_h), sin(t w_0), ..., sin(t w_h)]`` with ``w_i = 10000^(-i / h)``, ``h = count / 2``.

    Source: Denoising Diffusion Probabilistic Models, arXiv 2006.11239, in the order of GLIDE's and DiT's code.
    """
    half = count // 2
    exponent = torch.arange(half, dtype=time.dtype, device=time.device) / half
    angle = time[:, None] * torch.exp(-math.log(10000) * exponent)
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class TimeEmbedding(Part):
    """``y = W2 silu(W1 f(1000 t / end) + b1) + b2`` with ``f`` 256 features of :func:`time_features`.

    Args:
        dim: channels of the condition.
        end: the last time, which is embedded as the authors embed their step 1,000.

    Shapes: ``(batch,)`` to ``(batch, dim)`` in the type that is given. The features are computed in float32 at least,
    because half precision cannot tell the steps apart.

    Source: Scalable Diffusion Models with Transformers, arXiv 2212.09748.
    """

    promises: ClassVar[Promises] = Promises(per_token=True)
    resizable: ClassVar[dict[str, str]] = {"hidden": "hidden"}
    features: ClassVar[int] = 256

    def __init__(self, dim: int, *, end: float = STEPS) -> None:
        super().__init__()
        self.scale = STEPS / end
        self.hidden = dim
        self.fc1 = nn.Linear(self.features, dim)
        self.activation = build_activation("silu")
        self.fc2 = nn.Linear(dim, dim)

    def init_weights(self) -> None:
        for linear in (self.fc1, self.fc2):
            nn.init.normal_(linear.weight, std=0.02)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"fc1.weight": (Axis("hidden"), None), "fc2.weight": (Axis("condition"), Axis("hidden"))}

    def forward(self, time: Num[Tensor, " batch"], dtype: torch.dtype) -> Float[Tensor, "batch dim"]:
        time = time.to(torch.promote_types(dtype, torch.float32)) * self.scale
        features = time_features(time, self.features).to(dtype)
        return dense(self.fc2, dense(self.fc1, features, self.activation))


class ClassEmbedding(Part):
    """``y = table[label]``: a learned vector per class, and a last one for no class where there is such a label.

    Args:
        dim: channels of the condition.
        classes: number of classes.
        null: whether the label ``classes`` stands for no class, which guidance needs.

    Shapes: ``(batch,)`` to ``(batch, dim)``.

    Raises:
        UserError: a label is out of range.

    Source: Classifier-Free Diffusion Guidance, arXiv 2207.12598.
    """

    promises: ClassVar[Promises] = Promises(per_token=True)
    no_decay: ClassVar[tuple[str, ...]] = ("table",)

    def __init__(self, dim: int, *, classes: int, null: bool = True) -> None:
        super().__init__()
        self.classes = classes
        self.null = null
        self.table = nn.Parameter(nn.init.normal_(torch.empty(classes + null, dim), std=0.02))

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"table": (None, Axis("condition"))}

    def forward(self, label: Int[Tensor, " batch"]) -> Float[Tensor, "batch dim"]:
        try:
            return F.embedding(label, self.table)
        except IndexError:
            none = f", or {self.classes} for no class," if self.null else ""
            raise UserError(
                f"Classes are numbered from 0 to {self.classes - 1}{none} and labels from {label.min()} to "
                f"{label.max()} came."
            ) from None

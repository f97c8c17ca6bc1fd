"""From tokens to one vector, and from it to class scores."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.activations import build_activation
from formwright.nn.context import EMPTY, Context
from formwright.nn.convolution import fold_into_next
from formwright.nn.embeddings import TokenEmbedding
from formwright.nn.norms import BatchNorm
from formwright.nn.parts import PARTS, RESIDUAL, Axis, InnerAxes, Part, Promises, build_part, sharing
from formwright.nn.specification import PartSpec, part

_POOL = Promises(exemptions={"tokens": "gives one vector a sample"})


def check_tokens(x: Float[Tensor, "batch *grid channels"]) -> None:
    """Refuse to make one vector of no tokens.

    Raises:
        UserError: a side of the grid is zero.
    """
    if 0 in x.shape[1:-1]:
        grid = " x ".join(map(str, x.shape[1:-1]))
        raise UserError(f"A grid of {grid} has no tokens to make one vector of; give at least one token.")


@PARTS.register("mean_pool")
class MeanPool(Part):
    """The mean of all real tokens that have a place: ``(batch, *grid, dim)`` to ``(batch, dim)``.

    A token that stands for several merged ones counts as often.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask", "prefix", "grid", "token_size"})
    promises: ClassVar[Promises] = _POOL
    equivariant: ClassVar[bool] = True

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch channels"]:
        check_tokens(x)
        tokens = x.flatten(1, -2)[:, context.prefix :]
        counts = [fact.flatten(1).to(x.dtype) for fact in (context.mask, context.token_size) if fact is not None]
        if not counts:
            return tokens.mean(1)
        weight = (counts[0] if len(counts) == 1 else counts[0] * counts[1])[:, context.prefix :, None]
        return (tokens * weight).sum(1) / weight.sum(1).clamp(min=1)


@PARTS.register("class_token_pool")
class ClassTokenPool(Part):
    """The first prefix token: ``(batch, tokens, dim)`` to ``(batch, dim)``."""

    uses: ClassVar[frozenset[str]] = frozenset({"mask", "prefix", "grid", "token_size"})
    promises: ClassVar[Promises] = _POOL
    equivariant: ClassVar[bool] = True

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(
        self, x: Float[Tensor, "batch tokens channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch channels"]:
        assert context.prefix > 0, "no class token was put in front"
        return x[:, 0]


@PARTS.register("sequence_pool")
class SequencePool(Part):
    """Attention pooling: ``z = softmax(x w + b)ᵀ x``, the weights over all real tokens.

    Shapes: ``(batch, *grid, dim)`` to ``(batch, dim)``. Source: Escaping the Big Data Paradigm with Compact
    Transformers, arXiv 2104.05704.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask", "prefix", "grid", "token_size"})
    promises: ClassVar[Promises] = Promises(
        exemptions={**_POOL.exemptions, "gradients:score.bias": "a softmax does not see a shift of all its scores"}
    )

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, 1)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"score.weight": (None, RESIDUAL)}

    def weights(self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY) -> Tensor:
        """The share of each token, ``(batch, tokens, 1)``; positive, and one in sum."""
        scores = self.score(x.flatten(1, -2))
        if context.mask is not None:
            scores = scores.masked_fill(~context.mask.flatten(1)[..., None], -torch.inf)
        if context.token_size is not None:
            scores = scores + context.token_size[..., None].log().to(scores.dtype)
        return scores.softmax(1)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch channels"]:
        check_tokens(x)
        return (self.weights(x, context).transpose(1, 2) @ x.flatten(1, -2)).squeeze(1)


def scores_of(dim: int, classes: int, *, bias: bool = True) -> nn.Linear | nn.Identity:
    """The layer that gives the scores, ``(..., dim)`` to ``(..., classes)``; without classes, the features themselves.

    Raises:
        UserError: there are fewer than no classes.
    """
    if classes < 0:
        raise UserError(f"A model has {classes} classes; give their number, or 0 for a model that returns features.")
    return nn.Linear(dim, classes, bias=bias) if classes else nn.Identity()


@PARTS.register("classifier")
class Classifier(Part):
    """``logits = W pooled_norm(pool(norm(x))) + b``.

    Args:
        dim: channels of the tokens.
        classes: number of scores; 0 for the vector that they would be computed from.
        norm: norm of the tokens, before pooling.
        pool: how tokens become one vector.
        pooled_norm: norm of that vector.
        dropout: share of its values that are dropped in training.
        bias: whether there is a ``b``.

    Shapes: ``(batch, *grid, dim)`` to ``(batch, classes)``.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask", "prefix", "grid", "token_size"})
    promises: ClassVar[Promises] = _POOL

    def __init__(
        self,
        dim: int,
        classes: int,
        *,
        norm: PartSpec | None = None,
        pool: PartSpec = part("mean_pool"),  # noqa: B008
        pooled_norm: PartSpec | None = None,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.norm = None if norm is None else build_part(norm, dim)
        self.pool = build_part(pool, dim)
        self.pooled_norm = None if pooled_norm is None else build_part(pooled_norm, dim)
        self.dropout = nn.Dropout(dropout) if dropout else None
        self.linear = scores_of(dim, classes, bias=bias)
        if classes and pooled_norm is None and self.pool.equivariant:
            self.input_layers = ("linear",)  # type: ignore[misc]

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {} if isinstance(self.linear, nn.Identity) else {"linear.weight": (None, RESIDUAL)}

    def inner_axes(self) -> InnerAxes:
        return sharing("norm", "pool", "pooled_norm")

    def pooled(self, x: Tensor, context: Context = EMPTY) -> Tensor:
        """The vector that the scores are computed from, ``(batch, dim)``."""
        if self.norm is not None:
            x = self.norm(x, context)
        x = self.pool(x, context)
        return x if self.pooled_norm is None else self.pooled_norm(x)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch classes"]:
        pooled = self.pooled(x, context)
        return self.linear(pooled if self.dropout is None else self.dropout(pooled))

    def fold(self) -> None:
        """Take a batch norm of the pooled vector into the linear layer, in place."""
        if isinstance(self.pooled_norm, BatchNorm) and fold_into_next(self.pooled_norm.norm, self.linear):
            self.pooled_norm = None


@PARTS.register("mlp_classifier")
class MLPClassifier(Part):
    """A classifier with a hidden layer: ``W2 norm(activation(W1 z))`` with ``z = pooled_norm(pool(x))``.

    Args:
        dim: channels of the tokens.
        classes: number of scores; 0 for the vector that they would be computed from.
        ratio: hidden width over ``dim``.
        activation: name of the activation.
        pooled_norm: norm of the pooled vector.
        norm_eps: added to the variance by the norm of hidden values; 1e-6 in timm.
        dropout: share of hidden values dropped in training.

    Shapes: ``(batch, *grid, dim)`` to ``(batch, classes)``. Source: MetaFormer Baselines for Vision, arXiv 2210.13452.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask", "prefix", "grid", "token_size"})
    promises: ClassVar[Promises] = _POOL

    def __init__(
        self,
        dim: int,
        classes: int,
        *,
        ratio: float = 4.0,
        activation: str = "squared_relu",
        pooled_norm: PartSpec | None = None,
        norm_eps: float = 1e-5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        hidden = int(dim * ratio)
        self.pool = MeanPool(dim)
        self.pooled_norm = None if pooled_norm is None else build_part(pooled_norm, dim)
        self.fc1 = nn.Linear(dim, hidden)
        self.activation = build_activation(activation)
        self.norm = nn.LayerNorm(hidden, eps=norm_eps)
        self.dropout = nn.Dropout(dropout)
        self.linear = scores_of(hidden, classes)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"fc1.weight": (None, RESIDUAL)}

    def inner_axes(self) -> InnerAxes:
        return sharing("pool", "pooled_norm")

    def pooled(self, x: Tensor, context: Context = EMPTY) -> Tensor:
        """The vector that the last layer's scores are computed from, ``(batch, ratio * dim)``."""
        x = self.pool(x, context)
        if self.pooled_norm is not None:
            x = self.pooled_norm(x)
        return self.dropout(self.norm(self.activation(self.fc1(x))))

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch classes"]:
        return self.linear(self.pooled(x, context))


class DistillationHead(Part):
    """A head with a classifier of its own, ``distilled``, that follows a teacher when a network learns from one."""

    distilled: nn.Linear | nn.Identity


@PARTS.register("distilled_classifier")
class DistilledClassifier(DistillationHead):
    """Two linear classifiers, on the class token and on the distillation token; their mean in eval mode.

    In training mode the scores of the class token come back; :meth:`both` gives both, for a distillation loss.

    Shapes: ``(batch, tokens, dim)`` to ``(batch, classes)``. Source: Training Data-Efficient Image Transformers,
    arXiv 2012.12877.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask", "prefix", "grid", "token_size"})
    promises: ClassVar[Promises] = _POOL
    input_layers: ClassVar[tuple[str, ...]] = ("linear", "distilled")

    def __init__(self, dim: int, classes: int, *, norm: PartSpec | None = None) -> None:
        super().__init__()
        self.norm = None if norm is None else build_part(norm, dim)
        self.linear = scores_of(dim, classes)
        self.distilled = scores_of(dim, classes)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        names = () if isinstance(self.linear, nn.Identity) else ("linear.weight", "distilled.weight")
        return dict.fromkeys(names, (None, RESIDUAL))

    def inner_axes(self) -> InnerAxes:
        return sharing("norm")

    def both(self, x: Tensor, context: Context = EMPTY) -> tuple[Tensor, Tensor]:
        """Scores of the class token and of the distillation token, each ``(batch, classes)``."""
        assert context.prefix > 1, "no distillation token was put in front"
        if self.norm is not None:
            x = self.norm(x, context)
        return self.linear(x[:, 0]), self.distilled(x[:, 1])

    def forward(
        self, x: Float[Tensor, "batch tokens channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch classes"]:
        by_class, by_distillation = self.both(x, context)
        return by_class if self.training else (by_class + by_distillation) / 2


@PARTS.register("normed_distilled_classifier")
class NormedDistilledClassifier(DistillationHead):
    """Two classifiers ``W norm(mean(x)) + b``, batch norms of their own; their mean in eval mode.

    In training mode the scores of the first come back; ``distilled`` is the second's linear layer, for a distillation
    loss to follow.

    Shapes: ``(batch, *grid, dim)`` to ``(batch, classes)``. Source: EfficientViT, arXiv 2305.07027 (after DeiT).
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask", "prefix", "grid", "token_size"})
    promises: ClassVar[Promises] = _POOL

    pooled_norm: BatchNorm | None
    distilled_norm: BatchNorm | None

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.pool = MeanPool(dim)
        self.pooled_norm = BatchNorm(dim)
        self.linear = scores_of(dim, classes)
        self.distilled_norm = BatchNorm(dim)
        self.distilled = scores_of(dim, classes)

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        names = () if isinstance(self.linear, nn.Identity) else ("linear.weight", "distilled.weight")
        return dict.fromkeys(names, (None, RESIDUAL))

    def inner_axes(self) -> InnerAxes:
        return sharing("pool", "pooled_norm", "distilled_norm")

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch classes"]:
        pooled = self.pool(x, context)
        by_class = self.linear(pooled if self.pooled_norm is None else self.pooled_norm(pooled))
        by_distillation = self.distilled(pooled if self.distilled_norm is None else self.distilled_norm(pooled))
        return by_class if self.training else (by_class + by_distillation) / 2

    def fold(self) -> None:
        """Take both batch norms into their linear layers, in place."""
        if self.pooled_norm is not None and fold_into_next(self.pooled_norm.norm, self.linear):
            self.pooled_norm = None
        if self.distilled_norm is not None and fold_into_next(self.distilled_norm.norm, self.distilled):
            self.distilled_norm = None


@PARTS.register("token_scores")
class TokenScores(Part):
    """Scores of every token: ``W (scale * norm(x)) + b``, the head of a language model.

    Args:
        dim: channels of the tokens.
        classes: number of scores; 0 for the vector that they would be computed from.
        norm: norm of the tokens.
        bias: whether there is a ``b``.
        tied: let ``W`` be the weight of the model's token embedding; the head has none of its own then.
        scale: factor on the normed tokens.
        learned_bias: whether ``b``, if there is one, is learned; BART's checkpoints have one that is not.

    Shapes: ``(batch, *grid, dim)`` to ``(batch, *grid, classes)``.

    Source of the tied weight: Using the Output Embedding to Improve Language Models, arXiv 1608.05859.
    """

    promises: ClassVar[Promises] = Promises(
        per_token=True, causal=True, exemptions={"tokens": "gives scores, not tokens"}
    )
    input_layers: ClassVar[tuple[str, ...]] = ("linear",)

    bias: Tensor | None

    def __init__(
        self,
        dim: int,
        classes: int,
        *,
        norm: PartSpec | None = None,
        bias: bool = False,
        tied: bool = False,
        scale: float = 1.0,
        learned_bias: bool = True,
    ) -> None:
        super().__init__()
        self.norm = None if norm is None else build_part(norm, dim)
        self.tied, self.scale = tied, scale
        self.linear = None if tied else nn.Linear(dim, classes, bias=bias and learned_bias)
        if bias and not learned_bias:
            self.register_buffer("bias", torch.zeros(classes))
        else:
            self.bias = nn.Parameter(torch.zeros(classes)) if tied and bias else None

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {} if isinstance(self.linear, nn.Identity) else {"linear.weight": (None, RESIDUAL)}

    def inner_axes(self) -> InnerAxes:
        return sharing("norm")

    def tie(self, embedding: TokenEmbedding) -> None:
        """Use the weight of ``embedding`` from now on; it stays the embedding's, and is saved once."""
        self.__dict__["embedding"] = embedding

    @torch.no_grad()
    def untie(self) -> None:
        """Have a copy of the embedding's weight instead, so that one can change without the other."""
        weight = self.__dict__.pop("embedding").weight
        classes, dim = weight.shape
        self.linear = nn.Linear(dim, classes, bias=False)
        self.linear.weight = nn.Parameter(weight.detach().clone(), requires_grad=weight.requires_grad)
        if isinstance(self.bias, nn.Parameter):
            self.linear.register_parameter("bias", self.bias)
            self.bias = None
        self.tied = False

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch *grid classes"]:
        if self.norm is not None:
            x = self.norm(x, context)
        if self.scale != 1.0:
            x = x * self.scale
        if self.linear is None:
            return F.linear(x, self.__dict__["embedding"].weight, self.bias)
        scores = self.linear(x)
        return scores if self.bias is None else scores + self.bias

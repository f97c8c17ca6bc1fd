"""From ids to tokens that know their neighbours: what small classifiers of texts begin with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from formwright.errors import UserError
from formwright.nn.context import EMPTY, Context
from formwright.nn.embeddings import TokenEmbedding
from formwright.nn.heads import check_tokens
from formwright.nn.parts import PARTS, RESIDUAL, Axis, Part, Promises, State

_IDS = Promises(dimensions=(1,), exemptions={"tokens": "takes ids, not tokens"})
#: Odd multipliers of the hash of an n-gram; products stay far below 2^63.
_HASH_OLD, _HASH_NEW = 1_000_003, 7_919


@PARTS.register("ngram_embedding")
class NgramEmbedding(TokenEmbedding):
    """``y_t = table[id_t] + sum_n ngrams_n[hash(id_{t-n+1}, ..., id_t) mod buckets]``: words and their sequences.

    Args:
        in_dim: size of the vocabulary.
        dim: channels.
        ngrams: the longest sequence, from 1 (no sequences).
        buckets: rows of the table of each length; sequences with the same hash share one.
        dropout: share of channels of each token that is dropped in training.
        std: standard deviation of the initial values of words; those of sequences start at nothing.

    Shapes: ids ``(batch, time)`` to ``(batch, time, dim)``.

    Raises:
        UserError: an id is not in the vocabulary, or there is no length of n-grams.

    Source: Bag of Tricks for Efficient Text Classification, arXiv 1607.01759.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask", "segments"})
    no_decay: ClassVar[tuple[str, ...]] = ("weight", "tables")

    def __init__(
        self, in_dim: int, dim: int, *, ngrams: int = 2, buckets: int = 2**14, dropout: float = 0.0, std: float = 0.1
    ) -> None:
        super().__init__(in_dim, dim, std=std)
        if ngrams < 1 or buckets < 1:
            raise UserError(f"N-grams of at least one token and one bucket are needed, got {ngrams} and {buckets}.")
        self.buckets = buckets
        self.tables = nn.ParameterList(torch.zeros(buckets, dim) for _ in range(ngrams - 1))
        self.dropout = nn.Dropout(dropout) if dropout else None

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        tables = {f"tables.{index}": (None, Axis("residual")) for index in range(len(self.tables))}
        return {**super().axes(), **tables}

    def forward(
        self, ids: Int[Tensor, "batch time"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch time dim"], Context]:
        x, context = super().forward(ids, context)
        for table, code in zip(self.tables, self.codes(ids, context.starts), strict=True):
            x = x + F.embedding(code, table)
        return (x if self.dropout is None else self.dropout(x)), context

    def codes(
        self, ids: Int[Tensor, "batch time"], starts: Bool[Tensor, "batch time"] | None = None
    ) -> Iterator[Int[Tensor, "batch time"]]:
        """The bucket of the n-gram that ends at each place, for n = 2, 3, ...; zeros stand before the first.

        Before the first of each sequence, where several are packed.
        """
        code = ids
        for _ in self.tables:
            before = F.pad(code, (1, 0))[:, :-1]
            before = before if starts is None else before.masked_fill(starts, 0)
            code = (before * _HASH_OLD + ids * _HASH_NEW) % self.buckets
            yield code

    def init_state(
        self, batch: int, capacity: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        return {"recent": torch.zeros(batch, len(self.tables), dtype=torch.int64, device=device)}

    def stream(self, x: Tensor, state: State, context: Context = EMPTY) -> tuple[Tensor, State]:
        before = state["recent"].shape[1]
        ids = torch.cat([state["recent"], x], dim=1)
        y = super().forward(x, context)[0]
        for table, code in zip(self.tables, self.codes(ids), strict=True):
            y = y + F.embedding(code[:, before:], table)
        real = context.mask.sum(1) if context.mask is not None else torch.full_like(x[:, 0], x.shape[1])
        places = real[:, None] + torch.arange(before, device=x.device)
        return y, {"recent": ids.gather(1, places)}


def _zeroed(x: Float[Tensor, "batch time dim"], mask: Bool[Tensor, "batch time"] | None) -> Tensor:
    return x if mask is None else x * mask[..., None].to(x.dtype)


@PARTS.register("convolutional_ngrams")
class ConvolutionalNgrams(Part):
    """``y_t = concat_k relu(conv_k(table[ids])_t)``: detectors of sequences of k tokens, for several k.

    Args:
        in_dim: size of the vocabulary.
        dim: channels in all, shared evenly by the kernels.
        embedding: channels of a token before the convolutions.
        kernels: lengths of the sequences.
        dropout: share of the embedding's values that is dropped in training.

    Shapes: ids ``(batch, time)`` to ``(batch, time, dim)``; padding counts as zeros.

    Raises:
        UserError: the kernels do not divide ``dim``, or an id is not in the vocabulary.

    Source: Convolutional Neural Networks for Sentence Classification, arXiv 1408.5882.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask"})
    promises: ClassVar[Promises] = Promises(
        dimensions=(1,), exemptions={**_IDS.exemptions, "residual": "each kernel has channels of its own"}
    )

    def __init__(
        self, in_dim: int, dim: int, *, embedding: int, kernels: Sequence[int] = (3, 4, 5), dropout: float = 0.0
    ) -> None:
        super().__init__()
        if not kernels or dim % len(kernels):
            raise UserError(f"{dim} channels cannot be shared by {len(kernels)} kernels; choose a multiple.")
        self.tokens = TokenEmbedding(in_dim, embedding, std=0.1)
        self.convolutions = nn.ModuleList(nn.Conv1d(embedding, dim // len(kernels), kernel) for kernel in kernels)
        self.dropout = nn.Dropout(dropout) if dropout else None

    def check_input(self, ids: Tensor) -> None:
        self.tokens.check_input(ids)

    def init_weights(self) -> None:
        for convolution in self.convolutions:
            assert isinstance(convolution, nn.Conv1d)
            nn.init.kaiming_normal_(convolution.weight)

    def forward(
        self, ids: Int[Tensor, "batch time"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch time dim"], Context]:
        x, context = self.tokens(ids, context)
        x = _zeroed(x if self.dropout is None else self.dropout(x), context.mask).mT
        found = []
        for convolution in self.convolutions:
            assert isinstance(convolution, nn.Conv1d)
            (kernel,) = convolution.kernel_size
            found.append(convolution(F.pad(x, ((kernel - 1) // 2, kernel // 2))))
        return F.relu(torch.cat(found, dim=1)).mT, context


@PARTS.register("convolutional_text_tokenizer")
class ConvolutionalTextTokenizer(Part):
    """``x = max_pool(relu(conv(table[ids])))``, half as many tokens as ids: CCT's tokeniser for texts.

    A token is real where the id in the middle of its pooling is. (The authors push the mask through the convolution and
    the pooling, so that tokens beyond the end count, and the answer depends on how far a row is padded.)

    Args:
        in_dim: size of the vocabulary.
        dim: channels of the tokens.
        embedding: channels of an id before the convolution.
        kernel: length of the convolution, odd.
        dropout: share of the embedding's values that is dropped in training.

    Shapes: ids ``(batch, time)`` to ``(batch, (time - 1) // 2 + 1, dim)``.

    Raises:
        UserError: an even kernel, or an id that is not in the vocabulary.

    Source: Escaping the Big Data Paradigm with Compact Transformers, arXiv 2104.05704.
    """

    uses: ClassVar[frozenset[str]] = frozenset({"mask"})
    promises: ClassVar[Promises] = _IDS

    def __init__(self, in_dim: int, dim: int, *, embedding: int, kernel: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise UserError(f"The tokeniser's kernel has a middle, so it is odd; got {kernel}.")
        self.tokens = TokenEmbedding(in_dim, embedding, std=0.1)
        self.convolution = nn.Conv1d(embedding, dim, kernel, padding=kernel // 2, bias=False)
        self.dropout = nn.Dropout(dropout) if dropout else None

    def axes(self) -> dict[str, tuple[Axis | None, ...]]:
        return {"convolution.weight": (RESIDUAL, None, None)}

    def check_input(self, ids: Tensor) -> None:
        self.tokens.check_input(ids)

    def init_weights(self) -> None:
        nn.init.kaiming_normal_(self.convolution.weight)

    def output_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        return ((grid[0] - 1) // 2 + 1,)

    def forward(
        self, ids: Int[Tensor, "batch time"], context: Context = EMPTY
    ) -> tuple[Float[Tensor, "batch tokens dim"], Context]:
        x, context = self.tokens(ids, context)
        x = _zeroed(x if self.dropout is None else self.dropout(x), context.mask)
        x = _zeroed(F.relu(self.convolution(x.mT)).mT, context.mask)
        x = F.max_pool1d(x.mT, 3, 2, 1).mT
        mask = None if context.mask is None else context.mask[:, ::2]
        return x, context.replace(mask=mask)


@PARTS.register("max_pool")
class MaxPool(Part):
    """The largest value of each channel over all real tokens: ``(batch, *grid, dim)`` to ``(batch, dim)``."""

    uses: ClassVar[frozenset[str]] = frozenset({"mask", "prefix", "grid"})
    promises: ClassVar[Promises] = Promises(exemptions={"tokens": "gives one vector a sample"})

    def __init__(self, dim: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout) if dropout else None

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], context: Context = EMPTY
    ) -> Float[Tensor, "batch channels"]:
        check_tokens(x)
        x = x.flatten(1, -2)[:, context.prefix :]
        if context.mask is not None:
            x = x.masked_fill(~context.mask.flatten(1)[:, context.prefix :, None], torch.finfo(x.dtype).min)
        x = x.amax(1)
        return x if self.dropout is None else self.dropout(x)

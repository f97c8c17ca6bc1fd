"""Texts as rows of token ids, without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from formwright.data.tokenization import LibraryTokenizer, Tokenizer

#: The id that fills up short rows, the first of the vocabulary.
PADDING = 0
_PADDING_TOKEN = "[PAD]"


def train_word_pieces(texts: Sequence[str], vocabulary: int) -> LibraryTokenizer:
    """Byte-level BPE of lower-case words, for classification; at most so many tokens, and any text can be written.

    Source: Neural Machine Translation of Rare Words with Subword Units, arXiv 1508.07909, over bytes as in GPT-2.
    """
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=[_PADDING_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer, length=len(texts))
    return LibraryTokenizer(tokenizer)


@dataclass(frozen=True)
class RowMaker:
    """From texts to rows of ids.

    Attributes:
        tokenizer: what splits them.
        special: whether a text gets the tokens that the tokeniser puts around one, such as ``[CLS]`` and ``[SEP]``.
    """

    tokenizer: Tokenizer
    special: bool = False

    @property
    def padding(self) -> int:
        """The id that fills up short rows: what the tokeniser has for it, or what ends a text, or the first one."""
        tokenizer = self.tokenizer
        return next((id_ for id_ in (tokenizer.padding, tokenizer.end) if id_ is not None), PADDING)

    @cached_property
    def around(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The special tokens before and after a text."""
        if not self.special:
            return (), ()
        plain, whole = (self.tokenizer.encode("a", special=special) for special in (False, True))
        start = next((n for n in range(len(whole)) if whole[n : n + len(plain)] == plain), 0)
        return tuple(whole[:start]), tuple(whole[start + len(plain) :])

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text; a text without any has one of padding."""
        return [self.tokenizer.encode(text, special=self.special) or [self.padding] for text in texts]

    def rows(self, ids: Sequence[Sequence[int]], length: int) -> NDArray[np.int64]:
        """``(texts, length)``: long ones lose their end, but for special tokens there; short ones are filled up."""
        rows = np.full((len(ids), length), self.padding, np.int64)
        ending = self.around[1][-length:]
        for row, one in zip(rows, ids, strict=True):
            row[: min(len(one), length)] = one[:length]
            if len(one) > length and ending:
                row[-len(ending) :] = ending
        return rows

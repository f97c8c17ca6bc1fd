"""Texts as rows of token ids, without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

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


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The ids of each text; a text without any has one of padding."""
    return [tokenizer.encode(text) or [PADDING] for text in texts]


def as_rows(ids: Sequence[Sequence[int]], length: int) -> NDArray[np.int64]:
    """Rows of ``length`` ids, ``(texts, length)``: long ones lose their end, short ones are filled up."""
    rows = np.full((len(ids), length), PADDING, np.int64)
    for row, one in zip(rows, ids, strict=True):
        row[: min(len(one), length)] = one[:length]
    return rows

"""The tokeniser of checkpoints of texts, which all candidates of a run get."""

from __future__ import annotations

from collections.abc import Sequence

from formwright.data.tokenization import Tokenizer, tokenizer_of
from formwright.errors import UserError
from formwright.models.pretrained import Pretrained


def shared_tokenizer(weights: Sequence[Pretrained]) -> Tokenizer:
    """The tokeniser of several checkpoints.

    Raises:
        UserError: one has none, or another one than the first.
    """
    made = [
        tokenizer_of(one.tokenizer, one.specification.input.vocabulary, one.origin)  # type: ignore[union-attr]
        for one in weights
    ]
    for one, tokenizer in zip(weights, made, strict=True):
        if tokenizer.fingerprint != made[0].fingerprint:
            raise UserError(
                f"{one.origin} splits texts into other tokens than {weights[0].origin}, and all candidates of a run "
                "see the same: give one of them, or weights with the same tokeniser."
            )
    return made[0]

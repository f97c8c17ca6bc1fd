"""Claims of models that read one text and write another: the texts they write, and that they write in any pieces."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch

from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.reference import (
    Figures,
    reference_specification,
    reference_state,
    reference_variants,
    token_ids,
)
from formwright.inference.beam_search import beam_search
from formwright.inference.generation import generate
from formwright.models import create_model, load_checkpoint
from formwright.models.topologies.encoder_decoder import EncoderDecoder
from formwright.reporting import Reporter

LIMIT = 1e-9


def text_claims(system: str, whose: str) -> list[Claim]:
    """Equal texts with equal weights, greedily and by beam search, in float64.

    Args:
        system: the name of its reference figures.
        whose: whose code wrote the texts, as a person would say it.
    """
    return [
        Claim(
            id=f"texts:{variant}",
            kind="equality",
            statement=f"{variant} writes the texts of {whose} with the same weights, greedily and by beam search with "
            "every rule of stopping",
            published="equal",
            run=functools.partial(_compare_texts, variant, figures),
        )
        for variant, figures in reference_variants(system).items()
    ]


def written(variant: str, figures: Figures, text: Figures) -> list[list[int]]:
    """What our model writes where the reference wrote ``text``."""
    model = create_model(reference_specification(variant, figures, end=text["end"])).double().eval()
    load_checkpoint(model, reference_state(figures["layout"]))
    read = torch.from_numpy(token_ids(text["input_shape"], text["vocabulary"], text["input_seed"]))
    if text["beams"] == 1:
        steps = list(generate(model, read, tokens=text["tokens"]))
        return [[step[row] for step in steps if step[row] is not None] for row in range(len(read))]  # type: ignore[misc]
    rules = {name: text[name] for name in ("beams", "tokens", "length_penalty", "early_stopping")}
    return [texts[0].tokens for texts in beam_search(model, read, **rules)]


def _compare_texts(variant: str, figures: Figures, reporter: Reporter) -> ClaimResult:
    same = count = 0
    for index, text in enumerate(figures["texts"]):
        found = written(variant, figures, text)
        same += sum(ours == theirs for ours, theirs in zip(found, text["ids"], strict=True))
        count += len(found)
        reporter.progress((index + 1) / len(figures["texts"]), f"{variant} with {text['beams']} beams")
    return ClaimResult(f"{same} of {count} texts are equal", same == count)


def stream_claim(variant: str, options: Mapping[str, Any]) -> Claim:
    """Ids that are written in pieces get the scores of the whole."""
    return Claim(
        id="stream-equals-parallel",
        kind="equality",
        statement=f"what {variant} writes in pieces, with the memory of a padded text in its state, gets the scores of "
        f"the whole, to {LIMIT:g} of their deviation in float64",
        published="equal",
        run=functools.partial(_stream, variant, options),
    )


@torch.inference_mode()
def _stream(variant: str, options: Mapping[str, Any], reporter: Reporter) -> ClaimResult:
    torch.manual_seed(0)
    model = create_model(variant, vocabulary=1000, **options).double().eval()
    assert isinstance(model, EncoderDecoder)
    generator = torch.Generator().manual_seed(0)
    read, ids = (torch.randint(3, 1000, (2, length), generator=generator) for length in (300, 100))
    read[1, 200:] = model.specification.input.padding
    state, pieces = model.start(read, 100), []
    for piece in torch.split(ids, [40, 1, 1, 30, *[1] * 28], dim=1):
        scores, state = model.stream(piece, state)
        pieces.append(scores)
    expected = model(read, ids)
    worst = float((torch.cat(pieces, dim=1) - expected).abs().max() / expected.std())
    return ClaimResult(f"{worst:.1e}", worst <= LIMIT)

"""Claims of TokenFormer: sizes and outputs of the authors' code, and growth by parameter tokens."""

from __future__ import annotations

import dataclasses
import statistics

import torch

from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.experiments.contest import SEEDS
from formwright.catalog.experiments.texts import (
    LENGTH,
    VOCABULARY,
    conditions,
    held_out_loss,
    new_model,
    once,
    small_text,
    spread,
    train_text,
)
from formwright.catalog.figures import output_claims, parameter_claims
from formwright.compression.growth import Growth, grow
from formwright.models import Network
from formwright.models.language.tokenformer import tokenformer
from formwright.nn.specification import ChainSpec
from formwright.reporting import Reporter, Share

FORMS: tuple[Growth, ...] = ("exact", "zero_keys", "random_keys")
STEPS_BEFORE, STEPS_AFTER = 500, 250
#: Nats a byte that a growing may cost and still be without a jump.
JUMP = 0.01
EXACT = {torch.float64: 1e-9, torch.float32: 1e-5}


def _specification(tokens: int) -> ChainSpec:
    """Twice the tokens is the other size."""
    specification = tokenformer(
        dim=64, depth=2, heads=2, tokens=tokens, mlp_tokens=4 * tokens, vocabulary=VOCABULARY, length=LENGTH
    )
    return dataclasses.replace(specification, name=f"tokenformer of {tokens} tokens")


@torch.inference_mode()
def _growth_is_exact(reporter: Reporter) -> ClaimResult:
    ids = torch.randint(VOCABULARY, (4, LENGTH), generator=torch.Generator().manual_seed(0))
    model = new_model(_specification(64), 0).eval()
    for layer in model.parameters():
        layer.normal_(std=0.2)
    found, holds = [], True
    for dtype, limit in EXACT.items():
        scores = model.to(dtype)(ids)
        differences = {
            form: ((grow(model, form=form)(ids) - scores).abs().max() / scores.std()).item() for form in FORMS
        }
        holds = holds and differences["exact"] <= limit
        told = ", ".join(f"{form} {difference:.1e}" for form, difference in differences.items())
        found.append(f"{str(dtype).removeprefix('torch.')}: {told}")
    return ClaimResult("; ".join(found), holds, "largest difference over the standard deviation of the scores")


@once
def _losses(reporter: Reporter) -> dict[str, list[float]]:
    """Held-out losses before and after growing and after training on, and of the larger model trained anew."""
    text = small_text()
    losses: dict[str, list[float]] = {}

    def note(name: str, loss: float) -> None:
        losses.setdefault(name, []).append(loss)

    for index, seed in enumerate(SEEDS):
        share = Share(reporter, index, len(SEEDS))
        small = train_text(new_model(_specification(64), seed), steps=STEPS_BEFORE, seed=seed, reporter=share).model
        note("before", held_out_loss(small, text))
        for form in FORMS:
            torch.manual_seed(seed)
            grown = grow(small, form=form)
            note(f"{form}, at once", held_out_loss(grown, text))
            note(f"{form}, trained on", _train_on(grown, seed, share))
        note("trained anew", _train_on(new_model(_specification(128), seed), seed, share))
    return losses


def _train_on(model: Network, seed: int, reporter: Reporter) -> float:
    return train_text(model, steps=STEPS_AFTER, seed=seed + len(SEEDS), learning_rate=1e-3, reporter=reporter).loss


def _without_a_jump(reporter: Reporter) -> ClaimResult:
    losses = _losses(reporter)
    mean = {name: statistics.mean(values) for name, values in losses.items()}
    told = {name: losses[name] for name in ("before", *(f"{form}, at once" for form in FORMS))}
    return ClaimResult(
        spread(told), mean["exact, at once"] - mean["before"] <= JUMP, conditions(STEPS_BEFORE, len(SEEDS))
    )


def _below_training_anew(reporter: Reporter) -> ClaimResult:
    losses = _losses(reporter)
    mean = {name: statistics.mean(values) for name, values in losses.items()}
    told = {name: losses[name] for name in (*(f"{form}, trained on" for form in FORMS), "trained anew")}
    details = f"{conditions(STEPS_AFTER, len(SEEDS))}, after {STEPS_BEFORE} steps of half the parameter tokens"
    return ClaimResult(spread(told), mean["exact, trained on"] < mean["trained anew"], details)


CLAIMS: list[Claim] = [
    *parameter_claims(
        {
            "tokenformer_150m": 151_881_216,
            "tokenformer_450m": 454_166_528,
            "tokenformer_900m": 903_252_480,
            "tokenformer_1_5b": 1_587_219_456,
            "tokenformer_354m_openwebtext2": 353_503_232,
            "tokenformer_757m_openwebtext2": 756_156_416,
        }
    ),
    *output_claims("tokenformer", "Haiyang-W/TokenFormer"),
    Claim(
        "growth-is-exact",
        "equality",
        "twice the parameter tokens, appended with zero keys at the old scale, change no score (at most 1e-9 in "
        "float64 and 1e-5 in float32)",
        "equal",
        _growth_is_exact,
    ),
    Claim(
        "growth-without-a-jump",
        "direction",
        f"growing a trained model to twice its parameter tokens raises its loss by at most {JUMP:g} nats a byte",
        "no jump",
        _without_a_jump,
        slow=True,
    ),
    Claim(
        "growth-below-training-anew",
        "direction",
        "a grown model that is trained on has a lower loss than one of its size trained anew for as many steps",
        "lower",
        _below_training_anew,
        slow=True,
    ),
]

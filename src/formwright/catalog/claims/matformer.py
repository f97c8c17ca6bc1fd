"""Claims of MatFormer: the authors' code at every size, and nested models against those trained alone."""

from __future__ import annotations

import dataclasses
import statistics

import numpy as np
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
from formwright.catalog.reference import (
    FLOAT32_TOLERANCE,
    reference_specification,
    reference_state,
    reference_variants,
    sample,
    token_ids,
)
from formwright.compression import extract, mix_and_match
from formwright.models import Network, create_model, load_checkpoint
from formwright.models.language.matformer import matformer
from formwright.models.nesting import RATIOS, nested_choice
from formwright.nn.specification import ChainSpec
from formwright.objectives import NestedTraining, NextToken
from formwright.reporting import Reporter, Share

STEPS = 3000
HIDDEN = 256
#: Nats a byte by which a nested model may be above one trained alone, and a truncated one must be.
NEAR, FAR = 0.1, 0.5
NAMES = dict(zip(RATIOS, ("s", "m", "l", "xl"), strict=True))


def nested_differences() -> dict[str, float]:
    """Of models cut out of one with the authors' weights: differences from theirs, over the standard deviation."""
    variant = "matformer_small:released"
    figures = reference_variants("matformer")[variant]
    model = create_model(reference_specification(variant, figures)).double().eval()
    load_checkpoint(model, reference_state(figures["layout"]))
    differences = {}
    for ratio, output in figures["nested_outputs"].items():
        ids = torch.from_numpy(token_ids(output["input_shape"], output["vocabulary"], output["input_seed"]))
        with torch.inference_mode():
            ours = np.array(sample(extract(model, nested_choice(model, float(ratio)))(ids).numpy()))
        differences[NAMES[float(ratio)]] = float(np.abs(ours - output["values"]).max() / output["std"])
    return differences


def _nested_outputs(reporter: Reporter) -> ClaimResult:
    differences = nested_differences()
    told = ", ".join(f"{name} {difference:.1e}" for name, difference in differences.items())
    return ClaimResult(told, max(differences.values()) <= FLOAT32_TOLERANCE)


def _specification(ratio: float = 1.0) -> ChainSpec:
    specification = matformer(
        dim=64, depth=2, heads=2, hidden=int(HIDDEN * ratio), tied=True, vocabulary=VOCABULARY, length=LENGTH
    )
    return dataclasses.replace(
        specification, name=f"matformer of {specification.stages[0].dim} x {int(HIDDEN * ratio)}"
    )


@once
def _losses(reporter: Reporter) -> dict[str, list[float]]:
    """Held-out losses of every size: nested, trained alone, cut out of a plain model, and one of mixed sizes."""
    text = small_text()
    losses: dict[str, list[float]] = {}

    def note(name: str, model: Network) -> None:
        losses.setdefault(name, []).append(held_out_loss(model, text))

    for index, seed in enumerate(SEEDS):
        share = Share(reporter, index, len(SEEDS))
        objective = NestedTraining(NextToken())
        nested = train_text(
            new_model(_specification(), seed), steps=STEPS, seed=seed, objective=objective, reporter=share
        )
        for ratio, name in NAMES.items():
            note(f"nested {name}", extract(nested.model, nested_choice(nested.model, ratio)))
            alone = train_text(new_model(_specification(ratio), seed), steps=STEPS, seed=seed, reporter=share).model
            note(f"alone {name}", alone)
        for ratio, name in NAMES.items():
            if ratio < 1:
                note(f"truncated {name}", extract(alone, nested_choice(alone, ratio)))
        neighbours = [extract(nested.model, nested_choice(nested.model, ratio)) for ratio in (0.5, 0.25)]
        budget = sum(model.parameter_count() for model in neighbours) // 2
        note("mixed m and l", extract(nested.model, mix_and_match(nested.model, budget)))
    return losses


def _means(losses: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.mean(values) for name, values in losses.items()}


def _near_those_alone(reporter: Reporter) -> ClaimResult:
    losses = _losses(reporter)
    mean = _means(losses)
    near = all(mean[f"nested {name}"] <= mean[f"alone {name}"] + NEAR for name in NAMES.values())
    monotone = mean["nested s"] >= mean["nested m"] >= mean["nested l"] >= mean["nested xl"]
    told = {name: values for name, values in losses.items() if name.startswith(("nested", "alone"))}
    return ClaimResult(spread(told), near and monotone, conditions(STEPS, len(SEEDS)))


def _truncated(reporter: Reporter) -> ClaimResult:
    losses = _losses(reporter)
    mean = _means(losses)
    holds = all(mean[f"truncated {name}"] > mean[f"nested {name}"] + FAR for name in ("s", "m", "l"))
    told = {name: values for name, values in losses.items() if name.startswith("truncated")}
    return ClaimResult(spread(told), holds, conditions(STEPS, len(SEEDS)))


def _between(reporter: Reporter) -> ClaimResult:
    losses = _losses(reporter)
    mean = _means(losses)
    told = {name: losses[name] for name in ("nested m", "mixed m and l", "nested l")}
    return ClaimResult(
        spread(told), mean["nested l"] <= mean["mixed m and l"] <= mean["nested m"], conditions(STEPS, len(SEEDS))
    )


CLAIMS: list[Claim] = [
    *parameter_claims({"matformer_llama3_2_1b": 1_235_814_400}),
    *output_claims("matformer", "devvrit/matformer"),
    Claim(
        "nested-outputs",
        "equality",
        "models cut out at an eighth, a quarter and half give the outputs of the authors' sub-networks with the same "
        f"weights (largest difference over their standard deviation at most {FLOAT32_TOLERANCE:g})",
        "equal",
        _nested_outputs,
    ),
    Claim(
        "nested-near-those-alone",
        "direction",
        f"each nested size is at most {NEAR:g} nats a byte above one of its size trained alone for as many steps, "
        "and a larger one is no worse",
        "near",
        _near_those_alone,
        slow=True,
    ),
    Claim(
        "truncation-is-worse",
        "direction",
        f"cut out of a model that was not trained for it, each size is more than {FAR:g} nats a byte worse",
        "worse",
        _truncated,
        slow=True,
    ),
    Claim(
        "mixed-sizes-between",
        "direction",
        "a model of mixed sizes, which was never trained, lies between the two that it mixes",
        "between",
        _between,
        slow=True,
    ),
]

"""Claims of DeltaNet: published sizes, flash-linear-attention's outputs, and recall as the number of keys grows."""

from __future__ import annotations

import functools
import statistics

import torch

from formwright.batch import IGNORED, Batch
from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.experiments.contest import SEEDS, parameters
from formwright.catalog.experiments.sequences import train_sequences
from formwright.catalog.figures import output_claims, parameter_claims
from formwright.data.synthetic.associative_recall import associative_recall
from formwright.data.synthetic.generated import GeneratedBatches
from formwright.models import Network
from formwright.nn.specification import BlockSpec, BranchSpec, ChainSpec, PartSpec, StageSpec, TokenInput, part
from formwright.objectives import NextToken
from formwright.reporting import SILENT, Reporter, Share

DIM, HEADS, VOCABULARY = 64, 2, 65
#: Numbers of keys; a batch of training has one of them, drawn at random, and each is tested.
PAIRS = (4, 8, 16)
LENGTH = 4 * PAIRS[-1]
STEPS, BATCH, TEST_ROWS = 400, 32, 256
LEARNING_RATE = 6e-3

#: Mixers whose states, where they do not grow, hold about 2,048 numbers a layer.
MIXERS: dict[str, PartSpec] = {
    "attention": part("attention", heads=HEADS, causal=True, bias=False),
    "delta rule": part("delta_rule", heads=HEADS),
    "mamba": part("mamba", states=16),
    "linear attention": part("linear_attention", heads=HEADS, causal=True),
}
RECALLERS, OTHERS = ("attention", "delta rule"), ("mamba", "linear attention")


#: Mixers without a convolution of their own get one before them: a token must see its neighbour to be a pair with it.
CONVOLVE_THEMSELVES = ("delta_rule", "mamba")


def recall_model(name: str, mixer: PartSpec) -> ChainSpec:
    """Two blocks of a short convolution and the mixer, without MLPs: what Zoology compares mixers in."""
    norm = part("rms_norm")
    parts = [mixer] if mixer.name in CONVOLVE_THEMSELVES else [part("short_convolution"), mixer]
    branches = tuple(BranchSpec(each, norm) for each in parts)
    return ChainSpec(
        family="decoder",
        name=name,
        task="language-modelling",
        input=TokenInput(VOCABULARY, LENGTH),
        classes=VOCABULARY,
        embed=part("token_embedding"),
        stages=(StageSpec(DIM, (BlockSpec(branches),) * 2),),
        head=part("token_scores", norm=norm),
        initialization="fan_in",  # with weights of 0.02 attention of 64 channels starts out blind to its queries
    )


def recall_rows(rows: int, pairs: int, generator: torch.Generator) -> Batch:
    return associative_recall(rows, LENGTH, pairs=pairs, generator=generator, vocabulary=VOCABULARY)


def _training_rows(generator: torch.Generator) -> Batch:
    return recall_rows(BATCH, PAIRS[int(torch.randint(len(PAIRS), (), generator=generator))], generator)


@torch.inference_mode()
def recall(model: Network, pairs: int) -> float:
    """The share of questions that are answered rightly in rows of ``pairs`` keys."""
    batch = recall_rows(TEST_ROWS, pairs, torch.Generator().manual_seed(2**31))
    asked = batch.targets != IGNORED
    return float((model(batch.inputs).argmax(-1) == batch.targets)[asked].float().mean())


def recall_curve(name: str, seed: int, reporter: Reporter = SILENT) -> list[float]:
    """Train a mixer with a seed: how much it then recalls, a share for each number of keys."""
    model = train_sequences(
        recall_model(name, MIXERS[name]),
        NextToken(),
        GeneratedBatches(_training_rows, seed=seed),
        steps=STEPS,
        seed=seed,
        learning_rate=LEARNING_RATE,
        reporter=reporter,
    )
    return [recall(model, pairs) for pairs in PAIRS]


Curves = dict[str, list[list[float]]]


@functools.cache
def _curves() -> Curves:
    """Filled once in a process: a list of accuracies, one a number of keys, for each mixer and seed."""
    return {}


def recall_curves(reporter: Reporter = SILENT) -> Curves:
    """How much each mixer recalls at each number of keys, a list a seed; trained once in a process."""
    curves = _curves()
    if curves:
        return curves
    runs = [(seed, name) for seed in SEEDS for name in MIXERS]
    found: Curves = {name: [] for name in MIXERS}
    for index, (seed, name) in enumerate(runs):
        found[name].append(recall_curve(name, seed, Share(reporter, index, len(runs))))
    curves.update(found)
    return curves


def _mean(curves: Curves, name: str, pairs: int) -> float:
    return statistics.mean(run[PAIRS.index(pairs)] for run in curves[name])


def _most_keys(reporter: Reporter) -> ClaimResult:
    curves, last = recall_curves(reporter), PAIRS[-1]
    means = {name: _mean(curves, name, last) for name in MIXERS}
    shown = []
    for name in sorted(means, key=lambda name: -means[name]):
        scores = [run[-1] for run in curves[name]]
        shown.append(f"{name} {means[name]:.1%} ({min(scores):.1%} to {max(scores):.1%})")
    holds = min(means[name] for name in RECALLERS) > max(means[name] for name in OTHERS)
    return ClaimResult(f"{last} keys: {'; '.join(shown)}", holds, _conditions())


def _by_keys(reporter: Reporter) -> ClaimResult:
    """How much is lost with more keys would favour those that recall nothing with few."""
    curves = recall_curves(reporter)
    shown = [f"{name} {', '.join(f'{_mean(curves, name, pairs):.1%}' for pairs in PAIRS)}" for name in curves]
    holds = all(
        min(_mean(curves, name, pairs) for name in RECALLERS) > max(_mean(curves, name, pairs) for name in OTHERS)
        for pairs in PAIRS
    )
    return ClaimResult(f"with {', '.join(map(str, PAIRS))} keys: {'; '.join(shown)}", holds, _conditions())


def _conditions() -> str:
    sizes = [f"{name} {parameters(recall_model(name, mixer)) / 1e3:.0f} k" for name, mixer in MIXERS.items()]
    return (
        f"{LENGTH} ids of {VOCABULARY}, {STEPS} steps of {BATCH} rows with {', '.join(map(str, PAIRS))} keys, tested "
        f"on {TEST_ROWS} rows each, {len(SEEDS)} seeds; two blocks of a short convolution and the mixer, {DIM} "
        f"channels, parameters: {', '.join(sizes)}"
    )


CLAIMS: list[Claim] = [
    *parameter_claims({"deltanet_340m": 374_362_112, "deltanet_1.3b": 1_365_677_056}),
    *output_claims("deltanet", "fla-org/flash-linear-attention"),
    Claim(
        "recall-with-more-keys",
        "direction",
        f"with {PAIRS[-1]} keys DeltaNet and attention recall more than Mamba and linear attention",
        published="DeltaNet above Mamba and gated linear attention in recall",
        run=_most_keys,
        slow=True,
    ),
    Claim(
        "recall-by-keys",
        "direction",
        f"with {', '.join(map(str, PAIRS))} keys alike, DeltaNet and attention recall more than Mamba and linear "
        "attention",
        published="DeltaNet above Mamba and gated linear attention in recall",
        run=_by_keys,
        slow=True,
    ),
]

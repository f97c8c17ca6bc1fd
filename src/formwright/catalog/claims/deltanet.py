"""Claims of DeltaNet: published sizes, flash-linear-attention's outputs, and recall as the number of keys grows."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Mapping

import torch

from formwright.batch import Batch
from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.contests import SEEDS, parameters
from formwright.catalog.figures import output_claims, parameter_claims
from formwright.catalog.sequence_contests import train_sequences
from formwright.data.synthetic.associative_recall import associative_recall
from formwright.data.synthetic.generated import GeneratedBatches
from formwright.models import Model
from formwright.models.language.transformer import decoder
from formwright.nn.specification import BlockSpec, BranchSpec, ModelSpec, PartSpec, StageSpec, TokenInput, part
from formwright.objectives import NextToken
from formwright.objectives.language import IGNORED
from formwright.reporting import SILENT, Reporter, Share

DIM, HEADS, VOCABULARY = 64, 2, 129
#: Numbers of keys; a batch of training has one of them, drawn at random, and each is tested.
PAIRS = (2, 4, 8, 16)
LENGTH = 4 * PAIRS[-1]
STEPS, BATCH, TEST_ROWS = 300, 32, 256
LEARNING_RATE = 3e-3

#: Mixers whose states, where they do not grow, hold about 2,048 numbers a layer.
MIXERS: dict[str, PartSpec] = {
    "attention": part("attention", heads=HEADS, causal=True, bias=False),
    "delta rule": part("delta_rule", heads=HEADS),
    "mamba": part("mamba", states=16),
    "linear attention": part("linear_attention", heads=HEADS, causal=True),
}
RECALLERS, OTHERS = ("attention", "delta rule"), ("mamba", "linear attention")


def recall_model(name: str, mixer: PartSpec) -> ModelSpec:
    """Two blocks of a short convolution and the mixer, without MLPs: what Zoology compares mixers in."""
    norm = part("rms_norm")
    branches = tuple(BranchSpec(each, norm) for each in (part("short_convolution"), mixer))
    return ModelSpec(
        family="decoder",
        name=name,
        task="language-modelling",
        input=TokenInput(VOCABULARY, LENGTH),
        classes=VOCABULARY,
        embed=part("token_embedding"),
        stages=(StageSpec(DIM, (BlockSpec(branches),) * 2),),
        head=part("token_scores", norm=norm),
    )

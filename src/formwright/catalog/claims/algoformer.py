"""Claims of AlgoFormer: what a loop costs and is, and in-context regression beside a plain and a looped Transformer."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Mapping
from typing import Any

import torch

from formwright.batch import Batch
from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.experiments.contest import Contest, parameters
from formwright.catalog.experiments.sequences import train_sequences
from formwright.data.synthetic.generated import GeneratedBatches
from formwright.data.synthetic.in_context import (
    Prompts,
    at_points,
    least_squares,
    linear_prompts,
    random_representation,
)
from formwright.models import Chain, Network, create_model, model_specification
from formwright.models.language.algoformer import algoformer, with_loops
from formwright.nn.specification import ChainSpec, NetworkSpec
from formwright.objectives.in_context import InContextRegression
from formwright.reporting import Reporter

DIM, POINTS, LOOPS, LAST = 3, 8, 4, 2
STEPS = 400
FURTHER, BLOWN_UP = 2, 2
_REPRESENTATION = random_representation(DIM, layers=1)


def _loops_are_free(reporter: Reporter) -> ClaimResult:
    counts = {loops: parameters(model_specification("algoformer", loops=loops)) for loops in (1, 20)}
    plain = parameters(model_specification("algoformer_standard", depth_before=3))
    return ClaimResult(
        f"{counts[20]:,} with 20 loops, {counts[1]:,} with one, {plain:,} as a plain stack",
        counts[1] == counts[20] == plain,
    )


@torch.inference_mode()
def _one_loop_is_a_stack(reporter: Reporter) -> ClaimResult:
    torch.manual_seed(0)
    looped = create_model("algoformer", loops=1).double().eval()
    plain = create_model("algoformer_standard", depth_before=3).double().eval()
    state = {}
    for name, tensor in looped.state_dict().items():
        for stage in (1, 2):
            name = name.replace(f"stages.{stage}.blocks.0", f"stages.0.blocks.{stage}")
        state[name] = tensor
    plain.load_state_dict(state)
    x = torch.randn(2, 80, 20, dtype=torch.float64)
    difference = float((looped(x) - plain(x)).abs().max())
    return ClaimResult(f"{difference:.1e}", difference <= 1e-9)


def _small(kind: str) -> ChainSpec:
    """Three blocks each: one before, one looped and one after, all three looped, or none."""
    shapes: dict[str, dict[str, Any]] = {
        "algoformer": {"loops": LOOPS},
        "looped": {"depth_before": 0, "depth_looped": 3, "depth_after": 0, "loops": LOOPS // 2, "inject": True},
        "standard": {"depth_before": 3, "depth_looped": 0, "depth_after": 0},
    }
    return algoformer(dim=32, heads=4, channels=DIM, length=2 * POINTS, **shapes[kind])


def _prompts(batch: int, generator: torch.Generator) -> Prompts:
    return linear_prompts(batch, POINTS, DIM, generator=generator, representation=_REPRESENTATION)


def _batch(generator: torch.Generator) -> Batch:
    prompts = _prompts(32, generator)
    return Batch(prompts.vectors, prompts.y)


#: Models of the contest by name and seed, for what is asked of them afterwards.
_TRAINED: dict[tuple[str, int], Network] = {}


def _run(specification: NetworkSpec, seed: int, reporter: Reporter) -> float:
    """Train with the loss over the last loops, if there are any; the squared error on new prompts."""
    assert isinstance(specification, ChainSpec)
    loops = max(stage.repeats for stage in specification.stages)
    model = train_sequences(
        specification,
        InContextRegression(min(LAST, loops)),
        GeneratedBatches(_batch, seed=seed),
        steps=STEPS,
        seed=seed,
        reporter=reporter,
    )
    _TRAINED[specification.name, seed] = model
    return _error(model)


@torch.inference_mode()
def _error(model: Network) -> float:
    prompts = _prompts(512, torch.Generator().manual_seed(2**31))
    return float((at_points(model(prompts.vectors)) - prompts.y).square().mean())


CONTEST = Contest(
    {kind: functools.partial(_small, kind) for kind in ("algoformer", "looped", "standard")},
    _run,
    f"{POINTS} points of {DIM} channels behind a fixed random layer, {STEPS} steps of 32 prompts, mean squared error "
    "on 512 others",
    "{:.3f}".format,
    largest_first=False,
)


def _best(error: Mapping[str, float]) -> bool:
    return error["algoformer"] < min(error["looped"], error["standard"])


def _further_loops(reporter: Reporter) -> ClaimResult:
    CONTEST.results(reporter)
    models = [m for (name, _), m in _TRAINED.items() if name == "algoformer" and isinstance(m, Chain)]
    trained = statistics.mean(map(_error, models))
    further = statistics.mean(_error(with_loops(model, LOOPS + FURTHER)) for model in models)
    prompts = _prompts(512, torch.Generator().manual_seed(2**31))
    best = float((least_squares(prompts, _REPRESENTATION) - prompts.y).square().mean())
    return ClaimResult(
        f"{trained:.3f} after {LOOPS} loops, {further:.3f} after {LOOPS + FURTHER}",
        further <= BLOWN_UP * trained,
        f"{CONTEST.conditions}; least squares that knows the layer has {best:.3f}",
    )


CLAIMS: list[Claim] = [
    Claim(
        id="loops-are-free",
        kind="count",
        statement="parameters do not depend on the number of loops, and are those of as many plain blocks",
        published="equal",
        run=_loops_are_free,
    ),
    Claim(
        id="one-loop-is-a-stack",
        kind="equality",
        statement="with one loop it gives the outputs of the plain stack of its blocks, to 1e-9 in float64",
        published="equal",
        run=_one_loop_is_a_stack,
    ),
    CONTEST.claim(
        "in-context-regression",
        "regression in context with a representation: below the looped and the plain Transformer at equal parameters",
        holds=_best,
    ),
    Claim(
        id="further-loops",
        kind="direction",
        statement=f"{FURTHER} further loops than in training leave the error below {BLOWN_UP} times what it was",
        published="not blown up",
        run=_further_loops,
        slow=True,
    ),
]

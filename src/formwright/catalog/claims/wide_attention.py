"""Claims of wide attention: sizes of its shapes, and wide beside deep in accuracy and latency."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from formwright.batch import Batch
from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.experiments.contest import Contest, parameters
from formwright.catalog.experiments.sequences import train_sequences
from formwright.catalog.reference import FLOAT64_TOLERANCE
from formwright.data.synthetic.generated import GeneratedBatches
from formwright.measurement.latency import compare
from formwright.models import create_model, empty_copy, model_specification
from formwright.models.language.wide_attention import aspect_ratios, wide_attention
from formwright.nn.specification import ChainSpec, NetworkSpec
from formwright.nn.token_mixers.attention import Attention
from formwright.objectives import Classification
from formwright.reporting import Reporter

SHAPES = aspect_ratios(6, 8)
STEPS = 200
#: Wide is as good as deep if its accuracy is at most so much below.
LEVEL = 0.01
FASTER = 1.5


def _attention_weights(depth: int, heads: int) -> int:
    model = empty_copy(model_specification(f"wide_attention_{depth}x{heads}"))
    layers = [module for module in model.modules() if isinstance(module, Attention)]
    return sum(p.numel() for layer in layers for p in layer.parameters() if p.ndim == 2)


def _equal_attention(reporter: Reporter) -> ClaimResult:
    weights = {_attention_weights(*shape) for shape in SHAPES}
    return ClaimResult(", ".join(f"{count:,}" for count in sorted(weights)), len(weights) == 1)


def _saved(reporter: Reporter) -> ClaimResult:
    dim, hidden = 512, 2048
    layer = 2 * dim * hidden + hidden + dim + 4 * dim + dim  # MLP, two norms, bias of attention's projection
    counts = {depth: parameters(model_specification(f"wide_attention_{depth}x{heads}")) for depth, heads in SHAPES}
    exact = all(counts[6] - count == (6 - depth) * layer for depth, count in counts.items())
    return ClaimResult(", ".join(f"{depth} layers {count / 1e6:.2f} M" for depth, count in counts.items()), exact)


@functools.cache
def _digits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pictures of digits as 64 ids from 0 to 16, and their classes: to train and to test."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(labels))
    ids, classes = torch.from_numpy(pixels[order].astype(np.int64)), torch.from_numpy(labels[order].astype(np.int64))
    return ids[:1297], classes[:1297], ids[1297:], classes[1297:]


def _batch(generator: torch.Generator) -> Batch:
    ids, classes, *_ = _digits()
    rows = torch.randint(len(ids), (32,), generator=generator)
    return Batch(ids[rows], classes[rows])


def _small(depth: int, heads: int) -> ChainSpec:
    return wide_attention(
        dim=32, depth=depth, heads=heads, head_dim=8, hidden=128, vocabulary=17, length=64, padding=None, classes=10
    )


def _run(specification: NetworkSpec, seed: int, reporter: Reporter) -> float:
    batches = GeneratedBatches(_batch, seed=seed)
    model = train_sequences(specification, Classification(), batches, steps=STEPS, seed=seed, reporter=reporter)
    *_, ids, classes = _digits()
    with torch.inference_mode():
        return float((model(ids).argmax(-1) == classes).float().mean())


CONTEST = Contest(
    {f"{depth}x{heads}": functools.partial(_small, depth, heads) for depth, heads in ((4, 2), (2, 4), (1, 8))},
    _run,
    f"scikit-learn's digits as 64 tokens, 1,297 to train and 500 to test, {STEPS} steps of 32, layers x heads of 8 "
    "channels",
    "{:.1%}".format,
)


def _sum_of_pytorch(reporter: Reporter) -> ClaimResult:
    """The one layer of 48 heads against six of PyTorch's attentions with its weights, in float64."""
    torch.manual_seed(0)
    wide = next(
        m for m in create_model(model_specification("wide_attention_1x48")).double().modules() if type(m) is Attention
    )
    dim, group = wide.qkv.in_features, wide.heads // 6
    x = torch.randn(2, 9, dim, dtype=torch.float64)
    rows = wide.qkv.weight.view(3, 6, group * wide.head_dim, dim)
    columns = wide.proj.weight.view(dim, 6, group * wide.head_dim)
    expected = torch.zeros_like(x) + wide.proj.bias
    for index in range(6):
        peer = nn.MultiheadAttention(dim, group, bias=False, batch_first=True, dtype=torch.float64)
        with torch.no_grad():
            peer.in_proj_weight.copy_(rows[:, index].flatten(0, 1))
            peer.out_proj.weight.copy_(columns[:, index])
        expected = expected + peer(x, x, x, need_weights=False)[0]
    with torch.no_grad():
        difference = float((wide(x) - expected).abs().max() / expected.std())
    return ClaimResult(f"{difference:.1e}", difference <= FLOAT64_TOLERANCE)


def _level(accuracy: Mapping[str, float]) -> bool:
    return accuracy["1x8"] >= accuracy["4x2"] - LEVEL


def _faster(reporter: Reporter) -> ClaimResult:
    ids = torch.randint(256, (1, 1000), generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    models = {
        depth: create_model(model_specification(f"wide_attention_{depth}x{heads}")).eval() for depth, heads in SHAPES
    }
    functions = {f"{depth}": functools.partial(model, ids) for depth, model in models.items() if depth in (1, 6)}
    with torch.inference_mode():
        compared = compare(functions)
    times = ", ".join(f"{latency} with {depth} layers" for depth, latency in compared.latencies.items())
    ratio = compared.speedup("1", over="6")
    return ClaimResult(f"{ratio:.2f} times: {times}", ratio > FASTER)


CLAIMS: list[Claim] = [
    Claim(
        id="attention-parameters",
        kind="count",
        statement="the matrices of attention have as many parameters in every shape of 48 heads",
        published="equal",
        run=_equal_attention,
    ),
    Claim(
        id="saved-parameters",
        kind="count",
        statement="each layer less saves an MLP, two norms and a bias, exactly",
        published="equal",
        run=_saved,
    ),
    Claim(
        id="sum-of-attentions",
        kind="equality",
        statement="48 heads of 64 channels in one layer are the sum of six of PyTorch's attentions with 8 heads each",
        published="equal",
        run=_sum_of_pytorch,
    ),
    CONTEST.claim(
        "wide-as-good-as-deep",
        f"one layer with all heads is at most {100 * LEVEL:g} point below four",
        holds=_level,
    ),
    Claim(
        id="wide-is-faster",
        kind="measured",
        statement=f"one layer of 48 heads is over {FASTER:g} times as fast as six layers of 8, 1,000 bytes, d = 512",
        published="3.1 times on a CPU (byte-level IMDb)",
        run=_faster,
        slow=True,
    ),
]

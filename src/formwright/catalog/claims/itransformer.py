"""Claims of iTransformer: sizes and outputs of the authors' code, the paper's table of ETT, and what it says of tokens.

The files of ETT are not part of the package: without them, the claims about them say so.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Sequence

from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.experiments.forecasts import (
    SEEDS,
    Errors,
    PublishedTraining,
    ett,
    ett_folder,
    few_windows,
    forecast_errors,
    mean_errors,
    naive_errors,
    restrict,
    train_as_published,
)
from formwright.catalog.figures import output_claims, parameter_claims
from formwright.data.series_batches import Windows
from formwright.models import model_specification
from formwright.models.series.itransformer import itransformer
from formwright.models.series.temporal import temporal_transformer
from formwright.nn.specification import ChainSpec, NetworkSpec
from formwright.reporting import SILENT, Reporter, Share

#: Mean squared and absolute error of the paper's table, look-back of 96.
PUBLISHED = {
    ("ETTh1", 96): Errors(0.386, 0.405),
    ("ETTh1", 192): Errors(0.441, 0.436),
    ("ETTh1", 336): Errors(0.487, 0.458),
    ("ETTh1", 720): Errors(0.503, 0.491),
    ("ETTh2", 96): Errors(0.297, 0.349),
    ("ETTh2", 192): Errors(0.380, 0.400),
    ("ETTh2", 336): Errors(0.428, 0.432),
    ("ETTh2", 720): Errors(0.427, 0.445),
}
#: How far a mean over seeds may lie from the published figure; how far at most, and for how many figures it must not.
NEAR, FARTHEST, NEAR_FIGURES = 0.03, 0.05, 14
#: Small contests: one rate for all, a pass of so many batches, every so many test windows.
SMALL = PublishedTraining(learning_rate=1e-3)
STEPS, TEST_STRIDE = 150, 4
LOOK_BACKS = (48, 96, 192, 336)
#: Trained on, of ETTh1's seven variates; the other four are never seen.
SEEN = ("HUFL", "MUFL", "OT")

MISSING = "not run: put ETTh1.csv and ETTh2.csv into the folder ett of FORMWRIGHT_DATA"


def on_ett(run: Callable[[Reporter], ClaimResult]) -> Callable[[Reporter], ClaimResult]:
    """The program where the files are, and a sentence where they are not."""

    @functools.wraps(run)
    def checked(reporter: Reporter) -> ClaimResult:
        return ClaimResult(MISSING, False) if ett_folder() is None else run(reporter)

    return checked


@functools.cache
def _errors(name: str, horizon: int, seed: int) -> Errors:
    data = ett(name, horizon=horizon)
    specification = model_specification(f"itransformer_{name.lower()}_{horizon}")
    model = train_as_published(specification, data, seed=seed)
    return forecast_errors(model, Windows(data, "test", shift=0))


def _seeds(name: str, horizon: int, reporter: Reporter) -> list[Errors]:
    found = []
    for index, seed in enumerate(SEEDS):
        reporter.progress(index / len(SEEDS), f"{name}, horizon {horizon}, seed {seed}")
        found.append(_errors(name, horizon, seed))
    return found


def _both(errors: Errors) -> str:
    return f"{errors.mse:.3f} / {errors.mae:.3f}"


def _spread(errors: Sequence[Errors]) -> str:
    ends = (f"{min(values):.3f} to {max(values):.3f}" for values in zip(*errors, strict=True))
    return " / ".join(ends)


def _off(measured: Errors, published: Errors) -> tuple[float, float]:
    """How far each figure is from the published one, as a share of it."""
    return measured.mse / published.mse - 1, measured.mae / published.mae - 1


def _forecast_claim(name: str, horizon: int) -> Claim:
    published = PUBLISHED[name, horizon]

    @on_ett
    def run(reporter: Reporter) -> ClaimResult:
        errors = _seeds(name, horizon, reporter)
        off = _off(mean_errors(errors), published)
        details = f"seeds {_spread(errors)}; off by {off[0]:+.1%} / {off[1]:+.1%}"
        return ClaimResult(_both(mean_errors(errors)), max(map(abs, off)) <= FARTHEST, details)

    return Claim(
        id=f"forecasts:itransformer_{name.lower()}_{horizon}",
        kind="direction",
        statement=f"mean squared / absolute error on {name} at horizon {horizon}, mean of {len(SEEDS)} seeds, within "
        f"{FARTHEST:.0%}",
        published=_both(published),
        run=run,
        slow=True,
    )


@on_ett
def _table(reporter: Reporter) -> ClaimResult:
    off = []
    for index, (name, horizon) in enumerate(PUBLISHED):
        errors = _seeds(name, horizon, Share(reporter, index, len(PUBLISHED)))
        off += [abs(value) for value in _off(mean_errors(errors), PUBLISHED[name, horizon])]
    near = sum(value <= NEAR for value in off)
    return ClaimResult(
        f"{near} of {len(off)} figures within {NEAR:.0%}, the farthest {max(off):.1%} off",
        near >= NEAR_FIGURES and max(off) <= FARTHEST,
    )


def _inverted(length: int, *, variates: int = 7) -> ChainSpec:
    """A small iTransformer without calendar features, for one pass that needs no dropout."""
    return itransformer(dim=64, hidden=64, heads=4, dropout=0.0, length=length, variates=variates)


def _temporal(length: int, *, normalise: bool) -> NetworkSpec:
    """The temporal-token Transformer of the same width, with a third block in the place of the decoder's."""
    return temporal_transformer(dim=64, hidden=64, depth=3, heads=4, dropout=0.0, length=length, normalise=normalise)


@functools.cache
def _small_mse(kind: str, length: int, seed: int) -> float:
    """Mean squared error on ETTh1 at horizon 96 after one short pass."""
    data = ett("ETTh1", horizon=96, length=length, calendar=False)
    build: dict[str, Callable[[], NetworkSpec]] = {
        "inverted": lambda: _inverted(length),
        "temporal": lambda: _temporal(length, normalise=False),
        "temporal, normalised": lambda: _temporal(length, normalise=True),
    }
    model = train_as_published(build[kind](), data, training=SMALL, seed=seed, steps=STEPS)
    return forecast_errors(model, few_windows(data, "test", TEST_STRIDE)).mse


def _small(kind: str, length: int, reporter: Reporter = SILENT) -> list[float]:
    found = []
    for index, seed in enumerate(SEEDS):
        reporter.progress(index / len(SEEDS), f"{kind}, look-back {length}, seed {seed}")
        found.append(_small_mse(kind, length, seed))
    return found


def _told(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


CONDITIONS = (
    f"ETTh1, horizon 96, width 64, no dropout, {STEPS} batches of {SMALL.batch_size} at rate {SMALL.learning_rate:g}, "
    f"{len(SEEDS)} seeds, every {TEST_STRIDE}th test window"
)


@on_ett
def _beats_temporal(reporter: Reporter) -> ClaimResult:
    kinds = ("inverted", "temporal, normalised", "temporal")
    scores = {kind: _small(kind, 96, Share(reporter, index, len(kinds))) for index, kind in enumerate(kinds)}
    best = max(scores["inverted"])
    return ClaimResult(
        "; ".join(f"{kind} {_told(values)}" for kind, values in scores.items()),
        all(best < min(scores[kind]) for kind in kinds[1:]),
        CONDITIONS,
    )


@on_ett
def _longer_look_back(reporter: Reporter) -> ClaimResult:
    kinds = ("inverted", "temporal")
    runs = [(kind, length) for kind in kinds for length in LOOK_BACKS]
    means = {}
    for index, (kind, length) in enumerate(runs):
        means[kind, length] = statistics.mean(_small(kind, length, Share(reporter, index, len(runs))))
    gains = {kind: 1 - means[kind, LOOK_BACKS[-1]] / means[kind, LOOK_BACKS[0]] for kind in kinds}
    lines = [f"{kind} {', '.join(f'{means[kind, length]:.3f}' for length in LOOK_BACKS)}" for kind in kinds]
    return ClaimResult("; ".join(lines), gains["inverted"] > 0 >= gains["temporal"], CONDITIONS)


@on_ett
def _unseen(reporter: Reporter) -> ClaimResult:
    """Trained on three variates and applied to the other four, beside a model that was trained on all seven."""
    everything = ett("ETTh1", horizon=96, calendar=False)
    seen = restrict(everything, SEEN)
    unseen = restrict(everything, tuple(name for name in everything.layout.targets if name not in SEEN))
    windows = few_windows(unseen, "test", TEST_STRIDE)
    without, within = [], []
    for index, seed in enumerate(SEEDS):
        reporter.progress(index / len(SEEDS), f"seed {seed}")
        few = train_as_published(_inverted(96, variates=len(SEEN)), seen, training=SMALL, seed=seed, steps=STEPS)
        without.append(forecast_errors(few, windows).mse)
        whole = train_as_published(_inverted(96), everything, training=SMALL, seed=seed, steps=STEPS)
        within.append(forecast_errors(whole, windows).mse)
    naive = naive_errors(unseen, windows).mse
    return ClaimResult(
        f"{_told(without)}; trained on all seven {_told(within)}; the last day again {naive:.3f}",
        max(without) < naive,
        f"trained on {', '.join(SEEN)}, applied to {', '.join(unseen.layout.targets)}; {CONDITIONS}",
    )


CLAIMS: list[Claim] = [
    *parameter_claims(
        {
            "itransformer": 6_404_704,
            "iflowformer": 6_404_704,
            "iinformer": 6_404_704,
            "iinformer_scrambled": 6_404_704,
            "itransformer_etth1_96": 841_568,
            "itransformer_etth1_192": 866_240,
            "itransformer_etth1_336": 3_379_024,
            "itransformer_etth1_720": 3_576_016,
            "itransformer_etth2_96": 224_224,
            "itransformer_etth2_192": 236_608,
            "itransformer_etth2_336": 255_184,
            "itransformer_etth2_720": 304_720,
        }
    ),
    *output_claims("itransformer", "thuml/iTransformer"),
    Claim(
        id="inverted-beats-temporal-tokens",
        kind="direction",
        statement="with variates as tokens the error is less than with time steps as tokens, normalised or not",
        published="less",
        run=_beats_temporal,
        slow=True,
    ),
    Claim(
        id="longer-look-back-helps",
        kind="direction",
        statement=f"from {LOOK_BACKS[0]} to {LOOK_BACKS[-1]} steps of look-back the error falls with variates as "
        f"tokens, and does not with time steps as tokens ({', '.join(map(str, LOOK_BACKS))})",
        published="falls; does not fall",
        run=_longer_look_back,
        slow=True,
    ),
    Claim(
        id="unseen-variates",
        kind="direction",
        statement="a model that was trained on three variates forecasts the other four better than the last day again",
        published="generalises to unseen variates",
        run=_unseen,
        slow=True,
    ),
    *(_forecast_claim(name, horizon) for name, horizon in PUBLISHED),
    Claim(
        id="forecasts-table",
        kind="direction",
        statement=f"of the {2 * len(PUBLISHED)} figures at least {NEAR_FIGURES} are within {NEAR:.0%} of the paper's, "
        f"and none is farther off than {FARTHEST:.0%}",
        published="the table of ETTh1 and ETTh2",
        run=_table,
        slow=True,
    ),
]

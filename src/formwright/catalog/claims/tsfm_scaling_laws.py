"""Claims of the scaling laws of series foundation models: sizes, the authors' outputs, packing, and directions."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Sequence

import numpy as np
import torch

from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.experiments.forecasts import ett_folder
from formwright.catalog.figures import output_claims
from formwright.catalog.reference import FLOAT64_TOLERANCE
from formwright.models import empty_copy
from formwright.models.series.foundation import SIZES, FoundationModel, decoder
from formwright.nn.packed_series import Patches, cut_into_patches
from formwright.objectives.series import PatchLikelihood
from formwright.reporting import Reporter
from formwright.studies.scaling import Corpus, ScalingResult, measure_scaling, read_corpus, synthetic_corpus
from formwright.studies.scaling.corpus import CorpusBatches
from formwright.studies.scaling.run import judge
from formwright.training import Recipe, Trainer

SEEDS = (0, 1, 2)
LADDER = ("1k", "10k", "100k")
STEPS, BATCH, LENGTH = 150, 32, 512
#: Points that the largest model is trained on besides all of them.
FEWER_POINTS = (10_000, 100_000)
#: Steps of a model that has seen many series on a few points of another one, and how many points these are.
FEW_SHOT_STEPS, FEW_SHOT_POINTS = 60, 7 * 400
#: The authors' table, in which two sizes are rounded; their configuration of 10K has two layers and their table one.
CORE = {
    "1k": 872,
    "10k": 7_032,
    "100k": 100_928,
    "300k": 302_656,
    "1m": 1_771_712,
    "3m": 4_747_264,
}
MISSING = "not run: put ETTh1.csv and ETTh2.csv into the folder ett of FORMWRIGHT_DATA"


def _counts(reporter: Reporter) -> ClaimResult:
    found = {}
    for name in CORE:
        model = empty_copy(SIZES[name])
        assert isinstance(model, FoundationModel)
        found[name] = model.core_parameters()
    return ClaimResult(_counted(found), found == CORE)


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _packing(reporter: Reporter) -> ClaimResult:
    """Two series in one row, against each of them alone."""
    worst = 0.0
    for config in (SIZES["100k"], decoder(SIZES["100k"])):
        torch.manual_seed(0)
        model = FoundationModel(config).double().eval()
        one, two = (cut_into_patches(torch.randn(1, n).double() * n, forecast=1) for n in (5 * 32, 3 * 32))
        rows = [torch.cat([a, b], dim=1) for a, b in zip(one, two, strict=True)]
        packed = Patches(*rows)._replace(series=torch.tensor([[1] * 5 + [2] * 3]))
        with torch.inference_mode():
            alone = torch.cat([model.distribution(one).mean, model.distribution(two).mean], dim=1)
            worst = max(worst, float((model.distribution(packed).mean - alone).abs().max() / alone.std()))
    return ClaimResult(f"{worst:.1e}", worst <= FLOAT64_TOLERANCE, "encoder and decoder of 100K, float64")


@functools.cache
def _study() -> tuple[Corpus, dict[str, ScalingResult]]:
    """Filled by :func:`_measured`."""
    return synthetic_corpus(), {}


def _measured(reporter: Reporter) -> ScalingResult:
    corpus, results = _study()
    if "synthetic" not in results:
        results["synthetic"] = measure_scaling(
            corpus, sizes=LADDER, data=FEWER_POINTS, steps=STEPS, seeds=SEEDS, batch=BATCH, reporter=reporter
        )
    return results["synthetic"]


def _told(result: ScalingResult, kind: str, axis: str) -> str:
    laws = [result.law(kind, axis, name) for name in result.sets]
    return " and ".join(f"{law.alpha:.3f} ± {law.alpha_error:.3f} (R² {law.r2:.2f})" for law in laws)


def _law_of_size(reporter: Reporter) -> ClaimResult:
    result = _measured(reporter)
    laws = [result.law(kind, "parameters", name) for kind in ("encoder", "decoder") for name in result.sets]
    return ClaimResult(
        "; ".join(f"{kind} {_told(result, kind, 'parameters')}" for kind in ("encoder", "decoder")),
        all(law.alpha > 0 for law in laws) and max(law.r2 for law in laws) > 0.8,
        f"alpha in and out of distribution; {_conditions()}",
    )


def _law_of_data(reporter: Reporter) -> ClaimResult:
    result = _measured(reporter)
    laws = [result.law(kind, "points", result.sets[0]) for kind in ("encoder", "decoder")]
    return ClaimResult(
        "; ".join(f"{kind} {_told(result, kind, 'points')}" for kind in ("encoder", "decoder")),
        all(law.alpha > 0 for law in laws),
        f"alpha in and out of distribution, {LADDER[-1]} on {', '.join(f'{p:,}' for p in FEWER_POINTS)} and all "
        f"{result.largest_data:,} points; {_conditions()}",
    )


def _law_of_compute(reporter: Reporter) -> ClaimResult:
    result = _measured(reporter)
    laws = [result.law(kind, "compute", name) for kind in ("encoder", "decoder") for name in result.sets]
    return ClaimResult(
        "; ".join(f"{kind} {_told(result, kind, 'compute')}" for kind in ("encoder", "decoder")),
        all(law.alpha > 0 for law in laws),
        f"alpha in and out of distribution, of the models that no cheaper one beats; {_conditions()}",
    )


def _encoder_scales_better(reporter: Reporter) -> ClaimResult:
    result = _measured(reporter)
    alphas = {kind: result.law(kind, "parameters", result.sets[0]).alpha for kind in ("encoder", "decoder")}
    return ClaimResult(
        "; ".join(f"{kind} {_told(result, kind, 'parameters')}" for kind in alphas),
        alphas["encoder"] > alphas["decoder"],
        f"alpha of size in and out of distribution; {_conditions()}",
    )


def _conditions() -> str:
    return (
        f"{', '.join(LADDER)} trained on synthetic series (trend, seasons, noise), judged by others and by waves: mean "
        f"absolute error of the last patch; {STEPS} steps of {BATCH} windows of {LENGTH}, {len(SEEDS)} seeds"
    )


def _real(reporter: Reporter) -> ClaimResult:
    """ETTh2 to train on, its end and ETTh1 to judge by."""
    folder = ett_folder()
    if folder is None:
        return ClaimResult(MISSING, False)
    corpus = read_corpus([folder / "ETTh2.csv"], [folder / "ETTh1.csv"])
    result = measure_scaling(corpus, sizes=LADDER, kinds=("decoder",), steps=STEPS, seeds=SEEDS, reporter=reporter)
    laws = [result.law("decoder", "parameters", name) for name in result.sets]
    return ClaimResult(
        _told(result, "decoder", "parameters"),
        all(law.alpha > 0 for law in laws),
        f"alpha of size of decoders trained on ETTh2, judged by its end and by ETTh1; {STEPS} steps, "
        f"{len(SEEDS)} seeds",
    )


def _few_shot(reporter: Reporter) -> ClaimResult:
    """Trained on synthetic series, then not at all or shortly on a few points of ETTh1; and on these points alone."""
    folder = ett_folder()
    if folder is None:
        return ClaimResult(MISSING, False)
    real = read_corpus([folder / "ETTh1.csv"])
    (windows,) = real.evaluations.values()
    few = Corpus("few", tuple(series[-FEW_SHOT_POINTS // 7 :] for series in real.train), {})
    errors: dict[str, list[float]] = {name: [] for name in ("zero-shot", "few-shot", "from scratch")}
    for index, seed in enumerate(SEEDS):
        reporter.progress(index / len(SEEDS), f"seed {seed}")
        torch.manual_seed(seed)
        model = FoundationModel(decoder(SIZES["100k"]))
        fresh = FoundationModel(decoder(SIZES["100k"]))
        pretrained = _trained(model, _study()[0], STEPS, 1e-2, seed)
        errors["zero-shot"].append(judge(pretrained, windows)["mae"])
        errors["few-shot"].append(judge(_trained(pretrained, few, FEW_SHOT_STEPS, 2e-3, seed), windows)["mae"])
        errors["from scratch"].append(judge(_trained(fresh, few, FEW_SHOT_STEPS, 1e-2, seed), windows)["mae"])
    naive = _last_value_error(windows)
    means = {name: statistics.mean(values) for name, values in errors.items()}
    return ClaimResult(
        "; ".join(f"{name} {_range(values)}" for name, values in errors.items()) + f"; last value again {naive:.3f}",
        means["few-shot"] <= means["zero-shot"] < naive and means["few-shot"] < means["from scratch"],
        f"mean absolute error on ETTh1's end; decoder of 100K, {STEPS} steps on synthetic series, then "
        f"{FEW_SHOT_STEPS} on {FEW_SHOT_POINTS:,} points of ETTh1; {len(SEEDS)} seeds",
    )


def _trained(model: FoundationModel, corpus: Corpus, steps: int, rate: float, seed: int) -> FoundationModel:
    recipe = Recipe(optimizer="adamw", learning_rate=rate, weight_decay=0.1, warmup=steps // 10, ema_decay=0.98)
    batches = CorpusBatches(corpus, length=LENGTH, batch_size=BATCH, seed=seed)
    trainer = Trainer(model.train(), PatchLikelihood(causal=model.specification.causal), batches, recipe, seed=seed)
    trainer.finish_at(steps)
    trainer.train(steps=steps)
    averaged = trainer.averaged_model()
    assert isinstance(averaged, FoundationModel)
    return averaged


def _last_value_error(windows: np.ndarray) -> float:
    """The error of repeating the last value before the last patch, in the unit of :func:`judge`."""
    past, truth = windows[:, :-32], windows[:, -32:]
    return float(np.mean(np.abs(truth - past[:, -1:]) / np.sqrt(past.var(1, keepdims=True) + 1e-5)))


def _range(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def _direction(name: str, statement: str, published: str, run: object) -> Claim:
    return Claim(name, "direction", statement, published, run, slow=True)  # type: ignore[arg-type]


CLAIMS: list[Claim] = [
    Claim(
        id="parameters",
        kind="count",
        statement="parameters of encoders without embedding and head",
        published=_counted(CORE),
        run=_counts,
    ),
    *output_claims("tsfm-scaling-laws", "Qingrenn/TSFM-ScalingLaws"),
    Claim(
        id="packing",
        kind="equality",
        statement="two series in one row give what each gives alone (largest difference over the standard deviation)",
        published="equal",
        run=_packing,
    ),
    _direction(
        "law-of-size",
        "the error falls with size by a power law, in and out of distribution, R² above 0.8 somewhere",
        "power laws of like shape in and out of distribution",
        _law_of_size,
    ),
    _direction(
        "law-of-data",
        "the error of the largest model falls with the points that it is trained on",
        "a power law",
        _law_of_data,
    ),
    _direction("law-of-compute", "the least error for a given compute falls with it", "a power law", _law_of_compute),
    _direction(
        "encoder-scales-better",
        "the encoder's error falls faster with size than the decoder's",
        "encoder-only scales better than decoder-only",
        _encoder_scales_better,
    ),
    _direction(
        "law-on-real-series",
        "the error falls with size on ETTh2, and on ETTh1, which was not trained on",
        "a power law on held-out and on other sets",
        _real,
    ),
    _direction(
        "zero-shot-and-few-shot",
        "pretrained on synthetic series, a decoder beats repeating ETTh1's last value without having seen it; a few "
        "points of it help, and help more than they do from scratch",
        "foundation models forecast sets that they have not seen",
        _few_shot,
    ),
]

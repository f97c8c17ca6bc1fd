"""Claims of the main job: what ``formwright fit`` reaches on data that is at hand, run again from the start."""

from __future__ import annotations

import os
import statistics
import tempfile
from pathlib import Path

from formwright.catalog.claim import Claim, ClaimResult
from formwright.reporting import Reporter

DIGITS_SEEDS = (0, 1, 2, 3, 4)
WEIGHTS_SEEDS = (0, 1, 2)


def _digits(reporter: Reporter) -> ClaimResult:
    """Five runs of two minutes on scikit-learn's digits, each with a plain ResNet of the same minutes."""
    from formwright.fitting import fit

    shipped, plain, met = [], [], []
    for seed in DIGITS_SEEDS:
        reporter.progress(seed / len(DIGITS_SEEDS), f"seed {seed}")
        with tempfile.TemporaryDirectory() as folder:
            result = fit(
                out=Path(folder) / "run",
                max_latency="1ms",
                max_size="1MB",
                max_time="2m",
                seed=seed,
                plain_peer=True,
            )
        shipped.append(result.test["accuracy"])
        met.append(result.budget_met)
        peer = [baseline.score for baseline in result.baselines if baseline.name == "plain ResNet"]
        plain.append(peer[0] if peer else result.test["accuracy"])
    mean, peer_mean = statistics.fmean(shipped), statistics.fmean(plain)
    each = ", ".join(f"{score:.2%}" for score in shipped)
    return ClaimResult(
        measured=f"{mean:.2%} (plain ResNet {peer_mean:.2%})",
        holds=mean >= 0.98 and mean >= peer_mean and all(met),
        details=f"seeds: {each}; budget met in {sum(met)} of {len(met)}; the ResNet may be the winner itself",
    )


def _cifar10(reporter: Reporter) -> ClaimResult:
    """One run of twenty minutes; needs the pictures below ``FORMWRIGHT_DATA``."""
    from formwright.fitting import fit

    root = os.environ.get("FORMWRIGHT_DATA")
    pictures = Path(root) / "cifar10" if root else None
    if pictures is None or not pictures.is_dir():
        return ClaimResult(
            measured="not run",
            holds=False,
            details="set FORMWRIGHT_DATA to a folder that holds cifar10/{train,test}/CLASS/NNNN.jpg",
        )
    reporter.progress(0.0, "twenty minutes")
    with tempfile.TemporaryDirectory() as folder:
        result = fit(pictures, out=Path(folder) / "run", max_latency="2ms", max_size="1MB", max_time="20m")
    accuracy = result.test["accuracy"]
    return ClaimResult(
        measured=f"{accuracy:.2%}, {result.shipped.size / 1e6:.2f} MB, {1e3 * result.shipped.latency:.2f} ms",
        holds=accuracy >= 0.9 and result.budget_met,
        details=f"{result.model}; {result.time['total']:.0f} s of 1200 s",
    )


def _data(name: str) -> Path | None:
    """What lies under a name below ``FORMWRIGHT_DATA``, if it does."""
    root = os.environ.get("FORMWRIGHT_DATA")
    path = Path(root) / name if root else None
    return path if path is not None and path.exists() else None


def _sst2(reporter: Reporter) -> ClaimResult:
    """One run of at most ten minutes on the sentences as they are given."""
    from formwright.fitting import fit

    folder = _data("sst2")
    if folder is None:
        return ClaimResult(
            measured="not run",
            holds=False,
            details="set FORMWRIGHT_DATA to a folder that holds sst2/{train,dev,test}.tsv",
        )
    reporter.progress(0.0, "ten minutes")
    with tempfile.TemporaryDirectory() as out:
        result = fit(folder, out=Path(out) / "run", max_time="10m")
    beside = ", ".join(f"{baseline.name} {baseline.score:.2%}" for baseline in result.baselines)
    return ClaimResult(
        measured=f"{result.test['accuracy']:.2%}",
        holds=result.test["accuracy"] >= 0.78,
        details=f"{result.model}; {beside}; {result.time['total']:.0f} s of 600 s",
    )


def _from_weights(reporter: Reporter, least: float, **budget: str) -> ClaimResult:
    """Three runs of ten minutes that start from a checkpoint of texts."""
    from formwright.fitting import fit

    folder, weights = _data("sst2"), os.environ.get("FORMWRIGHT_TEXT_WEIGHTS")
    if folder is None or not weights:
        return ClaimResult(
            measured="not run",
            holds=False,
            details="set FORMWRIGHT_DATA to a folder that holds sst2/{train,dev,test}.tsv, and FORMWRIGHT_TEXT_WEIGHTS "
            "to the folder of all-MiniLM-L6-v2",
        )
    shipped, met, models, seconds = [], [], [], []
    for seed in WEIGHTS_SEEDS:
        reporter.progress(seed / len(WEIGHTS_SEEDS), f"seed {seed}")
        with tempfile.TemporaryDirectory() as out:
            result = fit(folder, out=Path(out) / "run", max_time="10m", seed=seed, weights=weights, **budget)
        shipped.append(result.test["accuracy"])
        met.append(result.budget_met)
        models.append(result.model)
        seconds.append(result.time["total"])
    mean = statistics.fmean(shipped)
    return ClaimResult(
        measured=f"{mean:.2%} ({', '.join(f'{score:.2%}' for score in shipped)})",
        holds=mean >= least and all(met),
        details=f"{'; '.join(models)}; at most {max(seconds):.0f} s of 600 s; budget met in {sum(met)} of {len(met)}",
    )


def _minilm(reporter: Reporter) -> ClaimResult:
    """Fine-tuned and shipped itself, in INT8."""
    return _from_weights(reporter, 0.885, max_size="25MB")


def _minilm_teaches(reporter: Reporter) -> ClaimResult:
    """As the teacher of a small model."""
    return _from_weights(reporter, 0.835, max_size="2MB", max_latency="1ms")


def _shakespeare(reporter: Reporter) -> ClaimResult:
    """One run of twenty minutes; the last tenth of the text is the test part."""
    from formwright.fitting import fit

    text = _data("tiny_shakespeare.txt")
    if text is None:
        return ClaimResult(
            measured="not run", holds=False, details="set FORMWRIGHT_DATA to a folder that holds tiny_shakespeare.txt"
        )
    reporter.progress(0.0, "twenty minutes")
    with tempfile.TemporaryDirectory() as out:
        result = fit(text, out=Path(out) / "run", max_time="20m")
    nats = result.test["nats_per_character"]
    return ClaimResult(
        measured=f"{nats:.3f} nats",
        holds=nats <= 1.6,
        details=f"{result.model}; {result.time['total']:.0f} s of 1200 s",
    )


CLAIMS: list[Claim] = [
    Claim(
        id="digits",
        kind="direction",
        statement="mean test accuracy on scikit-learn's digits, five seeds of two minutes, within 1 ms and 1 MB",
        published="at least 98 %, and not below a plain ResNet of the same minutes",
        run=_digits,
        slow=True,
    ),
    Claim(
        id="cifar10",
        kind="direction",
        statement="test accuracy on CIFAR-10 after twenty minutes on two cores, within 2 ms and 1 MB",
        published="at least 90 %",
        run=_cifar10,
        slow=True,
    ),
    Claim(
        id="sst2",
        kind="direction",
        statement="test accuracy on the sentences of SST-2, from scratch, within ten minutes on two cores",
        published="at least 78 %",
        run=_sst2,
        slow=True,
    ),
    Claim(
        id="sst2-weights",
        kind="direction",
        statement="mean test accuracy on SST-2 from MiniLM-L6, three seeds of ten minutes, within 25 MB",
        published="at least 88.5 %",
        run=_minilm,
        slow=True,
    ),
    Claim(
        id="sst2-taught",
        kind="direction",
        statement="the same within 2 MB and 1 ms, by learning from MiniLM-L6",
        published="at least 83.5 %",
        run=_minilm_teaches,
        slow=True,
    ),
    Claim(
        id="shakespeare",
        kind="direction",
        statement="nats per character on the last tenth of tiny-shakespeare after twenty minutes on two cores",
        published="at most 1.6",
        run=_shakespeare,
        slow=True,
    ),
]

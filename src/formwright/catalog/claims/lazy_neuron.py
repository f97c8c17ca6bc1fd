"""Claims of the Lazy Neuron Phenomenon: zeros come with training, and keeping few values on purpose does good."""

from __future__ import annotations

import dataclasses
import functools
import statistics
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from formwright.batch import Batch
from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.experiments.contest import SEEDS
from formwright.catalog.experiments.texts import (
    LENGTH,
    conditions,
    new_model,
    once,
    small_decoder,
    small_text,
    train_text,
    windows,
)
from formwright.catalog.reference import FLOAT64_TOLERANCE
from formwright.data.synthetic.generated import GeneratedBatches
from formwright.measurement.latency import compare
from formwright.metrics.classification import classification_scores, softmax
from formwright.metrics.sparsity import activation_sparsity
from formwright.models import Network
from formwright.models.vision.vit import vit
from formwright.nn.channel_mixers.sparse_mlp import TopKMLP
from formwright.nn.specification import BlockSpec, ChainSpec, PartSpec, part
from formwright.objectives import Classification
from formwright.reporting import Reporter, Share

STEPS, LEARNING_RATE = 2400, 0.01
WIDE, NARROW = 512, 64
FEW = 0.10

DIGIT_STEPS, DIGIT_BATCH = 400, 64
HIDDEN, KEPT = 256, 16
WRONG_LABELS, PIXEL_NOISE = 0.4, 0.3


def _relu_decoder(hidden: int) -> ChainSpec:
    specification = small_decoder(part("mlp", hidden=hidden, activation="relu"))
    return dataclasses.replace(specification, name=f"ReLU decoder of {hidden} hidden channels")


def _active(model: Network) -> list[float]:
    """Mean share of hidden values that are not zero on held-out text, layer by layer."""
    text = small_text()
    starts = np.linspace(0, len(text.test) - LENGTH - 1, 64).astype(np.int64)
    return [layer.active for layer in activation_sparsity(model.eval(), [windows(text.test, starts, LENGTH).inputs])]


@once
def _sparsity(reporter: Reporter) -> dict[str, list[list[float]]]:
    """Shares of each layer, one list a seed, before and after training."""
    shares: dict[str, list[list[float]]] = {}
    runs = [(seed, hidden) for seed in SEEDS for hidden in (WIDE, NARROW)]
    for index, (seed, hidden) in enumerate(runs):
        model = new_model(_relu_decoder(hidden), seed)
        shares.setdefault(f"{hidden} hidden, untrained", []).append(_active(model))
        trained = train_text(
            model, steps=STEPS, seed=seed, learning_rate=LEARNING_RATE, reporter=Share(reporter, index, len(runs))
        )
        shares.setdefault(f"{hidden} hidden, trained", []).append(_active(trained.model))
    return shares


def _mean(shares: Mapping[str, list[list[float]]], name: str) -> float:
    return statistics.mean(statistics.mean(layers) for layers in shares[name])


def _told(shares: Mapping[str, list[list[float]]], *names: str) -> str:
    """Mean over layers and seeds, its range over seeds, and the mean of each layer."""
    told = []
    for name in names:
        seeds = [statistics.mean(layers) for layers in shares[name]]
        layers = [statistics.mean(layer) for layer in zip(*shares[name], strict=True)]
        by_layer = ", ".join(f"{layer:.1%}" for layer in layers)
        told.append(f"{name} {statistics.mean(seeds):.1%} ({min(seeds):.1%} to {max(seeds):.1%}; layers {by_layer})")
    return "; ".join(told)


def _half_at_first(reporter: Reporter) -> ClaimResult:
    shares = {f"seed {seed}": [_active(new_model(_relu_decoder(WIDE), seed))] for seed in SEEDS}
    means = [_mean(shares, name) for name in shares]
    return ClaimResult(_told(shares, *shares), all(abs(mean - 0.5) <= 0.02 for mean in means))


def _few_after_training(reporter: Reporter) -> ClaimResult:
    shares = _sparsity(reporter)
    names = (f"{WIDE} hidden, untrained", f"{WIDE} hidden, trained")
    return ClaimResult(_told(shares, *names), _mean(shares, names[1]) < FEW, conditions(STEPS, len(SEEDS)))


def _falls(reporter: Reporter) -> ClaimResult:
    shares = _sparsity(reporter)
    before, after = (_mean(shares, f"{WIDE} hidden, {when}") for when in ("untrained", "trained"))
    return ClaimResult(f"{before:.1%} to {after:.1%}", after < 0.35, conditions(STEPS, len(SEEDS)))


def _wider_is_sparser(reporter: Reporter) -> ClaimResult:
    shares = _sparsity(reporter)
    wide, narrow = f"{WIDE} hidden, trained", f"{NARROW} hidden, trained"
    return ClaimResult(
        _told(shares, wide, narrow), _mean(shares, wide) < _mean(shares, narrow), conditions(STEPS, len(SEEDS))
    )


# Digits with wrong labels: an MLP that keeps few values, and one that keeps all.


@functools.cache
def _digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """scikit-learn's digits, 1,437 to train and 360 to test: images ``(n, 1, 8, 8)`` of mean 0 and their classes."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(digits.images / 8.0 - 1.0).float()[:, None]
    labels = torch.from_numpy(digits.target).long()
    test = torch.arange(len(images)) % 5 == 4
    return images[~test], labels[~test], images[test], labels[test]


def _digit_batches(seed: int, wrong_labels: float) -> GeneratedBatches:
    """Batches of digits, a share of whose labels was replaced by a class drawn at random, once and for all."""
    images, labels, _, _ = _digits()
    random = np.random.default_rng(seed)
    wrong = torch.from_numpy(random.random(len(labels)) < wrong_labels)
    labels = torch.where(wrong, torch.from_numpy(random.integers(10, size=len(labels))), labels)

    def draw(generator: torch.Generator) -> Batch:
        chosen = torch.randint(len(labels), (DIGIT_BATCH,), generator=generator)
        return Batch(images[chosen], labels[chosen])

    return GeneratedBatches(draw, seed=seed)


def _classifier(mixer: PartSpec) -> ChainSpec:
    """A Vision Transformer of 16 patches."""
    base = vit(dim=64, depth=2, heads=2, patch_size=2, class_tokens=0, classes=10, channels=1, image_size=8)
    stage = base.stages[0]
    blocks = tuple(
        BlockSpec((block.branches[0], dataclasses.replace(block.branches[1], part=mixer))) for block in stage.blocks
    )
    return dataclasses.replace(base, stages=(dataclasses.replace(stage, blocks=blocks),))


MIXERS = {
    "top-k": part("top_k_mlp", hidden=HIDDEN, k=KEPT),
    "all": part("mlp", hidden=HIDDEN, activation="relu"),
}


def _train_digits(mixer: PartSpec, seed: int, wrong_labels: float, reporter: Reporter) -> dict[str, float]:
    from formwright.training import Progress, Recipe, Trainer

    recipe = Recipe(
        optimizer="adamw", learning_rate=2e-3, weight_decay=0.05, batch_size=DIGIT_BATCH, warmup=50, ema_decay=0.98
    )
    model = new_model(_classifier(mixer), seed)
    trainer = Trainer(model, Classification(), _digit_batches(seed, wrong_labels), recipe, seed=seed)
    trainer.finish_at(DIGIT_STEPS)

    def tell(progress: Progress) -> None:
        reporter.progress(progress.step / DIGIT_STEPS, f"digits, seed {seed}")

    trainer.train(steps=DIGIT_STEPS, on_step=tell)
    trained = trainer.averaged_model()
    _, _, images, labels = _digits()
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    scores: dict[str, float] = {}
    for name, pictures in (("clean", images), ("noisy", images + PIXEL_NOISE * 2 * noise)):
        with torch.inference_mode():
            probabilities = softmax(trained(pictures).double().numpy())
        found = classification_scores(probabilities, labels.numpy())
        scores |= {f"{name} accuracy": found.accuracy, f"{name} calibration error": found.calibration_error}
    return scores


def _digit_scores(wrong_labels: float, reporter: Reporter) -> dict[str, list[dict[str, float]]]:
    runs = [(seed, name) for seed in SEEDS for name in MIXERS]
    scores: dict[str, list[dict[str, float]]] = {name: [] for name in MIXERS}
    for index, (seed, name) in enumerate(runs):
        share = Share(reporter, index, len(runs))
        scores[name].append(_train_digits(MIXERS[name], seed, wrong_labels, share))
    return scores


#: By the share of wrong labels.
_DIGIT_SCORES = {share: once(functools.partial(_digit_scores, share)) for share in (0.0, WRONG_LABELS)}


def _better_on_digits(measure: str, more: bool, wrong_labels: float, reporter: Reporter) -> ClaimResult:
    scores = {name: [run[measure] for run in runs] for name, runs in _DIGIT_SCORES[wrong_labels](reporter).items()}
    told = [
        f"{name} {statistics.mean(values):.1%} ({min(values):.1%} to {max(values):.1%})"
        for name, values in scores.items()
    ]
    few, every = (statistics.mean(scores[name]) for name in ("top-k", "all"))
    labels = f"{wrong_labels:.0%} of the training labels drawn at random" if wrong_labels else "their own labels"
    noise = f"; noise of {PIXEL_NOISE:g} of the pixels' range" if measure.startswith("noisy") else ""
    details = (
        f"digits with {labels}, {DIGIT_STEPS} steps of {DIGIT_BATCH}, {len(SEEDS)} seeds, {KEPT} of {HIDDEN} hidden "
        f"values kept{noise}"
    )
    return ClaimResult(f"{measure}: {'; '.join(told)}", few > every if more else few < every, details)


@torch.inference_mode()
def _faster(reporter: Reporter) -> ClaimResult:
    """Second products of an MLP of 512 channels, with the kept columns and with all."""
    torch.manual_seed(0)
    told, speedups, worst = [], [], 0.0
    mlp = TopKMLP(512, k=128, ratio=4.0).eval()
    for tokens in (1, 256):
        x = torch.randn(1, tokens, 512)
        values, places = mlp.kept(x)
        hidden = torch.zeros(1, tokens, mlp.hidden).scatter(-1, places, values)
        forms = {
            "kept": functools.partial(mlp.weigh_columns, values, places),
            "all": functools.partial(mlp.fc2, hidden),
        }
        worst = max(worst, (forms["kept"]() - forms["all"]()).abs().max().item())
        speedups.append(compare(forms, min_time=2.0).speedup("kept", over="all"))
        told.append(f"{speedups[-1]:.2f} times as fast on {tokens} tokens")
    details = f"128 of 2,048 hidden values, second product alone, float32; largest difference {worst:.1e}"
    return ClaimResult("; ".join(told), min(speedups) > 1 and worst < 1e-5, details)


def top_k_difference(k: int) -> float:
    """Of the part, in training and in inference, from the formula written token by token, in float64."""
    torch.manual_seed(0)
    mlp = TopKMLP(16, k=k, hidden=64).double()
    torch.nn.init.normal_(mlp.fc1.bias)
    x = torch.randn(12, 16, dtype=torch.float64)
    expected = []
    for token in x:
        hidden = mlp.fc1(token).relu()
        least = hidden.sort(descending=True).values[k - 1]
        expected.append(mlp.fc2(hidden * (hidden >= least)))
    difference = mlp(x) - torch.stack(expected)
    with torch.no_grad():
        sparse = mlp(x) - torch.stack(expected)
    return max(difference.abs().max().item(), sparse.abs().max().item())


def _top_k(reporter: Reporter) -> ClaimResult:
    differences = {k: top_k_difference(k) for k in (1, 4, 16, 64)}
    told = ", ".join(f"k = {k}: {difference:.1e}" for k, difference in differences.items())
    return ClaimResult(told, max(differences.values()) <= FLOAT64_TOLERANCE)


CLAIMS: list[Claim] = [
    Claim(
        "top-k",
        "equality",
        "an MLP that keeps the k largest hidden values gives what the formula gives, token by token, in training and "
        "in inference",
        "equal",
        _top_k,
    ),
    Claim(
        "half-active-at-first",
        "count",
        "before training half of the hidden values are not zero, within 2 points",
        "about half",
        _half_at_first,
    ),
    Claim(
        "fewer-with-training",
        "direction",
        "after training less than 35% of the hidden values of a small ReLU decoder are not zero",
        "far fewer",
        _falls,
        slow=True,
    ),
    Claim(
        "below-a-tenth",
        "direction",
        f"after training less than {FEW:.0%} of the hidden values of a small ReLU decoder are not zero",
        "3.0% in T5-Base, 6.3% in ViT-B/16",
        _few_after_training,
        slow=True,
    ),
    Claim(
        "wider-is-sparser",
        "direction",
        f"of {WIDE} hidden channels a smaller share is active than of {NARROW}, after the same training",
        "sparser",
        _wider_is_sparser,
        slow=True,
    ),
    *(
        Claim(
            name,
            "direction",
            f"trained with {'wrong' if wrong_labels else 'right'} labels, an MLP that keeps few hidden values has a "
            f"{'higher' if more else 'lower'} {measure} than one that keeps all",
            "better",
            functools.partial(_better_on_digits, measure, more, wrong_labels),
            slow=True,
        )
        for name, measure, more, wrong_labels in (
            ("robust-to-wrong-labels", "clean accuracy", True, WRONG_LABELS),
            ("better-calibrated", "clean calibration error", False, WRONG_LABELS),
            ("robust-to-noise", "noisy accuracy", True, 0.0),
        )
    ),
    Claim(
        "faster-second-product",
        "measured",
        "a second product with the kept columns alone is faster than the dense one, where a sixteenth is kept",
        "faster",
        _faster,
    ),
]

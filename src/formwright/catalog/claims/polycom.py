"""Claims of polynomial composition activations: sizes, the authors' activations, and losses at equal parameters."""

from __future__ import annotations

import statistics

import numpy as np
import torch
from torch import nn

from formwright.catalog.claim import Claim, ClaimResult
from formwright.catalog.experiments.contest import SEEDS
from formwright.catalog.experiments.texts import IN_TRAINING, small_decoder, spread, text_contest
from formwright.catalog.figures import parameter_claims
from formwright.catalog.reference import FLOAT64_TOLERANCE, fill, images, reference_figures, sample
from formwright.data.array_batches import ArrayBatches
from formwright.nn.activations import build_activation
from formwright.nn.specification import ChainSpec, part
from formwright.objectives import Forecasting
from formwright.reporting import Reporter
from formwright.training import Trainer
from formwright.training.recipe import plain_adam

#: Nats a byte within which two losses are level.
LEVEL = 0.01
#: Hidden channels of a gated MLP; a plain one has half as many again.
HIDDEN = 168


def _plain(activation: str) -> ChainSpec:
    return small_decoder(part("mlp", hidden=HIDDEN * 3 // 2, activation=activation, bias=False))


LOSSES = text_contest(
    {
        "poly_norm": lambda: _plain("poly_norm"),
        "poly_relu": lambda: _plain("poly_relu"),
        "swiglu": lambda: small_decoder(part("glu", hidden=HIDDEN)),
        "gelu": lambda: _plain("gelu"),
        "relu": lambda: _plain("relu"),
    }
)


def output_differences() -> dict[str, float]:
    """Of the activations from the authors', over the standard deviation."""
    differences = {}
    for name, figures in reference_figures("polycom")["outputs"].items():
        activation = build_activation(name).double()
        activation.load_state_dict(
            {leaf: torch.from_numpy(fill(f"{name}.{leaf}", p.shape)) for leaf, p in activation.named_parameters()}
        )
        with torch.inference_mode():
            ours = activation(torch.from_numpy(images(figures["input_shape"], figures["input_seed"])))
        values = np.array(sample(ours.numpy()))
        differences[name] = float(np.abs(values - figures["values"]).max() / figures["std"])
    return differences


def _outputs(reporter: Reporter) -> ClaimResult:
    differences = output_differences()
    measured = ", ".join(f"{name} {difference:.1e}" for name, difference in differences.items())
    return ClaimResult(f"{measured} in float64", max(differences.values()) <= FLOAT64_TOLERANCE)


def _fit_error(activation: str, seed: int, steps: int = 1500) -> float:
    """Root mean squared error of a network of eight hidden units on ``sin(3 x)``."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(1, 8), build_activation(activation), nn.Linear(8, 1))
    x = torch.linspace(-1, 1, 256)[:, None]
    target = torch.sin(3 * x)
    batches = ArrayBatches(x.numpy(), target.numpy(), batch_size=len(x), seed=seed)
    Trainer(network, Forecasting(), batches, plain_adam(0.01, batch_size=len(x)), seed=seed).train(steps=steps)
    with torch.inference_mode():
        return (network(x) - target).square().mean().sqrt().item()


def _sine(reporter: Reporter) -> ClaimResult:
    errors = {name: [_fit_error(name, seed) for seed in SEEDS] for name in ("poly_relu", "relu")}
    means = {name: statistics.mean(values) for name, values in errors.items()}
    return ClaimResult(spread(errors), means["poly_relu"] < means["relu"], "1,500 steps of Adam, 3 seeds, RMSE")


CLAIMS: list[Claim] = [
    # 24 (4 d² + 2 d h + 2 d + 4) + 2 V d + d with d = 2048, h = 8256, V = 32000: the authors' configuration
    *parameter_claims({"polynorm_1b": 1_345_423_456, "polyrelu_1b": 1_345_423_456}),
    Claim(
        "outputs",
        "equality",
        "PolyNorm and PolyReLU give the outputs of BryceZhuo/PolyCom with the same weights (largest difference over "
        f"their standard deviation at most {FLOAT64_TOLERANCE:g})",
        "equal",
        _outputs,
    ),
    LOSSES.claim(
        "lower-loss-than-relu",
        "PolyNorm and PolyReLU both train to a lower loss than ReLU at equal parameters",
        holds=lambda loss: max(loss["poly_norm"], loss["poly_relu"]) < loss["relu"],
        by=IN_TRAINING,
    ),
    LOSSES.claim(
        "not-above-gelu",
        f"PolyNorm trains to a loss at most {LEVEL:g} nats a byte above GELU at equal parameters",
        holds=lambda loss: loss["poly_norm"] <= loss["gelu"] + LEVEL,
        by=IN_TRAINING,
    ),
    LOSSES.claim(
        "not-above-swiglu",
        f"PolyNorm trains to a loss at most {LEVEL:g} nats a byte above SwiGLU at equal parameters",
        holds=lambda loss: loss["poly_norm"] <= loss["swiglu"] + LEVEL,
        by=IN_TRAINING,
    ),
    Claim(
        "sine-fit",
        "direction",
        "eight hidden units with PolyReLU fit sin(3 x) on [-1, 1] with a smaller error than with ReLU",
        "PolyReLU below ReLU",
        _sine,
    ),
]

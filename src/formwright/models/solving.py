"""Linear classifiers by a solver: what finds the weights of the simple competitors."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from formwright.batch import by_length, call
from formwright.models.ridge import ridge, ridge_classifier
from formwright.nn.taps import read_taps

if TYPE_CHECKING:
    from formwright.candidates import Take
    from formwright.models.network import Network

    Values = NDArray[np.float64]

#: Samples that are looked at together.
CHUNK = 64
#: How much errors weigh against the size of the weights, the strongest regularisation first.
STRENGTHS = (0.03, 0.3, 1.0, 4.0, 16.0)
KERNEL_STRENGTHS = (1.0, 10.0, 100.0, 1000.0)
#: Samples that a ridge is found for; its time grows with their square. Beyond, of ten thousand features, each of which
#: may weigh little.
MOST_RIDGE = 3000
ROCKET_STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2)
#: Directions among centres that are noise, by their share of the largest one.
LEAST_EIGENVALUE = 1e-6
#: Of the samples, the share that chooses among them; iterations of the solver.
HELD_OUT, MOST_ITERATIONS = 0.15, 100
#: Values of dense features at most, which bounds the time of the solver; a feature that deviates less is noise.
MOST_VALUES, MOST_ROCKET_VALUES, LEAST_DEVIATION = 16_000_000, 100_000_000, 0.01


def fit_head(model: Network, take: Take, seed: int) -> None:
    """Find the weights of the linear head of a chain on standardised features; those of its backbone stay."""
    network: Any = model
    head = network.head.linear
    inputs, labels = take(max(MOST_VALUES // head.in_features, 1))
    _fit_head(head, _features(network, inputs), labels, seed, STRENGTHS)


def fit_minirocket(model: Network, take: Take, seed: int) -> None:
    """Find the thresholds of a chain that begins with :class:`~formwright.nn.minirocket.MiniRocket`, and its head.

    The head is a ridge classifier up to :data:`MOST_RIDGE` samples, and logistic regression beyond.
    """
    network: Any = model
    head = network.head.linear
    inputs, labels = take(max(MOST_ROCKET_VALUES // head.in_features, 1))
    network.backbone.embed.find_thresholds(inputs, torch.Generator().manual_seed(seed))
    features = _features(network, inputs)
    if len(labels) > MOST_RIDGE:
        _fit_head(head, features, labels, seed, ROCKET_STRENGTHS)
        return
    mean, deviation = features.mean(0), np.maximum(features.std(0), LEAST_DEVIATION)
    _set_head(head, *ridge_classifier((features - mean) / deviation, labels, len(head.weight)), mean, deviation)


def fit_ridge(model: Network, take: Take, seed: int) -> None:
    """Find the linear head of a chain that gives numbers, by a ridge on standardised features."""
    network: Any = model
    inputs, numbers = take(max(MOST_VALUES // network.head.linear.in_features, 1))
    _fit_ridge(network, inputs, numbers)


def fit_minirocket_ridge(model: Network, take: Take, seed: int) -> None:
    """As :func:`fit_minirocket`, for numbers: with a ridge."""
    network: Any = model
    inputs, numbers = take(MOST_RIDGE)
    network.backbone.embed.find_thresholds(inputs, torch.Generator().manual_seed(seed))
    _fit_ridge(network, inputs, numbers)


def _fit_ridge(network: Any, inputs: Tensor, numbers: NDArray[Any]) -> None:
    features = _features(network, inputs)
    mean, deviation = features.mean(0), np.maximum(features.std(0), LEAST_DEVIATION)
    found = ridge((features - mean) / deviation, numbers.astype(np.float64))
    _set_head(network.head.linear, found.weight.T, found.bias, mean, deviation)


def _fit_head(
    head: Any, features: NDArray[np.float32], labels: NDArray[np.int64], seed: int, strengths: Sequence[float]
) -> None:
    mean, deviation = features.mean(0), np.maximum(features.std(0), LEAST_DEVIATION)
    standard, back = _few_directions((features - mean) / deviation)
    weight, bias = logistic_regression(standard, labels, len(head.weight), seed=seed, strengths=strengths)
    if back is not None:
        weight = weight @ back
    _set_head(head, weight, bias, mean, deviation)


def _set_head(head: Any, weight: Values, bias: Values, mean: Any, deviation: Any) -> None:
    """Give a linear layer the weights that were found for standardised features."""
    weight = weight / deviation
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias - weight @ mean))


def _features(network: Any, inputs: Tensor) -> NDArray[np.float32]:
    """What the head's linear layer sees of each sample."""
    order, found = [], []
    with torch.inference_mode(), read_taps(network, "head.linear:input") as values:
        for chosen, chunk in by_length(network, inputs, CHUNK):
            call(network, chunk)
            order.append(chosen)
            found.append(values["head.linear:input"].flatten(1))
    return torch.cat(found).float()[torch.cat(order).argsort()].numpy()


def _few_directions(features: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float64] | None]:
    """The samples in an orthonormal basis of what they span, where that is less than all, and the way back.

    Weights of the smallest length lie in that span, so nothing changes but the time that a solver takes.
    """
    if len(features) >= features.shape[1]:
        return features, None
    values, vectors = np.linalg.eigh((features @ features.T).astype(np.float64))
    kept = values > LEAST_EIGENVALUE * values.max()
    roots = np.sqrt(values[kept])
    return (vectors[:, kept] * roots).astype(np.float32), (vectors[:, kept] / roots).T @ features


def fit_kernel(model: Network, take: Take, seed: int) -> None:
    """Find the centres and the linear head of a chain with one :class:`~formwright.nn.plain_features.RadialBasis`.

    Kernel logistic regression: centres are samples, and the scale is ``1 / (features * variance)``. With the kernel
    ``K`` among the centres, the head learns from ``K^(-1/2) y``, whose products are the kernel's.

    Source: Using the Nystroem Method to Speed Up Kernel Machines, NeurIPS 2000.
    """
    network: Any = model
    head, basis, embed = network.head.linear, network.backbone.stages[0].downsample, network.backbone.embed
    inputs, labels = take(max(MOST_VALUES // max(basis.centres.shape), 1))
    with torch.no_grad():
        plain = torch.cat([embed(chunk)[0].flatten(1) for chunk in torch.split(inputs, 256)])
        chosen = np.random.default_rng(seed).permutation(len(plain))[: len(basis.centres)]
        basis.centres.zero_()[: len(chosen)].copy_(plain[torch.from_numpy(chosen)])
        basis.scale.fill_(1 / (plain.shape[1] * float(plain.var())))
        near = torch.cat([basis(chunk)[0] for chunk in torch.split(plain, 1024)]).double().numpy()
        values, vectors = np.linalg.eigh(basis(basis.centres)[0].double().numpy())
    kept = values > LEAST_EIGENVALUE * values.max()
    root = (vectors[:, kept] / np.sqrt(values[kept])) @ vectors[:, kept].T
    features = (near @ root).astype(np.float32)
    weight, bias = logistic_regression(features, labels, len(head.weight), seed=seed, strengths=KERNEL_STRENGTHS)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight @ root))
        head.bias.copy_(torch.from_numpy(bias))


def logistic_regression(
    features: Any,
    labels: NDArray[np.int64],
    classes: int,
    *,
    seed: int,
    strengths: Sequence[float] = STRENGTHS,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights ``(classes, features)`` and biases ``(classes,)`` of multinomial logistic regression.

    Minimises ``sum_i log_loss_i + |W|^2 / (2 C)``. A class without samples has a bias that makes its probability
    nothing.

    Args:
        features: ``(samples, features)``, dense or sparse.
        labels: the class of each sample.
        classes: how many there are.
        seed: of which samples are held out.
        strengths: what ``C`` may be, rising: the one with the smallest log loss on samples that are held out is taken,
            and none after the first with a larger one is tried.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    held, rest = np.split(order, [int(HELD_OUT * len(order))])
    strength = strengths[len(strengths) // 2]
    if len(held) and len(np.unique(labels[rest])) == len(np.unique(labels)):
        strength = _best_strength(features, labels, rest, held, strengths)
    model = _fitted(features, labels, strength)
    weight = np.zeros((classes, features.shape[1]))
    bias = np.full(classes, -100.0)
    if len(model.classes_) == 2:  # scikit-learn keeps the difference of two scores
        weight[model.classes_] = np.concatenate([-model.coef_, model.coef_]) / 2
        bias[model.classes_] = np.concatenate([-model.intercept_, model.intercept_]) / 2
    else:
        weight[model.classes_], bias[model.classes_] = model.coef_, model.intercept_
    return weight, bias


def _best_strength(
    features: Any,
    labels: NDArray[np.int64],
    rest: NDArray[np.int64],
    held: NDArray[np.int64],
    strengths: Sequence[float],
) -> float:
    from sklearn.metrics import log_loss

    best, least, start = strengths[0], np.inf, None
    for strength in strengths:
        start = _fitted(features[rest], labels[rest], strength, start)
        loss = log_loss(labels[held], start.predict_proba(features[held]), labels=start.classes_)
        if loss >= least:
            break
        best, least = strength, loss
    return best


def _fitted(features: Any, labels: NDArray[np.int64], strength: float, start: Any = None) -> Any:
    """scikit-learn's model, from the weights of ``start`` on if there is one."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = start or LogisticRegression(max_iter=MOST_ITERATIONS, warm_start=True)
    model.set_params(C=strength)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features, labels)
    return model

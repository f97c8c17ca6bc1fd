"""Linear classifiers by a solver: what finds the weights of the simple competitors."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from formwright.candidates import Take
    from formwright.models.network import Network

#: How much errors weigh against the size of the weights, the strongest regularisation first.
STRENGTHS = (0.03, 0.3, 1.0, 4.0, 16.0)
#: Of the samples, the share that chooses among them; iterations of the solver.
HELD_OUT, MOST_ITERATIONS = 0.15, 100
#: Values of dense features at most, which bounds the time of the solver; a feature that deviates less is noise.
MOST_VALUES, LEAST_DEVIATION = 16_000_000, 0.01


def fit_head(model: Network, take: Take, seed: int) -> None:
    """Find the weights of the linear head of a chain whose backbone has none, on standardised features."""
    network: Any = model
    head, dim = network.head.linear, network.backbone.dim
    inputs, labels = take(max(MOST_VALUES // dim, 1))
    with torch.inference_mode():
        features = torch.cat([network.backbone(chunk)[0].flatten(1) for chunk in inputs.split(256)]).numpy()
    mean, deviation = features.mean(0), np.maximum(features.std(0), LEAST_DEVIATION)
    weight, bias = logistic_regression((features - mean) / deviation, labels, len(head.weight), seed=seed)
    weight /= deviation
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias - weight @ mean))


def logistic_regression(
    features: Any, labels: NDArray[np.int64], classes: int, *, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights ``(classes, features)`` and biases ``(classes,)`` of multinomial logistic regression.

    Minimises ``sum_i log_loss_i + |W|^2 / (2 C)``. ``C`` is the one of :data:`STRENGTHS` with the smallest log loss on
    samples that are held out; from strong to weak regularisation, until it rises. A class without samples has a bias
    that makes its probability nothing.

    Args:
        features: ``(samples, features)``, dense or sparse.
        labels: the class of each sample.
        classes: how many there are.
        seed: of which samples are held out.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    held, rest = np.split(order, [int(HELD_OUT * len(order))])
    strength = STRENGTHS[2]
    if len(held) and len(np.unique(labels[rest])) == len(np.unique(labels)):
        strength = _best_strength(features, labels, rest, held)
    model = _fitted(features, labels, strength)
    weight = np.zeros((classes, features.shape[1]))
    bias = np.full(classes, -100.0)
    if len(model.classes_) == 2:  # scikit-learn keeps the difference of two scores
        weight[model.classes_] = np.concatenate([-model.coef_, model.coef_]) / 2
        bias[model.classes_] = np.concatenate([-model.intercept_, model.intercept_]) / 2
    else:
        weight[model.classes_], bias[model.classes_] = model.coef_, model.intercept_
    return weight, bias


def _best_strength(features: Any, labels: NDArray[np.int64], rest: NDArray[np.int64], held: NDArray[np.int64]) -> float:
    from sklearn.metrics import log_loss

    best, least, start = STRENGTHS[0], np.inf, None
    for strength in STRENGTHS:
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

"""Temperature scaling and calibration errors of classifiers."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

CALIBRATION_BINS: Final = 15
_LOG_TEMPERATURE_BOUNDS: Final = (-5.0, 7.0)


def fit_temperature(
    logits: NDArray[np.floating], labels: NDArray[np.int64], weights: NDArray[np.floating] | None = None
) -> float:
    """Fit the temperature T that minimises the cross-entropy of softmax(logits / T).

    Args:
        logits: shape (n, C), n > 0.
        labels: class indices, shape (n,).
        weights: of the examples, shape (n,); ``None``: they are equal.

    Returns:
        T, between e^-5 and e^7; 1 if a logit is not finite.

    Source: Guo et al., "On Calibration of Modern Neural Networks", 2017, arXiv 1706.04599.
    """
    if not np.isfinite(logits).all():
        return 1.0
    from scipy.optimize import minimize_scalar  # slow to import

    below = logits.astype(np.float64)
    below -= below.max(1, keepdims=True)  # at most 0, and 0 once: no sum of exponentials over- or underflows
    of_label = below[np.arange(len(labels)), labels]

    def nll(log_temperature: float) -> float:
        factor = np.exp(-log_temperature)
        terms = np.log(np.exp(below * factor).sum(1)) - of_label * factor
        return float((terms if weights is None else weights * terms).mean())

    found = minimize_scalar(nll, bounds=_LOG_TEMPERATURE_BOUNDS, method="bounded", options={"xatol": 1e-3})
    return float(np.exp(found.x))


def class_weights(labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Weights of the examples, of mean 1, that give each class that occurs the same total.

    Args:
        labels: class indices, shape (n,).

    Returns:
        The weights, shape (n,).
    """
    counts = np.bincount(labels)
    weights: NDArray[np.float64] = len(labels) / (np.count_nonzero(counts) * counts[labels])
    return weights


def cross_entropies(
    logits: NDArray[np.floating], labels: NDArray[np.int64], weights: NDArray[np.floating], *, scaled: bool
) -> tuple[NDArray[np.float64], float]:
    """Compute the weighted cross-entropy of each example.

    Args:
        logits: shape (n, C).
        labels: class indices, shape (n,).
        weights: of the examples, shape (n,).
        scaled: whether the logits are divided by the temperature that minimises the mean.

    Returns:
        The cross-entropies in nats times the weights, shape (n,), infinite if a logit is not finite; and the
        temperature, 1 if the logits are not scaled.
    """
    from scipy.special import log_softmax

    if not np.isfinite(logits).all():
        return np.full(len(labels), np.inf), 1.0
    temperature = fit_temperature(logits, labels, weights) if scaled else 1.0
    log_p = log_softmax(logits.astype(np.float64) / temperature, axis=1)
    return -weights * log_p[np.arange(len(labels)), labels], temperature


def calibration_error(
    confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = CALIBRATION_BINS
) -> float:
    """Compute the expected calibration error: the mean distance of accuracy from confidence over confidence bins.

    Args:
        confidence: shape (n,), in [0, 1].
        correct: shape (n,).
        bins: number of equally wide bins over [0, 1].

    Returns:
        The error, in [0, 1]; each bin counts by its share of the examples.

    Source: Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015; Guo et al. 2017.
    """
    which = np.clip(np.ceil(confidence.astype(np.float64) * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(which, weights=correct - confidence.astype(np.float64), minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))

"""What a trained classifier is judged by: accuracy, cross-entropy, calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

CALIBRATION_BINS = 15
_LOG_TEMPERATURE_BOUNDS = (-5.0, 7.0)


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What a model said of each example, before and after temperature scaling.

    Args:
        index: row numbers in the data set, int64 (n,).
        label: class indices, int64 (n,).
        predicted: the class with the largest logit, int64 (n,).
        nll: cross-entropy of the label in nats, float32 (n,).
        confidence: largest softmax probability, float32 (n,).
        nll_scaled: cross-entropy after temperature scaling, float32 (n,).
        confidence_scaled: largest probability after temperature scaling, float32 (n,).
    """

    index: NDArray[np.int64]
    label: NDArray[np.int64]
    predicted: NDArray[np.int64]
    nll: NDArray[np.float32]
    confidence: NDArray[np.float32]
    nll_scaled: NDArray[np.float32]
    confidence_scaled: NDArray[np.float32]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each prediction is right, (n,)."""
        return np.asarray(self.predicted == self.label)

    @property
    def balanced_accuracy(self) -> float:
        """The mean over the classes present of the accuracy on each."""
        of_class = np.bincount(self.label)
        right = np.bincount(self.label, weights=self.correct)
        return float((right[of_class > 0] / of_class[of_class > 0]).mean())


def outcomes(
    logits: NDArray[np.floating], labels: NDArray[np.int64], index: NDArray[np.int64], temperature: float
) -> Outcomes:
    """Judge logits example by example.

    Args:
        logits: shape (n, C).
        labels: class indices, shape (n,).
        index: row numbers in the data set, shape (n,).
        temperature: what to divide the logits by for the scaled columns, > 0.

    Returns:
        The outcomes; rows with a non-finite logit count as class 0 with infinite cross-entropy and confidence 1.
    """
    bad = ~np.isfinite(logits).all(1)
    plain = log_softmax(np.where(bad[:, None], 0.0, logits).astype(np.float64), axis=1)
    scaled = log_softmax(plain / temperature, axis=1)
    rows = np.arange(len(labels))

    def nll(log_p: NDArray[np.float64]) -> NDArray[np.float32]:
        with np.errstate(over="ignore"):  # logits near float32's largest number: infinite in float32
            return np.where(bad, np.inf, -log_p[rows, labels]).astype(np.float32)

    def confidence(log_p: NDArray[np.float64]) -> NDArray[np.float32]:
        return np.where(bad, 1.0, np.exp(log_p.max(1))).astype(np.float32)

    return Outcomes(
        index, labels, plain.argmax(1), nll(plain), confidence(plain), nll(scaled), confidence(scaled)
    )  # fmt: skip


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """The temperature T that minimises the cross-entropy of softmax(logits / T).

    Args:
        logits: shape (n, C), n > 0.
        labels: class indices, shape (n,).

    Returns:
        T, between e^-5 and e^7; 1 if a logit is not finite.

    Source: Guo et al., "On Calibration of Modern Neural Networks", 2017, arXiv 1706.04599.
    """
    if not np.isfinite(logits).all():
        return 1.0
    log_p = log_softmax(logits.astype(np.float64), axis=1)
    rows = np.arange(len(labels))

    def nll(log_temperature: float) -> float:
        return float(-log_softmax(log_p * np.exp(-log_temperature), axis=1)[rows, labels].mean())

    found = minimize_scalar(nll, bounds=_LOG_TEMPERATURE_BOUNDS, method="bounded", options={"xatol": 1e-3})
    return float(np.exp(found.x))


def calibration_error(
    confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = CALIBRATION_BINS
) -> float:
    """Expected calibration error: mean distance of accuracy from confidence over equally wide confidence bins.

    Args:
        confidence: shape (n,), in [0, 1].
        correct: shape (n,).
        bins: number of bins over [0, 1].

    Returns:
        The error, in [0, 1]; bins count by their share of the examples.

    Source: Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015; Guo et al. 2017.
    """
    which = np.clip(np.ceil(confidence.astype(np.float64) * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(which, weights=correct - confidence.astype(np.float64), minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))

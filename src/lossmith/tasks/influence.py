"""Metrics of a whole part of the data as one value per unit, so that means, variances and pairing work as for accuracy.

The value of unit i is the metric plus i's influence on it: the derivative of the metric with respect to the weight of
i, times the number of units n. The values average to the metric exactly, and their variance over n estimates the
variance of the metric over test sets; likewise for the difference of two models, unit by unit.

Source: Jaeckel, "The infinitesimal jackknife", 1972; for the AUC it is the method of DeLong et al., "Comparing the
areas under two or more correlated receiver operating characteristic curves", Biometrics 44, 1988.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Labels = NDArray[np.integer]

MOST_BLOCKS: Final = 200
"""How many times `jackknife` evaluates a metric at most."""


def balanced_accuracy(label: Labels, predicted: Labels) -> Values:
    """The balanced accuracy, the mean recall of the classes present, as one value per unit.

    Within each class the influence is scaled by sqrt(m / (m - 1)), m units, so that the variance of a recall is
    unbiased.

    Args:
        label: true classes, (n,).
        predicted: predicted classes, (n,).

    Returns:
        Shape (n,).
    """
    _, of, count = np.unique(label, return_inverse=True, return_counts=True)
    right = (label == predicted).astype(np.float64)
    recall = np.bincount(of, weights=right) / count
    influence = label.size / (count.size * count[of]) * _unbiased(count)[of] * (right - recall[of])
    return np.asarray(recall.mean() + influence)


def macro_f1(label: Labels, predicted: Labels) -> Values:
    """The F1 score averaged over the classes present among the labels, as one value per unit.

    A class has F1 = 2 TP / (P + Q), where P units are predicted to be of it and Q are.

    Args:
        label: true classes, (n,).
        predicted: predicted classes, (n,).

    Returns:
        Shape (n,).
    """
    classes, actual = np.unique(label, return_counts=True)
    metric, influence = 0.0, np.zeros(label.size)
    for each, count in zip(classes, actual, strict=True):
        is_of, said = label == each, predicted == each
        both = is_of & said
        total = count + said.sum()
        f1 = 2 * both.sum() / total
        metric += f1
        influence += label.size / total * (2.0 * both - f1 * (is_of.astype(np.float64) + said))
    return np.asarray((metric + influence) / classes.size)


def auc(label: Labels, scores: NDArray[np.floating]) -> Values:
    """The area under the ROC curve, each class against the rest and averaged over classes, as one value per unit.

    With two classes both have the same. Units of one score count half against each other. The influence of a positive
    unit comes from the share of the negatives that score less, that of a negative from the share of positives that
    score more (DeLong's placement values).

    Args:
        label: true classes, (n,).
        scores: for each class, increasing in its probability, (n, C); infinite values are fine, NaN is not.

    Returns:
        Shape (n,); 1/2 everywhere if fewer than two classes are present.
    """
    kept = [c for c in np.unique(label).tolist() if (label != c).any()]
    if not kept:
        return np.full(label.size, 0.5)
    if scores.shape[1] == 2:
        kept = [1]
    return np.asarray(np.mean([_binary_auc(label == c, scores[:, c]) for c in kept], axis=0))


def average_precision(label: Labels, scores: NDArray[np.floating], classes: list[int]) -> Values:
    """The average precision of each class against the rest, averaged over classes, as one value per unit.

    Of a class with m units it is the mean, over them, of the precision among all units that score as much or more. Its
    influence has the part that a unit contributes itself, and what it changes in the precision of others.

    Args:
        label: true classes, (n,).
        scores: for each class, increasing in its probability, (n, C); infinite values are fine, NaN is not.
        classes: the classes to average over; those that are absent are left out.

    Returns:
        Shape (n,); 0 everywhere if all of them are absent.
    """
    kept = [c for c in classes if (label == c).any()]
    if not kept:
        return np.zeros(label.size)
    return np.asarray(np.mean([_binary_average_precision(label == c, scores[:, c]) for c in kept], axis=0))


def jackknife(metric: Callable[[NDArray[np.intp]], float], n: int, whole: float) -> Values:
    """Any metric as one value per unit, by leaving out one block of units at a time.

    Up to 200 units each is a block of its own. Else there are 200 blocks of units drawn at random, the same for every
    model; the pseudo-value of a block of m units, relative to the metric, is multiplied by sqrt(m) for each of its
    units, so that the variance over units still estimates that of the metric.

    Args:
        metric: of the units with these numbers.
        n: number of units, at least 2.
        whole: the metric of all units.

    Returns:
        Shape (n,).

    Source: Busing, Meijer and van der Leeden, "Delete-m jackknife for unequal m", Statistics and Computing 9, 1999.
    """
    blocks = np.array_split(np.random.default_rng(0).permutation(n), min(n, MOST_BLOCKS))
    deviation = np.empty(n)
    for block in blocks:
        without = metric(np.setdiff1d(np.arange(n), block, assume_unique=True))
        # h W - (h - 1) L is the pseudo-value, with h = n / m blocks of this size; less W it is (h - 1) (W - L).
        deviation[block] = math.sqrt(len(block)) * (n / len(block) - 1) * (whole - without)
    return np.asarray(whole + deviation - deviation.mean())


def _binary_auc(positive: NDArray[np.bool_], score: NDArray[np.floating]) -> Values:
    of, at, all_at = _counts(positive, score)
    m, n = int(at.sum()), len(positive)
    others = all_at - at
    less, more = others.cumsum() - others, m - at.cumsum()  # others below each score, positives above it
    placement = np.where(positive, (2 * less + others)[of] / (2 * (n - m)), (2 * more + at)[of] / (2 * m))
    area = float(placement[positive].mean())
    count = np.where(positive, m, n - m)
    return np.asarray(area + n / count * _unbiased(count) * (placement - area))


def _counts(
    positive: NDArray[np.bool_], score: NDArray[np.floating]
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.intp]]:
    """The place of each unit among the distinct scores, ascending; positives, and all units, at each place."""
    _, of = np.unique(score, return_inverse=True)
    return of, np.bincount(of, weights=positive).astype(np.float64), np.bincount(of)


def _binary_average_precision(positive: NDArray[np.bool_], score: NDArray[np.floating]) -> Values:
    of, at, all_at = _counts(positive, score)
    hits, reached = (counts[::-1].cumsum()[::-1] for counts in (at, all_at))  # with this score or a higher one
    precision = hits / reached
    m, n = at.sum(), len(positive)
    area = float(at @ precision / m)
    # A unit is among those that reach each score up to its own, and changes the precision of the positives there.
    raised, lowered = (at / reached).cumsum(), (at * hits / reached**2).cumsum()
    own = positive * (precision[of] - area + raised[of])
    return np.asarray(area + n / m * (own - lowered[of]))


def _unbiased(count: NDArray[np.integer]) -> Values:
    """The factor that makes a variance over so many units unbiased; 1 for a single one, whose variance is unknown."""
    return np.asarray(np.sqrt(count / np.maximum(count - 1, 1)))

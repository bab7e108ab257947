"""Metrics as one value per unit: means against scikit-learn, variances against brute force."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score, roc_auc_score

from lossmith.tasks.influence import auc, average_precision, balanced_accuracy, jackknife, macro_f1

Array = NDArray[np.float64]
SHARES = {2: (0.88, 0.12), 3: (0.6, 0.25, 0.15)}


def draw(rng: np.random.Generator, n: int, classes: int) -> tuple[NDArray[np.int64], Array, Array]:
    """Labels, and the probabilities of two models of different worth that err alike on many units."""
    label = rng.choice(classes, p=SHARES[classes], size=n)
    shared = rng.normal(size=(n, classes))
    models = []
    for signal in (1.3, 0.9):
        z = shared + 0.6 * rng.normal(size=(n, classes))
        z[np.arange(n), label] += signal
        models.append(np.exp(z) / np.exp(z).sum(1, keepdims=True))
    return label, models[0], models[1]


def positives(classes: int) -> list[int]:
    return [1] if classes == 2 else list(range(classes))


METRICS: dict[str, Callable[[NDArray[np.int64], Array], Array]] = {
    "balanced accuracy": lambda label, p: balanced_accuracy(label, p.argmax(1)),
    "macro F1": lambda label, p: macro_f1(label, p.argmax(1)),
    "AUC": auc,
    "average precision": lambda label, p: average_precision(label, p, positives(p.shape[1])),
    "macro F1 by jackknife": lambda label, p: jackknife(
        lambda rows: float(macro_f1(label[rows], p[rows].argmax(1)).mean()),
        len(label),
        float(macro_f1(label, p.argmax(1)).mean()),
    ),
}


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("digits", [15, 1])
def test_the_values_average_to_the_metric(classes: int, digits: int) -> None:
    """As scikit-learn has it, with ties too."""
    label, p, _ = draw(np.random.default_rng(classes), 400, classes)
    p = p.round(digits)
    p /= p.sum(1, keepdims=True)
    scores = p[:, 1] if classes == 2 else p
    of_interest = label if classes == 2 else np.eye(classes)[label]
    expected = {
        "balanced accuracy": balanced_accuracy_score(label, p.argmax(1)),
        "macro F1": f1_score(label, p.argmax(1), average="macro"),
        "macro F1 by jackknife": f1_score(label, p.argmax(1), average="macro"),
        "AUC": roc_auc_score(label, scores, multi_class="ovr"),
        "average precision": average_precision_score(of_interest, scores),
    }
    for name, metric in METRICS.items():
        assert metric(label, p).mean() == pytest.approx(expected[name], abs=1e-12), name


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("metric", [name for name in METRICS if "jackknife" not in name])
def test_the_variance_of_a_difference_is_that_over_test_sets(metric: str, classes: int) -> None:
    """Brute force: the difference of two models on 600 test sets of 300 units, each with its own interval."""
    rng = np.random.default_rng(7)
    differences, variances = [], []
    for _ in range(600):
        label, a, b = draw(rng, 300, classes)
        d = METRICS[metric](label, a) - METRICS[metric](label, b)
        differences.append(d.mean())
        variances.append(d.var(ddof=1) / len(d))
    truth = np.mean(differences)
    assert np.mean(variances) / np.var(differences, ddof=1) == pytest.approx(1, abs=0.2)
    covered = np.abs(differences - truth) < 1.96 * np.sqrt(variances)
    assert 0.92 < covered.mean() < 0.975


def test_an_influence_is_the_slope_against_the_weight_of_a_unit() -> None:
    """Scikit-learn's metrics take weights; finite differences of theirs."""
    label, p, _ = draw(np.random.default_rng(1), 80, 2)
    p, step = p.round(1), 1e-6
    metrics: dict[str, Callable[[Array], float]] = {
        "AUC": lambda w: roc_auc_score(label, p[:, 1], sample_weight=w),
        "average precision": lambda w: average_precision_score(label, p[:, 1], sample_weight=w),
        "macro F1": lambda w: f1_score(label, p.argmax(1), average="macro", sample_weight=w),
        "balanced accuracy": lambda w: balanced_accuracy_score(label, p.argmax(1), sample_weight=w),
    }
    unbiased = np.sqrt(np.bincount(label) / (np.bincount(label) - 1))[label]
    for name, weighted in metrics.items():
        values = METRICS[name](label, p)
        factor = unbiased if name in {"AUC", "balanced accuracy"} else np.ones(80)
        for i in (0, 17, 40, int(label.argmax())):
            weights = np.ones(80)
            weights[i] += step
            slope = 80 * (weighted(weights) - weighted(np.ones(80))) / step
            assert values[i] - values.mean() == pytest.approx(factor[i] * slope, abs=1e-3), name


def test_the_variance_of_an_auc_is_delongs() -> None:
    """S10 / m + S01 / n of two correlated curves, from all pairs of a positive and a negative."""
    label, *models = draw(np.random.default_rng(2), 60, 2)
    pairs = [
        (p[label == 1, 1][:, None] > p[label == 0, 1]) + 0.5 * (p[label == 1, 1][:, None] == p[label == 0, 1])
        for p in models
    ]
    s10 = np.cov([pair.mean(1) for pair in pairs])
    s01 = np.cov([pair.mean(0) for pair in pairs])
    expected = s10 / (label == 1).sum() + s01 / (label == 0).sum()
    values = np.stack([auc(label, p) for p in models])
    assert np.cov(values, ddof=0) / 60 == pytest.approx(expected)


def test_scores_may_be_infinite_and_classes_absent() -> None:
    certain = np.array([[0.0, -np.inf], [-np.inf, 0.0], [-1.0, -0.5]])
    label = np.array([0, 1, 1])
    assert auc(label, certain).mean() == 1
    assert average_precision(label, certain, [1]).mean() == 1
    alone = np.zeros(3, dtype=np.int64)
    assert auc(alone, certain).tolist() == [0.5] * 3
    assert average_precision(alone, certain, [1]).tolist() == [0] * 3
    three = np.array([[0.7, 0.2, 0.1], [0.3, 0.5, 0.2]])
    assert auc(np.array([0, 1]), three).mean() == 1


@pytest.mark.parametrize("n", [50, 200])
def test_the_jackknife_of_a_mean_is_each_value(n: int) -> None:
    x = np.random.default_rng(3).normal(size=n)
    assert jackknife(lambda rows: x[rows].mean(), n, x.mean()) == pytest.approx(x)


def test_blocks_keep_the_variance() -> None:
    """1,030 units in 200 blocks of 5 or 6: the mean exactly, the variance on average over samples."""
    rng = np.random.default_rng(4)
    ratios = []
    for _ in range(30):
        x = rng.exponential(size=1030)
        values = jackknife(lambda rows, x=x: x[rows].mean(), 1030, x.mean())
        assert values.mean() == pytest.approx(x.mean())
        ratios.append(values.var() / x.var())
    assert np.mean(ratios) == pytest.approx(1, abs=0.06)


def test_the_jackknife_agrees_with_the_influence() -> None:
    label, p, _ = draw(np.random.default_rng(5), 200, 3)
    exact, by_leaving_out = (METRICS[name](label, p) for name in ("macro F1", "macro F1 by jackknife"))
    assert by_leaving_out - exact == pytest.approx(0, abs=0.1 * exact.std())

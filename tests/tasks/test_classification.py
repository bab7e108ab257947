from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score, log_loss

from lossmith.data import Examples
from lossmith.tasks import Classification, Judged
from lossmith.tasks.calibration import calibration_error, fit_temperature

RNG = np.random.default_rng(0)


def sample(scale: float, n: int = 4000, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from softmax(z), and logits scale * z."""
    z = RNG.normal(size=(n, classes)) * 2
    labels = np.array([RNG.choice(classes, p=p) for p in softmax(z, axis=1)])
    return scale * z, labels


def judge(logits: np.ndarray, labels: np.ndarray, valid: np.ndarray | None = None) -> Judged:
    """What is known of each example, at the temperature that fits the validation logits, or these."""
    task = Classification(tuple(map(str, range(logits.shape[1]))))

    def part(outputs: np.ndarray) -> Judged:
        index = torch.arange(len(outputs))
        examples = Examples(index, torch.tensor(labels), index)
        halves = slice(0, len(outputs) // 2), slice(len(outputs) // 2, None)
        rows = [Examples(index[of], examples.targets[of], index[of]) for of in halves]
        return Judged.join([task.judge(torch.tensor(outputs[of]), row) for of, row in zip(halves, rows, strict=True)])

    judged = task.conclude(part(logits if valid is None else valid), part(logits))[1]
    assert judged is not None
    return judged


@pytest.mark.parametrize("scale", [0.2, 1.0, 6.0])
def test_the_temperature_undoes_a_scaling_of_calibrated_logits(scale: float) -> None:
    logits, labels = sample(scale)
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(scale, rel=0.1)
    judged = judge(logits, labels)
    errors = Classification(("",) * 5).columns(judged)
    assert errors["ece_scaled"] < 0.03
    if scale != 1:
        assert errors["ece"] > 0.1


def test_outcomes_agree_with_scikit_learn() -> None:
    logits, labels = sample(1.5)
    judged, task = judge(logits, labels), Classification(("",) * 5)
    by_half = softmax(logits / fit_temperature(logits, labels), axis=1)
    told = task.metrics(judged) | task.columns(judged)
    assert told["nll"] == pytest.approx(log_loss(labels, softmax(logits, axis=1)), rel=1e-5)
    assert told["nll_scaled"] == pytest.approx(log_loss(labels, by_half), rel=1e-5)
    assert told["accuracy"] == pytest.approx((logits.argmax(1) == labels).mean())
    assert told["balanced accuracy"] == pytest.approx(balanced_accuracy_score(labels, logits.argmax(1)))
    assert (judged.index == np.arange(len(labels))).all()
    assert judged.columns["confidence"] == pytest.approx(softmax(logits, axis=1).max(1), rel=1e-5)


def test_calibration_error_of_a_coin() -> None:
    """Always sure and right half of the time: off by one half; half sure: not off at all."""
    correct = np.array([True, False] * 50)
    assert calibration_error(np.ones(100), correct) == pytest.approx(0.5)
    assert calibration_error(np.full(100, 0.5), correct) == pytest.approx(0.0)


def test_errors_within_a_bin_cancel_and_between_bins_do_not() -> None:
    """By hand: bins of .2; (.9, right), (.9, wrong) -> |1 - 1.8|; (.3, right) -> .7; over three examples."""
    error = calibration_error(np.array([0.9, 0.9, 0.3]), np.array([True, False, True]), bins=5)
    assert error == pytest.approx((0.8 + 0.7) / 3)


def test_a_diverged_row_is_wrong_and_sure() -> None:
    logits = np.array([[0.0, np.nan], [0.0, 3.0]])
    judged = judge(logits, np.array([1, 1]))
    assert judged.score.tolist() == [0, 1]
    assert np.isinf(judged.columns["nll"][0])
    assert judged.columns["confidence"][0] == 1
    assert fit_temperature(logits, np.array([1, 1])) == 1.0


def test_a_cross_entropy_beyond_float32_is_infinite() -> None:
    logits = np.array([[-3e38, 3e38]], dtype=np.float32)
    judged = judge(np.repeat(logits, 2, 0), np.array([0, 0]))
    assert np.isinf(judged.columns["nll"]).all()
    assert (judged.columns["predicted"] == 1).all()
    assert (judged.columns["confidence"] == 1.0).all()


def test_balanced_scores_average_to_balanced_accuracy_over_all_folds() -> None:
    rng = np.random.default_rng(4)
    labels = rng.choice([0, 2, 7], p=[0.9, 0.08, 0.02], size=300)
    predictions = np.where(rng.random((3, 300)) < 0.8, labels, 0)

    def part(of: slice) -> list[Judged]:
        label = labels[of]
        return [
            Judged(label, (row[of] == label).astype(float), {"label": label, "predicted": row[of]})
            for row in predictions
        ]

    folds = [part(slice(0, 120)), part(slice(120, 300))]
    scores = Classification(("",) * 8).unit_scores(folds, "balanced accuracy")
    assert [fold.shape for fold in scores] == [(3, 120), (3, 180)]
    oracle = [balanced_accuracy_score(labels, row) for row in predictions]
    assert np.concatenate(scores, axis=1).mean(axis=1).tolist() == pytest.approx(oracle)


def test_balanced_scores_by_hand() -> None:
    """Over both folds class 0 has 3 of 8 units, 2 of them right, class 1 has 5, 4 of them right.

    A unit's influence on a recall that counts half is (right - recall) / m * 8 / 2 with its class of m units, and the
    square root of m / (m - 1) makes its variance unbiased.
    """
    label, predicted = np.array([0, 0, 0, 1]), np.array([0, 1, 0, 1])
    first = Judged(np.arange(4), np.array([1.0, 0, 1, 1]), {"label": label, "predicted": predicted})
    ones, predicted = np.ones(4, dtype=int), np.array([1, 1, 0, 1])
    second = Judged(np.arange(4), np.array([1.0, 1, 0, 1]), {"label": ones, "predicted": predicted})
    scores = Classification(("a", "b")).unit_scores([[first, first], [second, second]], "balanced accuracy")
    mean = (2 / 3 + 4 / 5) / 2
    right_0, wrong_0 = (mean + x * 8 / 6 * np.sqrt(3 / 2) for x in (1 / 3, -2 / 3))
    right_1, wrong_1 = (mean + x * 8 / 10 * np.sqrt(5 / 4) for x in (1 / 5, -4 / 5))
    assert scores[0][0].tolist() == pytest.approx([right_0, wrong_0, right_0, right_1])
    assert scores[1][1].tolist() == pytest.approx([right_1, right_1, wrong_1, right_1])
    assert np.mean(np.concatenate([fold.mean(0) for fold in scores])) == pytest.approx(mean)
    plain = Classification(("a", "b")).unit_scores([[first], [second]], "accuracy")
    assert [fold.tolist() for fold in plain] == [[[1, 0, 1, 1]], [[1, 1, 0, 1]]]


def test_a_curve_point_is_accuracy_and_cross_entropy_of_each_model() -> None:
    logits, labels = sample(1.0, n=40)
    outputs = torch.tensor(np.stack([logits, 3 * logits]))
    point = Classification(("",) * 5).curve_point(outputs, torch.tensor(labels).expand(2, -1))
    for i, of in enumerate((logits, 3 * logits)):
        assert point[0, i] == pytest.approx((of.argmax(1) == labels).mean())
        assert point[1, i] == pytest.approx(log_loss(labels, softmax(of, axis=1)))

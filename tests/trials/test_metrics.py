from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score, log_loss

from lossmith.trials.metrics import calibration_error, fit_temperature, outcomes

RNG = np.random.default_rng(0)


def sample(scale: float, n: int = 4000, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from softmax(z), and logits scale * z."""
    z = RNG.normal(size=(n, classes)) * 2
    labels = np.array([RNG.choice(classes, p=p) for p in softmax(z, axis=1)])
    return scale * z, labels


@pytest.mark.parametrize("scale", [0.2, 1.0, 6.0])
def test_the_temperature_undoes_a_scaling_of_calibrated_logits(scale: float) -> None:
    logits, labels = sample(scale)
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(scale, rel=0.1)
    judged = outcomes(logits, labels, np.arange(len(labels)), temperature)
    assert calibration_error(judged.confidence_scaled, judged.correct) < 0.03
    if scale != 1:
        assert calibration_error(judged.confidence, judged.correct) > 0.1


def test_outcomes_agree_with_scikit_learn() -> None:
    logits, labels = sample(1.5)
    judged = outcomes(logits, labels, np.arange(len(labels)), 2.0)
    assert judged.nll.mean() == pytest.approx(log_loss(labels, softmax(logits, axis=1)), rel=1e-5)
    assert judged.nll_scaled.mean() == pytest.approx(log_loss(labels, softmax(logits / 2, axis=1)), rel=1e-5)
    assert judged.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, logits.argmax(1)))


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
    judged = outcomes(logits, np.array([1, 1]), np.arange(2), 1.0)
    assert judged.correct.tolist() == [False, True]
    assert np.isinf(judged.nll[0])
    assert judged.confidence[0] == 1
    assert fit_temperature(logits, np.array([1, 1])) == 1.0


def test_a_cross_entropy_beyond_float32_is_infinite() -> None:
    logits = np.array([[-3e38, 3e38]], dtype=np.float32)
    judged = outcomes(logits, np.array([0]), np.array([0]), 1.0)
    assert np.isinf(judged.nll[0])
    assert judged.predicted[0] == 1
    assert judged.confidence[0] == 1.0

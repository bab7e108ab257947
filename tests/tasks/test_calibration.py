"""Class weights, and cross-entropies before and after temperature scaling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from lossmith.tasks.calibration import class_weights, cross_entropies, fit_temperature


def test_class_weights_have_mean_one_and_give_each_class_the_same_total():
    label = np.array([0, 0, 0, 2, 2, 4])
    weights = class_weights(label)
    assert weights.mean() == pytest.approx(1)
    totals = [weights[label == k].sum() for k in (0, 2, 4)]
    assert totals == pytest.approx([2.0] * 3)


def test_a_weight_counts_as_so_many_copies_when_the_temperature_is_fitted():
    rng = np.random.default_rng(0)
    logits, labels = 3 * rng.standard_normal((60, 4)), rng.integers(4, size=60)
    logits[np.arange(60), labels] += 3
    copies = rng.integers(1, 5, 60)
    wanted = fit_temperature(np.repeat(logits, copies, axis=0), np.repeat(labels, copies))
    assert fit_temperature(logits, labels, copies.astype(float)) == pytest.approx(wanted, rel=1e-3)
    assert fit_temperature(logits, labels) != pytest.approx(wanted, rel=1e-3)


def drawn(samples: int = 300, classes: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits that are three times too large, with labels and weights."""
    rng = np.random.default_rng(1)
    logits = rng.standard_normal((samples, classes))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(1)
    return 3 * logits, labels, rng.uniform(0.5, 2.0, samples)


def nats(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return cross_entropy(torch.tensor(logits), torch.tensor(labels), reduction="none").numpy()


def test_cross_entropies_are_torchs_times_the_weights():
    logits, labels, weights = drawn()
    logits = logits.astype(np.float32)
    found, temperature = cross_entropies(logits, labels, weights, scaled=False)
    assert temperature == 1.0
    np.testing.assert_allclose(found, weights * nats(logits.astype(np.float64), labels), rtol=1e-12)


def test_scaled_cross_entropies_are_those_at_the_temperature_with_the_lowest_mean():
    logits, labels, weights = drawn()
    found, temperature = cross_entropies(logits, labels, weights, scaled=True)
    np.testing.assert_allclose(found, weights * nats(logits / temperature, labels), rtol=1e-12)
    grid = np.exp(np.linspace(0.0, 2.5, 2501))
    means = [float((weights * nats(logits / t, labels)).mean()) for t in grid]
    assert temperature == pytest.approx(grid[np.argmin(means)], rel=2e-3)
    assert found.mean() == pytest.approx(min(means), rel=1e-6)
    assert 2 < temperature < 4
    assert temperature != pytest.approx(fit_temperature(logits, labels), rel=2e-3)  # the weights count


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("scaled", [True, False])
def test_one_logit_that_is_not_finite_makes_all_cross_entropies_infinite(bad, scaled):
    logits, labels, weights = drawn(20)
    logits[3, 1] = bad
    found, temperature = cross_entropies(logits, labels, weights, scaled=scaled)
    assert found.tolist() == [np.inf] * 20
    assert temperature == 1.0


def test_huge_logits_have_finite_cross_entropies():
    found, _ = cross_entropies(np.array([[3e4, 0.0], [0.0, 3e4]]), np.array([1, 1]), np.ones(2), scaled=False)
    assert found.tolist() == [3e4, 0.0]

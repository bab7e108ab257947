"""Minimisers against closed forms, the seeds and scipy."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

import lossmith
from lossmith.properties.optimum import minimise, optimum_of, starts_of
from lossmith.properties.parts import parts_of
from lossmith.properties.subject import Subject, subject_of

# Seed 4, 1.3, DERIVED: p* of NGL, softmax and sigmoid form, and the label smoothing with the softmax form's p*.
SEED_CAPS = {
    "ngl": {2: 0.566, 10: 0.391, 100: 0.362, 1000: 0.359},
    "ngl:scaling=sigmoid": {2: 0.558, 10: 0.363, 100: 0.338, 1000: 0.335},
}
SEED_SMOOTHING = {2: 0.87, 10: 0.68, 100: 0.64, 1000: 0.64}
# Seed 2, section 3, DERIVED: minimisers at eta = (.5, .3, .2), grid-checked to about .005.
SEED_MINIMISERS = {"m": (0.415, 0.32, 0.26), "l": (0.43, 0.32, 0.25)}
GRADED = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)


@functools.cache
def subject(text: str, num_classes: int = 10) -> Subject:
    return subject_of(lossmith.create(text), num_classes)


def best_prediction(ours: Subject) -> torch.Tensor:
    return minimise(ours, parts_of(ours), GRADED, (1, 1, 1))


@pytest.mark.parametrize("text", SEED_CAPS)
def test_ngl_s_caps(text: str) -> None:
    starts = {start.num_classes: start for start in starts_of(subject(text))}
    for num_classes, cap in SEED_CAPS[text].items():
        assert starts[num_classes].cap == pytest.approx(cap, abs=6e-4)
        if text == "ngl":
            assert starts[num_classes].smoothing == pytest.approx(SEED_SMOOTHING[num_classes], abs=6e-3)


@pytest.mark.parametrize("epsilon", [0.1, 0.6])
def test_label_smoothing_s_cap_is_its_own(epsilon: float) -> None:
    for start in starts_of(subject(f"label_smoothing:epsilon={epsilon}")):
        assert start.cap == pytest.approx(1 - epsilon * (start.num_classes - 1) / start.num_classes, abs=1e-9)
        assert start.smoothing == pytest.approx(epsilon, abs=1e-9)


@pytest.mark.parametrize("text", ["cross_entropy", "m", "parabolic", "brier", "mae", "bi_tempered:t1=0.5,t2=2"])
def test_others_have_no_cap(text: str) -> None:
    assert {start.cap for start in starts_of(subject(text))} == {1.0}


@pytest.mark.parametrize("text", SEED_MINIMISERS)
def test_the_seed_s_minimisers(text: str) -> None:
    assert best_prediction(subject(text, 3))[0].tolist() == pytest.approx(SEED_MINIMISERS[text], abs=6e-3)


@pytest.mark.parametrize(
    "text, power",
    [
        ("cross_entropy", 1.0),
        ("brier", 1.0),
        ("bi_tempered", 1.0),
        ("bi_tempered:t1=0.5,t2=2", 1.0),
        ("m", 1 / 2),  # seed 2: sqrt(eta)
        ("param_m:alpha=2", 1 / 3),  # seed 2: eta^(1/(1+a))
        ("rooted:k=3", 3 / 4),  # seed 0: pi^(k/(k+1))
        ("rooted:k=3,form=released", 3 / 2),  # seed 0: pi^(k/(k-1))
        ("gce:q=0.5", 2.0),
    ],
)
def test_power_laws(text: str, power: float) -> None:
    expected = GRADED**power
    torch.testing.assert_close(best_prediction(subject(text, 3)), expected / expected.sum(), rtol=0, atol=1e-6)
    found = optimum_of(subject(text), parts_of(subject(text)))
    assert found.power == pytest.approx(power, abs=1e-5)
    assert found.proper == (power == 1.0)
    assert found.top_kept
    assert found.order_kept


@pytest.mark.parametrize("text", ["parabolic", "circle", "cos", "mae"])
def test_concave_losses_go_to_a_corner(text: str) -> None:
    found = optimum_of(subject(text), parts_of(subject(text)))
    assert best_prediction(subject(text, 3))[0].tolist() == [1, 0, 0]
    assert found.top_kept
    assert not found.order_kept
    assert not found.proper


@pytest.mark.parametrize(
    "text", ["ngl", "ngl:scaling=sigmoid", "focal", "m_full", "l_full", "symmetric", "taylor:order=3"]
)
def test_scipy_finds_no_better_prediction(text: str) -> None:
    ours = subject(text, 3)
    best = best_prediction(ours)

    def expected(z: np.ndarray) -> float:
        return float((ours.table(torch.tensor(z)[None]) * GRADED).sum())

    starts = ([0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [0.0, 2.0, -1.0])
    tight = {"xatol": 1e-9, "fatol": 1e-15, "maxiter": 4000, "maxfev": 4000}
    found = min((minimize(expected, s, method="Nelder-Mead", options=tight) for s in starts), key=lambda r: r.fun)
    reached = float((ours.table(best.clamp(min=1e-300).log()) * GRADED).sum())
    assert reached <= found.fun + 1e-10
    assert best[0].tolist() == pytest.approx(torch.tensor(found.x).softmax(0).tolist(), abs=2e-5)


def test_weights_move_the_optimum() -> None:
    """Weighted cross-entropy is minimised by p ~ w eta."""
    weighted = subject_of(lossmith.create("cross_entropy", weight=[1.0, 2.0, 3.0]), 3)
    assert not weighted.symmetric
    assert best_prediction(weighted)[0].tolist() == pytest.approx([0.5 / 1.7, 0.6 / 1.7, 0.6 / 1.7], abs=1e-6)
    assert not optimum_of(weighted, parts_of(weighted)).top_kept

"""Strictness, crossings and ends against the values derived in the seeds and against closed forms."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import mpmath
import pytest
import torch

import lossmith
from lossmith.properties.parts import parts_of
from lossmith.properties.scale import initial_gradient
from lossmith.properties.shape import along_line, loss_shape
from lossmith.properties.strictness import Strictness, ends_of, strictness_of
from lossmith.properties.subject import Subject, subject_of

# Seed 2 (2-alternate.md), section 3, DERIVED: s at .01, .1, .5, .9.
SEED_TABLE = {
    "cross_entropy": (1, 1, 1, 1),
    "m": (100, 10, 2, 1.11),
    "param_m:alpha=2": (2e4, 200, 8, 2.47),
    "param_m:alpha=0.5": (5, 1.58, 0.71, 0.53),
    "l": (3.53, 1.09, 0.385, 0.091),
    "parabolic": (2e-4, 0.02, 0.5, 1.62),
    "circle": (1e-4, 0.010, 0.289, 1.86),
    "cos": (2e-4, 0.025, 0.555, 1.40),
}
# The same section: where s crosses 1, where the value crosses cross-entropy's, T = s(.1)/s(.9).
SEED_CROSSINGS = {"l": 0.1168, "parabolic": 0.707, "circle": 0.786, "cos": 0.709, "focal": 0.298}
SEED_VALUE_CROSSINGS = {"l": 0.0216, "parabolic": 0.451, "circle": 0.400, "cos": 0.485}
SEED_TILT = {"cross_entropy": 1, "m": 9, "l": 11.9, "parabolic": 0.012, "circle": 0.0054, "cos": 0.0176}
# The same section: the formulas of s(p); of focal with gamma = 2 and Poly-1, section 5; of rooted, seed 0, section 1c.
FORMULAS: dict[str, Callable[[float], float]] = {
    "m": lambda p: 1 / p,
    "param_m:alpha=2": lambda p: 2 * p**-2,
    "l": lambda p: (1 - p) / (math.sqrt(p) * (2 - p) ** 1.5),
    "parabolic": lambda p: 2 * p**2,
    "circle": lambda p: p**2 / math.sqrt(1 - p**2),
    "cos": lambda p: math.pi / 2 * p * math.sin(math.pi * p / 2),
    "focal": lambda p: (1 - p) ** 2 - 2 * (1 - p) * p * math.log(p),
    "poly1:epsilon=2": lambda p: 1 + 2 * p,
    "taylor:order=3": lambda p: 1 - (1 - p) ** 3,
    "gce:q=0.7": lambda p: p**0.7,
    "rooted:k=3": lambda p: p ** (-1 / 3),
    "rooted:k=3,form=released": lambda p: p ** (1 / 3),
}


@functools.cache
def subject(text: str, num_classes: int = 10) -> Subject:
    return subject_of(lossmith.create(text), num_classes)


@functools.cache
def strictness(text: str) -> Strictness:
    return strictness_of(subject(text), parts_of(subject(text)))


@pytest.mark.parametrize("text", SEED_TABLE)
def test_the_seed_s_table(text: str) -> None:
    digits = [(p, float(f"{s:.1g}") if s < 1e-3 else s) for p, s in strictness(text).at]
    assert [p for p, _ in digits] == [0.01, 0.1, 0.5, 0.9]
    assert [s for _, s in digits] == pytest.approx(SEED_TABLE[text], rel=2e-2)  # the seed gives two or three digits


@pytest.mark.parametrize("num_classes", [2, 10, 1000])
@pytest.mark.parametrize("text", FORMULAS)
def test_closed_forms_of_target_losses_hold_for_any_number_of_classes(text: str, num_classes: int) -> None:
    p = torch.linspace(0.001, 0.999, 97, dtype=torch.float64)
    found = along_line(subject(text, num_classes), p, num_classes)[1]
    expected = torch.tensor([FORMULAS[text](q) for q in p.tolist()], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("text", SEED_CROSSINGS)
def test_the_seed_s_crossings(text: str) -> None:
    (found,) = strictness(text).crossings
    assert found == pytest.approx(SEED_CROSSINGS[text], abs=6e-4 if text != "l" else 6e-5)
    assert FORMULAS[text](found) == pytest.approx(1, abs=1e-8)


def test_l_crosses_where_mpmath_finds_it() -> None:
    root = mpmath.findroot(lambda p: (1 - p) / (mpmath.sqrt(p) * (2 - p) ** 1.5) - 1, 0.117)
    assert strictness("l").crossings[0] == pytest.approx(float(root), abs=1e-9)


def test_param_m_crosses_at_alpha_to_the_one_over_alpha() -> None:
    assert strictness("param_m:alpha=0.5").crossings == pytest.approx((0.25,), abs=1e-9)


@pytest.mark.parametrize("text", SEED_VALUE_CROSSINGS)
def test_the_seed_s_value_crossings(text: str) -> None:
    assert strictness(text).value_crossings == pytest.approx((SEED_VALUE_CROSSINGS[text],), abs=6e-4)


@pytest.mark.parametrize("text", SEED_TILT)
def test_the_seed_s_tilt(text: str) -> None:
    assert strictness(text).tilt == pytest.approx(SEED_TILT[text], rel=4e-2)


def test_kinds() -> None:
    kinds = {"cross_entropy": "cross-entropy", "m": "strict", "rooted": "strict", "gce": "liberal", "l": "mixed"}
    kinds |= {"poly1": "strict", "mae": "liberal", "taylor": "liberal", "parabolic": "mixed", "ngl": "liberal"}
    assert {text: strictness(text).kind for text in kinds} == kinds


def test_ngl_turns_at_its_cap() -> None:
    """Seed 4, 1.3, DERIVED: above p* = .391 the slope changes sign; at p = .9 it is +.063 in the target's logit."""
    found = strictness("ngl")
    assert found.turns == pytest.approx((0.391,), abs=5e-4)
    assert -dict(found.at)[0.9] * (1 - 0.9) == pytest.approx(0.063, abs=5e-4)


@pytest.mark.parametrize(
    "text, value, power, limit",
    [
        ("cross_entropy", math.inf, 0, 1),
        ("m", math.inf, -1, math.inf),  # seed 2: 1/p
        ("l", math.inf, -0.5, math.inf),  # seed 2: 1/(2.83 sqrt p)
        ("parabolic", 1, 2, 0),  # seed 2: p^2
        ("circle", 1, 2, 0),
        ("cos", 1, 2, 0),
        ("gce:q=0.7", 1 / 0.7, 0.7, 0),
        ("taylor:order=2", 1.5, 1, 0),
        ("rooted:k=4", math.inf, -0.25, math.inf),
    ],
)
def test_as_p_goes_to_0(text: str, value: float, power: float, limit: float) -> None:
    end = ends_of(subject(text))[0]
    assert end.value == pytest.approx(value, rel=1e-6)
    assert end.power == pytest.approx(power, abs=2e-3)
    assert end.strictness == pytest.approx(limit, rel=1e-5)


@pytest.mark.parametrize(
    "text, power, limit", [("m", 0, 1), ("l", 1, 0), ("circle", -0.5, math.inf), ("focal", 2, 0), ("poly1", 0, 2)]
)
def test_as_p_goes_to_1(text: str, power: float, limit: float) -> None:
    end = ends_of(subject(text))[1]
    assert end.value == pytest.approx(0, abs=1e-6)
    assert end.power == pytest.approx(power, abs=2e-3)
    assert end.strictness == pytest.approx(limit, rel=1e-5)
    assert end.gradient == 0


def test_label_smoothing_pulls_down_a_sure_target() -> None:
    """Cross-entropy against (.91, .01, ...): the slope in the target's logit is p - .91."""
    end = ends_of(subject("label_smoothing:epsilon=0.1"))[1]
    assert end.gradient == pytest.approx(0.09, abs=1e-6)
    assert end.value == math.inf
    assert strictness("label_smoothing:epsilon=0.1").turns == pytest.approx((0.91,), abs=1e-9)


# Seed 4 (4-evolved.md), 1.3, DERIVED: gradient of cross-entropy over NGL's, softmax form and sigmoid form.
SEED_RATIOS = {
    "ngl": {2: 3, 10: 12, 100: 926, 1000: 90_000},
    "ngl:scaling=sigmoid": {2: 39, 10: 333, 100: 28_000, 1000: 2.8e6},
}


@pytest.mark.parametrize("text", SEED_RATIOS)
def test_ngl_s_first_gradient(text: str) -> None:
    for num_classes, ratio in SEED_RATIOS[text].items():
        found = 1 / initial_gradient(subject(text, num_classes), num_classes)
        shown = float(f"{found:.2g}") if ratio > 1000 else round(found)
        assert shown == ratio


def test_ngl_s_first_gradient_from_its_derivatives() -> None:
    """dL/dz_t = p_t (g_1' - sum_k p_k g_k') / C at p = 1/C, with mpmath's derivatives of the published expression."""
    for C in (2, 10, 100, 1000):
        p = mpmath.mpf(1) / C
        slopes = [
            mpmath.diff(lambda q, y=y: mpmath.exp(2.4092 - q * (1 + y)) - mpmath.cos(mpmath.cos(mpmath.sin(q))), p)
            for y in (0, 1)
        ]
        ours = p * (slopes[1] - (p * slopes[1] + (C - 1) * p * slopes[0])) / C
        assert initial_gradient(subject("ngl", C), C) == pytest.approx(float(ours / (p - 1)), rel=1e-6)


@pytest.mark.parametrize("num_classes", [10, 100])
def test_rooted_losses_start_steeper_and_released_ones_flatter(num_classes: int) -> None:
    """Seed 0, section 7, DERIVED: C^(1/k), and (m/k) C^(-1/k) for the released form."""
    for k in (2, 3, 8):
        assert initial_gradient(subject(f"rooted:k={k}"), num_classes) == pytest.approx(num_classes ** (1 / k))
    released = subject("rooted:form=released,k=8,m=10")
    assert initial_gradient(released, num_classes) == pytest.approx(10 / 8 * num_classes ** (-1 / 8))


def test_the_shape_of_a_comparison_is_on_the_same_line() -> None:
    shape = loss_shape(lossmith.create("dynamical(m)"), 3)
    assert shape.p[0] == pytest.approx(0.01)
    assert shape.loss == pytest.approx([1 / p - 1 / 0.99 for p in shape.p])
    assert shape.strictness == pytest.approx([1 / p for p in shape.p])


def test_a_kind_is_proved_for_logits_and_not_for_log_odds() -> None:
    """With 999 others at 0 and the target at -30, c = 30 + log(999 + e^-30) = 36.9, where s = .5 + e^1.9 > 1."""
    subject = subject_of(lossmith.create("formula(y*(0.5*c + exp(c - 35)))"), 1000)
    found = strictness_of(subject, parts_of(subject))
    assert found.kind != "liberal" or found.how == "sampled" or found.apart < 30


@pytest.mark.parametrize(("sign", "kind"), [("+", "liberal"), ("-", "strict")])
def test_a_bump_between_all_points_is_seen(sign: str, kind: str) -> None:
    """A step of width 1e-7 at p = .613 is steep there and nowhere else."""
    subject = subject_of(lossmith.create(f"formula(y*c {sign} y*1e-7*tanh((p - 0.613)/1e-7))"), 4)
    assert strictness_of(subject, parts_of(subject)).kind == kind
    bump = subject_of(lossmith.create("formula(y*c + 1e-3*y*exp(-square((p - 0.613)/1e-7)))"), 4)
    assert strictness_of(bump, parts_of(bump)).kind == "mixed"

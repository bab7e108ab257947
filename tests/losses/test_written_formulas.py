"""What a loss writes as its formula is the loss: evaluated on mpmath numbers, without Lossmith's own parser."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import pytest
import torch
from loss_cases import IDS, STATIC, Case, seeded

import lossmith
from lossmith.losses import ClassificationLoss

FUNCTIONS = {
    name: getattr(mpmath, name) for name in ("exp", "log", "sqrt", "expm1", "log1p", "sin", "cos", "tanh", "sign")
} | {
    "square": lambda x: x * x,
    "pow": mpmath.power,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
}
# Probabilities of a tempered softmax, shifts or exponents that differ by class: no function of p, y, c and n.
WITHOUT = {"tempered:kappa=[0.5,0.0,-1.0,2.0]", "bi_tempered:t1=0.5,t2=2", "bi_tempered:t1=0.5,t2=0.5"}
WITHOUT |= {"logit_adjusted", "logit_adjusted:tau=2"}


def evaluated(formula: str, logits: list[float], target: int) -> float:
    """The sum over the classes of the formula, on mpmath numbers."""
    z = [mpmath.mpf(value) for value in logits]
    total = sum(map(mpmath.exp, z))
    code = compile(formula, "formula", "eval")
    terms = []
    for j, value in enumerate(z):
        p = mpmath.exp(value) / total
        names: dict[str, Any] = {"p": p, "c": -mpmath.log(p), "y": mpmath.mpf(j == target), "n": mpmath.mpf(len(z))}
        terms.append(eval(code, {"__builtins__": {}}, FUNCTIONS | names))
    return float(mpmath.fsum(terms))


def assert_is_the_formula(loss: Any, formula: str) -> None:
    for num_classes in (2, 4, 7):
        logits = 3 * torch.randn(6, num_classes, generator=seeded(num_classes), dtype=torch.float64)
        target = torch.arange(6) % num_classes
        expected = [evaluated(formula, row, t) for row, t in zip(logits.tolist(), target.tolist(), strict=True)]
        torch.testing.assert_close(loss.per_sample(logits, target), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("each", STATIC, ids=[name for name in IDS if not name.startswith("dynamical")])
def test_the_formula_is_the_loss(each: Case) -> None:
    loss = each.make()
    assert isinstance(loss, ClassificationLoss)
    assert (loss.formula is None) == (each.text in WITHOUT)
    if loss.formula is not None:
        assert_is_the_formula(loss, loss.formula)


@pytest.mark.parametrize(
    "name", ["cross_entropy", "rooted", "l", "m_full", "brier", "symmetric", "gce", "bi_tempered", "ngl"]
)
def test_the_formula_knows_of_label_smoothing(name: str) -> None:
    loss = lossmith.create(name, label_smoothing=0.3)
    assert loss.formula is not None
    assert_is_the_formula(loss, loss.formula)


def test_formulas_that_people_know() -> None:
    assert lossmith.create("cross_entropy").formula == "y*c"
    assert lossmith.create("rooted:k=3").formula == "3*y*expm1(c/3)"
    assert lossmith.create("ngl").formula == "(exp(2.4092 - p*(1 + y)) - cos(cos(sin(p))))/n"
    assert lossmith.create("cos").formula == f"y*cos({math.pi / 2}*p)"


@pytest.mark.parametrize("text", ["smooth_absolute_error", "rooted_gan", "dynamical", "taylor:order=21"])
def test_losses_without_a_formula(text: str) -> None:
    assert lossmith.create(text).formula is None


def test_no_formula_where_classes_differ_or_are_none() -> None:
    assert lossmith.create("rooted", weight=[1.0, 2.0]).formula is None
    assert lossmith.create("rooted", task="binary").formula is None

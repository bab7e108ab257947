"""Each way of bounding a gradient, alone, against the largest norms that autograd meets."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch

import lossmith
from lossmith.formulas import parse
from lossmith.properties.extremes import _triangle
from lossmith.properties.gradients import _by_halves, _by_slices, _SumOfSlopes, separable
from lossmith.properties.parts import Parts, parts_of
from lossmith.properties.subject import subject_of

REACH = 30.0
CASES = [
    ("y*c", 3),
    ("-y*c", 3),
    ("y*p - (1 - y)*2*p*c", 4),
    ("(1 - y)*p", 3),
    ("(1 - y)*p", 6),
    ("-(0.1*y + 0.9/n)*log(p)", 3),
    ("-(0.1*y + 0.9/n)*log(p)", 10),
    ("square(y - p)", 3),
    ("square(y - p)", 10),
    ("(1 - y)*square(p) - y*p", 4),
    ("y*p*c + (1 - y)*sin(3*p)", 4),
]


@cache
def parts(text: str, num_classes: int) -> Parts:
    found = parts_of(subject_of(lossmith.create(f"formula({text})"), num_classes))
    assert found is not None
    return found


@cache
def steepest(text: str, num_classes: int) -> float:
    """The largest norm at random predictions, at those of few classes, and uphill from there."""
    loss = lossmith.create(f"formula({text})", reduction="sum")
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(3000, num_classes, dtype=torch.float64, generator=generator)
    z = (z * torch.logspace(-1, 1.3, 3000, dtype=torch.float64)[:, None]).clamp(-14, 14)
    best = 0.0
    for step in (0.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02):
        tried = (z + step * torch.randn(z.shape, dtype=torch.float64, generator=generator)).clamp(-14, 14)
        tried.requires_grad_()
        (gradient,) = torch.autograd.grad(loss(tried, torch.zeros(len(tried), dtype=torch.int64)), tried)
        norm = gradient.norm(dim=1)
        best = max(best, float(norm.max()))
        z = tried.detach()[norm.topk(300).indices].repeat(10, 1)
    return best


@pytest.mark.parametrize("text, num_classes", CASES)
def test_no_bound_is_below_what_is_reached(text: str, num_classes: int) -> None:
    of, reached = parts(text, num_classes), steepest(text, num_classes)
    for bound in (_by_halves(of, reached, REACH), _by_slices(of, reached, REACH), _triangle(of, REACH, 1e-3)):
        assert bound >= reached * (1 - 1e-9)


@pytest.mark.parametrize("text, num_classes", [("y*c", 3), ("y*c", 10), ("square(y - p)", 10)])
def test_halves_and_slices_are_close(text: str, num_classes: int) -> None:
    of, reached = parts(text, num_classes), steepest(text, num_classes)
    assert _by_halves(of, reached, REACH) <= 1.3 * reached
    assert _by_slices(of, reached, REACH) <= 2 * reached


def test_the_triangle_is_reached_by_cross_entropy() -> None:
    assert _triangle(parts("y*c", 5), REACH, 1e-6) == pytest.approx(math.sqrt(2), rel=1e-4)
    assert _triangle(parts("y*c", 5), REACH, 1e-6) >= math.sqrt(2) * (1 - 1e-12)


@pytest.mark.parametrize("num_classes", [3, 7])
def test_sums_of_slopes(num_classes: int) -> None:
    """Of ``(1-y) c`` each slope in c is 1; of ``(1-y) p`` it is -p, and the sum minus the classes' probability."""
    least, most = np.array([0.2]), np.array([0.5])
    ones = _SumOfSlopes(parts("(1 - y)*c + y*p", num_classes), 1.0, REACH)
    assert ones(least, most)[0] == pytest.approx(num_classes - 1, rel=1e-6)
    assert ones(least, most)[0] >= num_classes - 1
    shares = _SumOfSlopes(parts("(1 - y)*p + y*c", num_classes), 1.0, REACH)
    assert shares(least, most)[0] == pytest.approx(-0.2, rel=1e-6)
    turned = _SumOfSlopes(parts("(1 - y)*p + y*c", num_classes), -1.0, REACH)
    assert turned(least, most)[0] == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize(
    "target, other, largest",
    [
        ("p", "0*p", 1.0),
        ("0*p", "-p*log(p)", math.log(4)),  # of four others, evenly, where the target has nothing
        ("0*p", "p*(1 - p)", 0.75),
        ("p", "2*p", 2.0),
    ],
)
def test_separable_sums(target: str, other: str, largest: float) -> None:
    bound = separable(parse(target), parse(other), 5, REACH, 1e-6)
    assert largest - 1e-9 <= bound <= largest * 1.05 + 1e-3

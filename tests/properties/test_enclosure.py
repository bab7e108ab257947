"""Enclosures of functions of one probability against known suprema, mpmath and points."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

from lossmith.formulas import derivative, parse
from lossmith.properties.enclosure import REACHES, Cells, Function, finite_inside, nowhere_negative, supremum
from lossmith.properties.parts import put

SUPREMA = {
    "p*(1 - p)": 0.25,
    "p*c": 1 / math.e,
    "c*exp(-c)": 1 / math.e,
    "sin(3*p)": 1.0,
    "p": 1.0,
    "1 - p": 1.0,
    "-c": 0.0,
    "exp(-1000000*square(p - 0.37))": 1.0,
    "min(p, 0.3) + 1": 1.3,
    "tanh(5*c)": 1.0,
    "sign(p - 0.5)*(1 - p)": 0.5,
    "abs(p - 0.5)": 0.5,
    "pow(p, 0.5)*(1 - p)": 2 / 3 * math.sqrt(1 / 3),
}


@pytest.mark.parametrize("text", SUPREMA)
def test_suprema(text: str) -> None:
    reach, found = next(
        (reach, found) for reach in REACHES if math.isfinite((found := supremum(Function(parse(text)), reach)).proved)
    )
    exact = SUPREMA[text]
    assert reach > 1e38
    assert exact - 1e-12 <= found.proved <= exact + 1e-6
    assert exact - 1e-6 <= found.attained <= exact + 1e-12


@pytest.mark.parametrize("text", ["c", "1/p", "1/(p - 0.3)", "1/square(p - 0.3)", "log(p)/(1 - p) + 1/(1 - p)"])
def test_no_bound_where_there_is_none(text: str) -> None:
    assert supremum(Function(parse(text)), math.inf).proved == math.inf


def test_the_supremum_between_two_logits() -> None:
    found = supremum(Function(parse("p*(1 - p)")), (1.0, 2.0))
    p = 1 / (1 + math.exp(-1.0))
    assert found.proved == pytest.approx(p * (1 - p), rel=1e-6)
    assert found.proved >= p * (1 - p)


def test_parameters_take_all_their_values() -> None:
    found = supremum(Function(parse("t*p*(1 - p)")), math.inf, t=(-3.0, 2.0))
    assert found.proved == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize("text", ["sqrt(1 - square(p))", "p*c", "exp(2.4 - 2*p) - cos(cos(sin(p)))", "log(1 - p)*p"])
def test_enclosures_hold_mpmath_s_values(text: str) -> None:
    """On cells from 1e-3 to 1e-14 wide, at points inside, with 60 digits."""
    rng = np.random.default_rng(0)
    function = Function(parse(text))
    low = rng.uniform(-20, 20, 60)
    cells = Cells(low, low + 10.0 ** rng.uniform(-14, -3, 60))
    lower, upper = function.on(cells)
    environment = {name: getattr(mpmath, name) for name in ("sqrt", "exp", "cos", "sin", "log")}
    with mpmath.workdps(60):
        for place in range(len(low)):
            for share in (0, 0.3, 1):
                z = mpmath.mpf(cells.low[place]) * (1 - share) + mpmath.mpf(cells.high[place]) * share
                p = 1 / (1 + mpmath.exp(-z))
                value = {
                    "sqrt(1 - square(p))": lambda p: environment["sqrt"](1 - p**2),
                    "p*c": lambda p: -p * environment["log"](p),
                    "exp(2.4 - 2*p) - cos(cos(sin(p)))": lambda p: (
                        environment["exp"](mpmath.mpf(2.4) - 2 * p)
                        - environment["cos"](environment["cos"](environment["sin"](p)))
                    ),
                    "log(1 - p)*p": lambda p: environment["log"](1 - p) * p,
                }[text](p)
                assert lower[place] <= value <= upper[place]
    assert float((upper - lower)[np.isfinite(upper)].max()) < 0.1


def test_enclosures_shrink_with_the_square_of_the_cell_at_a_maximum() -> None:
    """By the mean value theorem: interval arithmetic alone shrinks with the width."""
    function = Function(parse("p*(1 - p)"))
    excess = [float(function.on(Cells(np.array([-w]), np.array([w])))[1][0]) - 0.25 for w in (1e-2, 1e-3)]
    assert excess[0] < 1e-4
    assert excess[1] < excess[0] / 50


def test_cells_cover_all_that_logits_can_make_of_a_hundred_thousand_classes() -> None:
    """With gaps up to 30 and 100,000 classes, log(p/(1-p)) goes down to -30 - log(99,999)."""
    cells = Cells.up_to(30.0)
    assert cells.low[0] <= -30 - math.log(99_999)
    assert cells.high[-1] == 30
    assert (cells.low[1:] == cells.high[:-1]).all()
    whole = Cells.up_to(math.inf)
    assert (whole.low[0], whole.high[-1]) == (-math.inf, math.inf)
    assert (whole.low[1:] == whole.high[:-1]).all()


@pytest.mark.parametrize(
    "text, holds",
    [
        ("square(p - 0.3)", True),
        ("square(p - 0.3) - 1e-12", False),
        ("1 - p", True),
        ("c", True),
        ("p - 1e-300", False),
        ("0.2 - exp(-1000000*square(p - 0.37))", False),
        ("1.1 - exp(-1000000*square(p - 0.37))", True),
        ("-1", False),
        ("0", True),
    ],
)
def test_nowhere_negative(text: str, holds: bool) -> None:
    assert nowhere_negative(Function(parse(text)), math.inf) == holds


def test_poles_are_seen() -> None:
    assert finite_inside(Function(parse("1/(p + 0.1)")), math.inf)
    assert finite_inside(Function(parse("1/p")), math.inf)  # at the end, not inside
    for pole in ("1/(p - 0.3)", "1/square(p - 0.3)", "log(square(p - 0.3))", "c/(c - 2)", "1/square(p - 1e-36)"):
        assert not finite_inside(Function(parse(pole)), math.inf)


def test_only_exact_constants_are_folded() -> None:
    """exp(-1000) * exp(1000 p) is 1 at p = 1, though the first factor underflows."""
    expression = put(parse("y*exp(-1000)*exp(1000*p)"), y=parse("1"))
    assert supremum(Function(expression), 30.0).proved >= 1.0 - 1e-6
    assert str(put(parse("y*y*3 + (1 - y)/4"), y=parse("1"))) == "3"
    assert not put(parse("(n - y)/3"), y=parse("1"), n=parse("2")).is_constant  # 1/3 is no double
    assert put(parse("pow(1 - y, 2)*c"), y=parse("1")).is_number(0)
    slope = derivative(put(parse("y*exp(-1000)*exp(1000*p)"), y=parse("1")), "p")
    assert float(Function(slope).on(Cells(np.array([40.0]), np.array([40.0])))[1][0]) > 999

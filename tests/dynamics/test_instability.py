"""Instabilities of maps whose period doublings are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from lossmith.dynamics import Instability, bifurcation, instabilities, sharpness_around

Row = NDArray[np.float64]


def logistic(rates: Sequence[float] | Row) -> Row:
    """The iterates of x -> r x (1 - x), whose rate r changes from step to step."""
    row = [0.3]
    for rate in rates:
        row.append(rate * row[-1] * (1 - row[-1]))
    return np.array(row)


def descent(slope: Callable[[float], float], start: float, lrs: Sequence[float] | Row) -> Row:
    row = [start]
    for lr in lrs:
        row.append(row[-1] - lr * slope(row[-1]))
    return np.array(row)


@pytest.mark.parametrize(("rate", "period"), [(3.2, 2), (3.4, 2), (3.5, 4), (3.9, None)])
def test_the_logistic_map_doubles_its_period(rate: float, period: int | None) -> None:
    """Period 2 from r = 3 to 1 + sqrt(6) = 3.449, 4 to 3.544, chaos from 3.570."""
    found = bifurcation(lambda value: logistic(np.full(3000, value)), [2.9, rate])
    assert found.periods == (1, period)
    assert len(np.unique(found.visited[1].round(6))) == (period or 200)


@pytest.mark.parametrize(("rate", "period"), [(3.4, 2), (3.9, None)])
def test_an_instability_begins_where_the_fixed_point_loses_its_stability(rate: float, period: int | None) -> None:
    """At r = 3; an alternation takes some time to grow from rounding errors, and is counted once it is large."""
    rates = np.concatenate([np.full(200, 2.0), np.linspace(2.0, rate, 4000), np.full(600, rate)])
    row = logistic(rates)
    (found,) = instabilities(row)
    (early,) = instabilities(row, smallest=1e-6)
    assert found.period == period
    assert found.stop == early.stop == len(row)
    assert 3 < rates[early.start] < rates[found.start] < 3.2


def test_period_4_is_told_from_period_2_though_the_loss_drifts() -> None:
    for rate, period in ((3.5, 4), (3.2, 2)):
        row = logistic(np.full(1500, rate))[500:]
        (found,) = instabilities(row + np.linspace(0, 3, len(row)))
        assert found.period == period
        assert found.start == 1


@pytest.mark.parametrize("excess", [-0.02, 0.02])
def test_descent_on_a_quadratic_oscillates_above_the_threshold(excess: float) -> None:
    """With curvature 4 and lr = (2 + excess) / 4 the iterates are (-1 - excess)^t; a slope makes them alternate."""
    place = descent(lambda x: 4 * x, 0.05, np.full(150, (2 + excess) / 4))
    height = 2 * place**2 + 0.3 * place  # the loss itself does not alternate: it is even in the deviation
    (found,) = instabilities(height)
    amplitude = 0.05 * (1 + excess) ** np.arange(151)
    jumps = 0.3 * (2 + excess) * amplitude[:-1] - 2 * amplitude[:-1] ** 2 * abs((1 + excess) ** 2 - 1)
    last = np.flatnonzero(jumps > 1e-3)[-1]
    assert found.start == 1
    assert abs(found.stop - (last + 1)) <= 1
    assert found.period == 2


def test_a_quartic_doubles_its_period_where_the_theory_says() -> None:
    """Descent on x^4 / 4 - x^2 / 2 with rate h is the map f(x) = (1 + h) x - h x^3.

    The minimum x = 1 has curvature 2 and loses its stability at h = 2 / 2. The sum and the difference of y = f(x) and
    x = f(y) give x y = 1 / h and x^2 + y^2 = 1 + 1 / h, so that f'(x) f'(y) = 9 - 2 (1 + h)^2: this orbit of period 2
    loses its stability where that is -1, at h = sqrt(5) - 1.
    """
    rests = [0.9, 0.98]
    twos = [1.02, 1.1, 1.2, math.sqrt(5) - 1 - 0.01]
    fours = [math.sqrt(5) - 1 + 0.01, 1.26]

    def losses(lr: float) -> Row:
        place = descent(lambda x: x**3 - x, 0.7, np.full(3000, lr))
        return place**4 / 4 - place**2 / 2 + 0.1 * place

    found = bifurcation(losses, [*rests, *twos, *fours], tail=64)
    assert found.periods == (1, 1, 2, 2, 2, 2, 4, 4)


def test_an_instability_ends_where_the_alternation_dies_away() -> None:
    """The rate of the logistic map goes above 3 twice; an alternation grows, and dies, with some delay."""
    rates = 2.8 - 0.5 * np.cos(np.linspace(0, 4 * np.pi, 8000))
    found = instabilities(logistic(rates))
    above = np.flatnonzero(np.diff(rates > 3))
    assert [one.period for one in found] == [2, 2]
    for one, enter, leave in zip(found, above[::2], above[1::2], strict=True):
        assert enter < one.start < (enter + leave) / 2 < leave < one.stop < leave + 400


@pytest.mark.parametrize(
    "row",
    [
        [],
        [1.0],
        np.ones(500),
        np.full(500, math.nan),
        np.full(500, math.inf),
        np.geomspace(1, 1e-3, 500),
        1 + 4e-4 * (-1.0) ** np.arange(500),
        (-1.0) ** np.arange(21),
        np.sin(np.arange(500) / 5),
        np.random.default_rng(0).normal(size=500),
    ],
    ids=["none", "one", "constant", "NaN", "infinite", "falling", "tiny", "too few", "slow wave", "noise"],
)
def test_what_is_not_an_instability(row: Row) -> None:
    assert instabilities(row) == ()


def test_a_small_change_begins_no_instability() -> None:
    row = np.concatenate([[1 - 1e-4], (-1.0) ** np.arange(60)])
    assert instabilities(row) == (Instability(2, 61, 2),)


def test_an_instability_stops_at_a_loss_that_is_not_finite() -> None:
    row = (-1.0) ** np.arange(200)
    row[100:] = math.nan
    assert instabilities(row) == (Instability(1, 99, 2),)
    assert instabilities(row[:22]) == (Instability(1, 22, 2),)


def test_the_branches_of_the_sharpness_count_the_same() -> None:
    """With steps 25 apart there are three samples of one branch and two of the other."""
    steps = np.arange(0, 1000, 25)
    branches = np.where(steps % 2, 3.0, 1.0)
    assert sharpness_around(500, steps, branches) == 2
    assert sharpness_around(510, steps, branches) == 2
    assert sharpness_around(500, steps[::2], branches[::2]) == 1
    assert math.isnan(sharpness_around(5000, steps, branches))


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="one loss per update"):
        instabilities(np.ones((3, 4)))
    with pytest.raises(ValueError, match="flips is 1"):
        instabilities(np.ones(30), flips=1)
    with pytest.raises(ValueError, match="200 are kept"):
        bifurcation(lambda value: np.full(20, value), [1.0])
    with pytest.raises(ValueError, match="tail is 4"):
        bifurcation(lambda value: np.full(20, value), [1.0], tail=4)


def test_a_loss_that_only_falls_repeats_nothing() -> None:
    """Its drift is no period."""
    for losses in (-0.01 * np.arange(300.0), 10 * np.exp(-np.arange(300) / 2000)):
        assert bifurcation(lambda _, losses=losses: losses, [1.0]).periods == (None,)
    assert instabilities(-0.01 * np.arange(300.0)) == ()


def test_fifty_updates_on_either_side_count_and_branches_alike() -> None:
    """Those 50 away are among them, those 51 away are not; whole numbers will do."""
    steps = [49, 50, 100, 150, 151]
    assert sharpness_around(100, steps, [1000, 2, 4, 6, 1000]) == 4.0
    assert sharpness_around(100, steps, [1000, 2, 4, 6, 1000], within=51) == pytest.approx((4 + 1000) / 2)
    assert sharpness_around(10, [9, 10, 12], [5, 1, 2]) == (5 + 1.5) / 2


def test_the_smallest_change_that_counts_is_exceeded() -> None:
    def alternating(size: float) -> NDArray[np.float64]:
        return 1.0 + size * (np.arange(200) % 2)

    assert instabilities(alternating(0.5), smallest=0.5) == ()
    (found,) = instabilities(alternating(0.5), smallest=0.499)
    assert (found.start, found.period) == (1, 2)
    assert bifurcation(lambda _: alternating(0.5), [1], smallest=0.5).periods == (1,)
    assert bifurcation(lambda _: alternating(0.5), [1], smallest=0.499).periods == (2,)


def test_the_least_that_is_taken() -> None:
    short = 1.0 + (np.arange(8) % 2)
    found = bifurcation(lambda rate: list(short), [3], tail=8)
    assert found.values.tolist() == [3.0]
    assert found.values.dtype == found.visited.dtype == np.float64
    assert found.visited.tolist() == [short.tolist()]
    assert found.periods == (2,)
    whole = (np.arange(40) % 2).tolist()
    assert instabilities(whole, flips=4)[0].start == 1
    with pytest.raises(ValueError, match="give at least 4"):
        instabilities(whole, flips=3)
    with pytest.raises(ValueError, match="give at least 8"):
        bifurcation(lambda rate: list(short), [3], tail=7)


def test_a_tail_with_infinite_losses_has_no_period_and_warns_of_nothing() -> None:
    losses = np.append(np.ones(8), [np.inf, np.inf])
    assert bifurcation(lambda _: losses, [1.0], tail=8).periods == (None,)

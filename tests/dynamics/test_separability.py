"""Separation and margins of point sets that were solved by hand, and of random ones against other solvers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lossmith
from lossmith import dynamics
from lossmith.dynamics import angle, condition_number, margins, maximum_margin, minimum_norm, separability


def points(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def classes(*labels: int) -> Tensor:
    return torch.tensor(labels)


def drawn(seed: int, count: int, size: int, kinds: int, gap: float) -> tuple[Tensor, Tensor]:
    """Random points with a column of ones, moved apart along random weights of their classes."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, size, dtype=torch.float64, generator=generator)
    true = torch.randn(kinds, size, dtype=torch.float64, generator=generator)
    y = (x @ true.T).argmax(1)
    x = x + gap * true[y]
    return torch.cat([x, torch.ones(count, 1, dtype=torch.float64)], 1), y


SOLVED = {
    # name: points, classes, weights of smallest norm with margins of 1 or more
    "two points": (points((3, 4), (-3, -4)), classes(1, 0), [3 / 25, 4 / 25]),
    "two points, one farther": (points((1, 0), (-10, 0)), classes(1, 0), [1, 0]),
    "an intercept": (points((2, 1), (4, 1)), classes(0, 1), [1, -3]),
    "a triangle": (points((1, 0), (0, 1), (-1, -1)), classes(1, 1, 0), [1, 1]),
    "duplicates": (points((1, 0), (1, 0), (0, 1), (-1, -1), (-1, -1)), classes(1, 1, 1, 0, 0), [1, 1]),
    "one class": (points((0, 2), (1, 2)), classes(1, 1), [0, 0.5]),
    "a point on the margin without a say": (points((1, 0), (1, 5), (1, -5)), classes(1, 1, 1), [1, 0]),
    "three unit vectors": (
        points((1, 0, 0), (0, 1, 0), (0, 0, 1)),
        classes(0, 1, 2),
        (np.eye(3) - 1 / 3).tolist(),
    ),
}


@pytest.mark.parametrize("name", SOLVED)
def test_margins_solved_by_hand(name: str) -> None:
    x, y, weights = SOLVED[name]
    expected = torch.tensor(weights, dtype=torch.float64)
    assert separability(x, y).separable
    found = maximum_margin(x, y)
    assert found.converged
    torch.testing.assert_close(found.weights, expected, rtol=1e-9, atol=1e-12)
    assert found.margin == pytest.approx(1 / float(expected.norm()))
    assert found.bound == pytest.approx(found.margin)


NOT_COMPLETE = {
    # name: points, classes, kind
    "xor": (points((0, 0, 1), (1, 1, 1), (0, 1, 1), (1, 0, 1)), classes(0, 0, 1, 1), "overlap"),
    "xor through the origin": (points((1, 1), (-1, -1), (1, -1), (-1, 1)), classes(0, 0, 1, 1), "overlap"),
    "between": (points((1, 1), (2, 1), (3, 1)), classes(0, 1, 0), "overlap"),
    "one point in both classes": (points((1, 2), (1, 2)), classes(0, 1), "overlap"),
    "it and another": (points((1, 1), (1, 1), (2, 1)), classes(0, 1, 1), "quasi-complete"),
    "touching on the boundary": (points((0, 1), (1, 1), (1, 1), (2, 1)), classes(0, 0, 1, 1), "quasi-complete"),
    "the origin": (points((0, 0), (1, 1)), classes(1, 1), "quasi-complete"),
    "the origin alone": (points((0, 0)), classes(1), "overlap"),
    "no intercept": (points((1,), (2,)), classes(0, 1), "overlap"),
    "one of three apart": (
        points((9, 1), (0, 1), (1, 1), (0.5, 1), (0.6, 1)),
        classes(2, 0, 1, 1, 0),
        "quasi-complete",
    ),
    "three interleaved": (points((1, 1), (2, 1), (3, 1), (1.5, 1), (2.5, 1)), classes(0, 1, 2, 2, 0), "overlap"),
}


@pytest.mark.parametrize("name", NOT_COMPLETE)
def test_sets_that_no_linear_model_separates(name: str) -> None:
    x, y, kind = NOT_COMPLETE[name]
    found = separability(x, y)
    assert found.kind == kind
    assert found.converged
    assert not found.separable
    assert float(found.multipliers.sum()) == pytest.approx(1)
    if found.weights.ndim == 2:
        outputs = x @ found.weights.T
        products = outputs.gather(1, y[:, None]) - outputs
    else:
        products = (2 * y - 1) * (x @ found.weights)
    if kind == "quasi-complete":
        assert float(products.min()) > -1e-9
        assert float(products.max()) > 1e-3
    else:
        assert not found.weights.any()
    with pytest.raises(ValueError, match="no linear model separates"):
        maximum_margin(x, y)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kinds", [2, 3, 4])
def test_random_points_are_separable_where_the_weights_found_separate_them(seed: int, kinds: int) -> None:
    x, y = drawn(seed, 12, 2, kinds, 0.0)
    flipped = torch.where(torch.arange(12) < 4, (y + 1) % kinds, y)
    for labels in (y, flipped):
        found = separability(x, labels)
        reached = margins(x @ found.weights.T if found.weights.ndim == 2 else x @ found.weights, labels)
        assert found.separable == bool(reached.min() > 0)
        assert found.converged
        assert found.margin <= found.bound + 1e-9


def by_enumeration(x: Tensor, y: Tensor) -> Tensor:
    """The weights by trying every set of support vectors: the shortest of the solutions that violate nothing."""
    rows = ((2 * y - 1)[:, None] * x).numpy()
    best: np.ndarray | None = None
    for size in range(1, x.shape[1] + 1):
        for chosen in itertools.combinations(range(len(rows)), size):
            part = rows[list(chosen)]
            weights = np.linalg.pinv(part) @ np.ones(size)
            feasible = (rows @ weights >= 1 - 1e-9).all()
            if feasible and (best is None or weights @ weights < best @ best):
                best = weights
    assert best is not None
    return torch.from_numpy(best)


@pytest.mark.parametrize("seed", range(6))
def test_the_maximum_margin_by_enumeration(seed: int) -> None:
    x, y = drawn(seed, 11, 2, 2, 0.3)
    found = maximum_margin(x, y)
    torch.testing.assert_close(found.weights, by_enumeration(x, y), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kinds", [2, 3, 5])
def test_the_maximum_margin_by_another_solver(kinds: int) -> None:
    from scipy.optimize import minimize

    x, y = drawn(7, 30, 4, kinds, 0.5)
    shape = (x.shape[1],) if kinds == 2 else (kinds, x.shape[1])

    def slack(flat: np.ndarray) -> np.ndarray:
        """A row for each constraint; every other class has its own, so that no maximum is taken."""
        weights = flat.reshape(shape)
        if kinds == 2:
            return np.asarray((2 * y.numpy() - 1) * (x.numpy() @ weights) - 1)
        logits = x.numpy() @ weights.T
        own = logits[np.arange(len(y)), y.numpy()]
        gaps = own[:, None] - logits - 1
        return gaps[np.arange(kinds) != y.numpy()[:, None]]

    found = maximum_margin(x, y)
    other = minimize(
        lambda flat: (flat @ flat / 2, flat),
        found.weights.numpy().ravel() * 0 + 0.1,
        jac=True,
        constraints={"type": "ineq", "fun": slack},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert other.success
    torch.testing.assert_close(found.weights.ravel(), torch.from_numpy(other.x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kinds", [2, 4])
def test_the_conditions_of_the_optimum(kinds: int) -> None:
    """Karush, Kuhn and Tucker: weights = sum m a with m >= 0, and m > 0 at margins of exactly 1."""
    x, y = drawn(3, 200, 10, kinds, 0.2)
    found = maximum_margin(x, y)
    assert found.converged
    m = found.multipliers
    assert (m >= 0).all()
    if kinds == 2:
        torch.testing.assert_close((m * (2 * y - 1)) @ x, found.weights)
        products = (2 * y - 1) * (x @ found.weights)
    else:
        assert (m.gather(1, y[:, None]) == 0).all()
        torch.testing.assert_close((torch.eye(kinds)[y] * m.sum(1, keepdim=True) - m).T @ x, found.weights)
        logits = x @ found.weights.T
        products = logits.gather(1, y[:, None]) - logits
        products = products.masked_fill(torch.eye(kinds, dtype=torch.bool)[y], torch.inf)
    assert float(products.min()) == pytest.approx(1, abs=1e-9)
    torch.testing.assert_close(products[m > 1e-9], torch.ones(int((m > 1e-9).sum()), dtype=torch.float64))
    assert float(m.sum()) == pytest.approx(float((found.weights**2).sum()), rel=1e-9)


@pytest.mark.parametrize("kinds", [2, 3])
def test_units_and_turns_of_the_points(kinds: int) -> None:
    x, y = drawn(11, 60, 5, kinds, 0.3)
    turn, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    plain, turned = maximum_margin(x, y), maximum_margin(1e6 * x @ turn.T, y)
    torch.testing.assert_close(1e6 * turned.weights, plain.weights @ turn.T, rtol=1e-7, atol=1e-9)
    assert turned.margin == pytest.approx(1e6 * plain.margin)
    shuffled = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(maximum_margin(x[shuffled], y[shuffled]).weights, plain.weights, rtol=1e-7, atol=1e-9)
    wide = x * torch.logspace(-6, 6, 6, dtype=torch.float64)
    assert separability(wide, y).separable


def test_a_model_that_hardly_separates() -> None:
    """Two points that differ by 1e-6 where the others tell nothing: w . (2, -1, h) >= 1 and w . (-2, 1, h) >= 1.

    Rounding of the multipliers, 1 / 2h^2 each, moves the first two weights by up to 1e-4, by the processor.
    """
    h = 1e-6
    x, y = points((2, -1, h), (-2, 1, h)), classes(1, 1)
    found = maximum_margin(x, y)
    torch.testing.assert_close(found.weights, torch.tensor([0, 0, 1 / h], dtype=torch.float64), rtol=1e-3, atol=1)
    assert found.margin == pytest.approx(h, rel=1e-3)
    assert found.margin <= h * (1 + 1e-9)
    assert not found.converged or found.margin == pytest.approx(h, rel=1e-6)


def test_what_a_solver_gets_wrong_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Multipliers that are off by some per cent prove a bound, and not that the margin reaches it."""
    import scipy.optimize

    x, y = drawn(3, 50, 4, 2, 0.3)
    right, solve, program = maximum_margin(x, y), scipy.optimize.nnls, scipy.optimize.linprog

    def poor(*arguments: object, **options: object) -> tuple[np.ndarray, float]:
        found, rest = solve(*arguments, **options)
        return found * np.linspace(0.9, 1.1, len(found)), rest

    monkeypatch.setattr(scipy.optimize, "nnls", poor)
    found = maximum_margin(x, y)
    assert right.converged
    assert not found.converged
    assert found.margin < right.margin < found.bound

    def half(*arguments: object, **options: object) -> object:
        found = program(*arguments, **options)
        found.x = found.x * np.linspace(0.5, 1.0, len(found.x))
        return found

    certain = separability(x, y)
    monkeypatch.setattr(scipy.optimize, "linprog", half)
    assert certain.converged
    assert not separability(x, y).converged


def test_the_least_squares_model_of_smallest_norm() -> None:
    found = minimum_norm(points((1, 0, 0), (0, 2, 0)), classes(1, 0))
    torch.testing.assert_close(found.weights, torch.tensor([1, -0.5, 0], dtype=torch.float64))
    assert found.interpolates
    assert found.rank == 2
    found = minimum_norm(points((1,), (1,), (1,)), classes(1, 1, 0))
    assert float(found.weights) == pytest.approx(1 / 3)
    assert found.error == pytest.approx(math.sqrt((2 * (2 / 3) ** 2 + (4 / 3) ** 2) / 3))
    assert not found.interpolates
    x, y = drawn(0, 6, 20, 3, 0.0)
    found = minimum_norm(x, y)
    assert found.interpolates
    torch.testing.assert_close(x @ found.weights.T, torch.eye(3, dtype=torch.float64)[y])
    free = torch.eye(21, dtype=torch.float64) - torch.linalg.pinv(x) @ x
    assert float((found.weights @ free).norm()) < 1e-12


def test_angles() -> None:
    assert angle(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 5.0])) == pytest.approx(math.pi / 2)
    assert angle(torch.tensor([1.0, 1.0]), torch.tensor([-2.0, -2.0]), degrees=True) == pytest.approx(180)
    assert angle(torch.eye(2), 3 * torch.eye(2)) < 1e-15
    tiny = torch.tensor([1.0, 1e-12], dtype=torch.float64)  # of cosine 1
    assert angle(tiny, torch.tensor([1.0, 0.0])) == pytest.approx(1e-12)
    with pytest.raises(ValueError, match="norm 0"):
        angle(torch.zeros(2), torch.ones(2))
    with pytest.raises(ValueError, match=r"shapes \(2,\) and \(3,\)"):
        angle(torch.ones(2), torch.ones(3))


def test_margins_of_outputs() -> None:
    outputs = torch.tensor([[1.0, 4.0, 2.0], [1.0, 4.0, 2.0], [0.0, 0.0, -torch.inf]])
    assert margins(outputs, classes(1, 2, 0)).tolist() == [2, -2, 0]
    assert margins(torch.tensor([3.0, 3.0]), classes(0, 1)).tolist() == [-3, 3]
    with pytest.raises(ValueError, match="shape"):
        margins(torch.ones(3, 1), classes(0, 0, 0))


class Diagonal:
    size, dtype, device = 4, torch.float64, torch.device("cpu")

    def matvec(self, vector: Tensor) -> Tensor:
        return torch.tensor([2.0, 8.0, 0.0, 1.0], dtype=torch.float64) * vector


@pytest.mark.parametrize(
    "rank, number, following", [(None, 8.0, 0.0), (1, 1.0, 2.0), (2, 4.0, 1.0), (4, math.inf, None)]
)
def test_a_condition_number_counts_the_largest_eigenvalues(
    rank: int | None, number: float, following: float | None
) -> None:
    found = condition_number(Diagonal(), rank=rank)
    assert found.number == pytest.approx(number)
    assert math.isnan(found.next) if following is None else found.next == pytest.approx(following)


def test_a_condition_number_leaves_out_what_has_no_curvature() -> None:
    """The Hessian of softmax regression at zero weights is the covariance of the inputs times I/C - 1/C^2."""
    torch.manual_seed(0)
    x, y = torch.randn(40, 3, dtype=torch.float64), torch.arange(40) % 4
    model = nn.Linear(3, 4, bias=False).double()
    nn.init.zeros_(model.weight)
    hessian = dynamics.Hessian(model, lossmith.create("cross_entropy"), (x, y))
    second = torch.linalg.eigvalsh(x.T @ x)
    for rank in (None, 9):
        found = condition_number(hessian, rank=rank)
        assert found.number == pytest.approx(float(second[-1] / second[0]), rel=1e-9)
        assert found.rank == 9
        assert abs(found.next) < 1e-15
    assert condition_number(hessian, rank=12).number > 1e15
    with pytest.raises(ValueError, match="rank is 13"):
        condition_number(hessian, rank=13)


@pytest.mark.parametrize(
    "x, y, message",
    [
        (torch.ones(3), classes(0, 1, 0), "shape"),
        (torch.ones(3, 2), classes(0, 1), "shape"),
        (torch.ones(0, 2), classes(), "shape"),
        (torch.ones(2, 2), torch.ones(2), "integers"),
        (torch.ones(2, 2), classes(-1, 1), "integers"),
        (torch.full((2, 2), torch.nan), classes(0, 1), "not finite"),
    ],
)
def test_what_is_refused(x: Tensor, y: Tensor, message: str) -> None:
    for function in (separability, maximum_margin, minimum_norm):
        with pytest.raises(ValueError, match=message):
            function(x, y)  # type: ignore[operator]

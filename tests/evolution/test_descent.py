"""Descent on free logits from tabulated slopes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lossmith.evolution.descent import Array, Grid, learns, starting_logits
from lossmith.formulas import evaluate, parse
from lossmith.formulas.forward import values_and_slopes

GRID = Grid(-20.0, 12.0, 129)
CROSS_ENTROPY = np.stack([np.zeros(129), -np.ones(129)])
NOTHING = np.zeros((2, 129))


def table(text: str) -> Array:
    return values_and_slopes(parse(text), GRID.points, np.array([[0.0], [1.0]]), 10)[1]


def learned_by_torch(text: str) -> bool:
    """From the same logits, with exact gradients by autograd and torch's Adam, matched in scale."""
    formula = parse(text)
    logits = torch.tensor(starting_logits(), requires_grad=True)
    y = torch.zeros(10, dtype=torch.float64)
    y[0] = 1.0
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for step in range(1, 101):
        optimizer.zero_grad()
        log_p = logits.log_softmax(-1)
        evaluate(formula, p=log_p.exp(), c=-log_p, y=y, n=10.0).sum().backward()
        optimizer.step()
        if step % 10 == 0 and float((logits.argmax(-1) == 0).double().mean()) >= 0.9:
            return True
    return False


TEXTS = [
    "y*c",
    "exp(2.4092 - p*(1 + y)) - cos(cos(sin(p)))",
    "c + y/p",
    "y*expm1(c)",
    "square(p - y)",
    "y*(1 - p)**2*c",
    "y*(p - 0.3)**2",  # its minimum is at .3: enough to be the largest of ten
    "y*square(p - 0.12)",  # at .12: not enough for every sample
    "c*(1 - y)",  # lowers the others by raising them all
    "p*(1 - y)",
    "y*cos(20*p)",
    "y*sin(c)",
    "max(p, 0.2)*(1 - y) - 0.1*y*p",
    "y*p",
    "-y*c",
]


def test_agrees_with_torch_on_exact_gradients() -> None:
    found = learns(np.stack([table(text) for text in TEXTS])[:, None], GRID)
    expected = [learned_by_torch(text) for text in TEXTS]
    assert dict(zip(TEXTS, found.tolist(), strict=True)) == dict(zip(TEXTS, expected, strict=True))
    assert 3 <= sum(expected) <= len(TEXTS) - 3


def test_the_phases_follow_one_another() -> None:
    phases = [(CROSS_ENTROPY, NOTHING, NOTHING), (NOTHING, NOTHING, CROSS_ENTROPY), (NOTHING, NOTHING, -CROSS_ENTROPY)]
    assert learns(np.array(phases), GRID).tolist() == [True, True, False]


def test_slopes_between_the_points_are_interpolated() -> None:
    """-(u + 20)/32 is 0 at the first of two points, and no loss otherwise."""
    grid = Grid(-20.0, 12.0, 2)
    slopes = np.array([[0.0, 0.0], [0.0, -1.0]])
    assert learns(slopes[None, None], grid).tolist() == [True]


def test_each_loss_is_on_its_own() -> None:
    """What is left after others have learned goes on as if alone; the scale of a loss does not matter."""
    tables = np.stack([1000.0 * table(text) for text in TEXTS])[:, None]
    together = learns(tables, GRID)
    alone = [bool(learns(each[None] / 1000.0, GRID)[0]) for each in tables]
    assert together.tolist() == alone


@pytest.mark.filterwarnings("error")
def test_slopes_that_explode_do_not_learn_and_do_not_warn() -> None:
    huge = np.where(GRID.points < -1, 1e200, -1e300) * np.array([[0.0], [1.0]])
    assert learns(np.stack([huge, CROSS_ENTROPY])[:, None], GRID).tolist() == [False, True]

from __future__ import annotations

import itertools

import pytest
import torch

import lossmith
from lossmith.learned import AdaptiveLoss, distil, strictness_curve

C = 6


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        ("cross_entropy", "y*c"),
        ("poly1", "y*c - y*p"),
        ("brier", "-2*y*p + y*square(p) + (1 - y)*square(p)"),
        ("label_smoothing:epsilon=0.12", "0.9*y*c + 0.02*(1 - y)*c"),
        ("mae", "-y*p"),
    ],
)
def test_what_is_known_is_found_again(text: str, formula: str) -> None:
    found = distil(lossmith.create(text), C)
    assert found.formula == formula
    assert found.error < 1e-6


def test_the_gauge_drops_out() -> None:
    """Adding 3 y + 5 p to each class's part changes nothing."""
    plain, shifted = (distil(lossmith.create(f"formula({text})"), C) for text in ("y*c", "y*c + 3*y + 5*p"))
    assert plain.formula == shifted.formula


def test_the_error_is_that_of_the_formula_it_returns() -> None:
    """On states of its own, to within what the draw of states makes of it."""
    loss = AdaptiveLoss(bias=True).double()
    with torch.no_grad():
        for p in loss.residual.network.layers[-1].parameters():
            p.normal_(generator=torch.Generator().manual_seed(1))
    found = distil(loss.freeze(), C, max_terms=3)
    assert found.error < 0.3
    assert len(found.terms) <= 3
    formula = lossmith.create(f"formula({found.formula})")
    p = torch.linspace(0.05, 0.95, 20)
    ours, theirs = strictness_curve(formula, C, p), strictness_curve(loss, C, p)
    assert float((ours - theirs).abs().max()) < 5 * found.error * float(theirs.abs().max())


def test_more_terms_never_fit_worse() -> None:
    loss = AdaptiveLoss(start="random", bias=True).double().freeze()
    errors = [distil(loss, C, max_terms=count, tolerance=0.0).error for count in (1, 2, 3, 4)]
    assert all(b <= 1.02 * a for a, b in itertools.pairwise(errors))


def test_a_loss_without_gradient_is_refused() -> None:
    loss = AdaptiveLoss(start="random").double()
    with torch.no_grad():
        for p in loss.parameters():
            p.zero_()
    with pytest.raises(ValueError, match="gradient of the loss is 0"):
        distil(loss, C)


def test_strictness_of_focal_loss() -> None:
    """s(p) = (1 - p)^g - g p (1 - p)^(g - 1) log p for gamma g = 2."""
    p = torch.tensor([0.01, 0.1, 0.5, 0.9], dtype=torch.float64)
    right = (1 - p) ** 2 - 2 * p * (1 - p) * p.log()
    torch.testing.assert_close(strictness_curve(lossmith.create("focal"), C, p), right)
    torch.testing.assert_close(
        strictness_curve(AdaptiveLoss(), C, p), torch.ones(4, dtype=torch.float64), rtol=1e-5, atol=1e-5
    )

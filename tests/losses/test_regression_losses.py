"""Losses of an error, against torch's own, mpmath, and what they are minimised by."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import lossmith

ERRORS = torch.tensor([-1e4, -30.0, -2.5, -1.0, -1e-3, 0.0, 1e-5, 0.5, 1.0, 1.5, 88.0, 1e6], dtype=torch.float64)


def values(text: str, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    errors = ERRORS.to(dtype)
    terms: torch.Tensor = lossmith.create(text, reduction="none")(errors, torch.zeros_like(errors))
    return terms


def test_those_that_torch_has_are_torchs() -> None:
    zero = torch.zeros_like(ERRORS)
    torch.testing.assert_close(values("mse"), F.mse_loss(ERRORS, zero, reduction="none"))
    torch.testing.assert_close(values("absolute_error"), F.l1_loss(ERRORS, zero, reduction="none"))
    torch.testing.assert_close(values("huber:delta=0.3"), F.huber_loss(ERRORS, zero, reduction="none", delta=0.3))


@pytest.mark.parametrize("dtype, rtol", [(torch.float64, 1e-14), (torch.float32, 1e-6)])
def test_log_cosh_keeps_its_digits(dtype: torch.dtype, rtol: float) -> None:
    """At an error of 1e-5 the value is 5e-11, at 1e6 no hyperbolic cosine has a float."""
    with mpmath.workdps(60):
        exact = [float(mpmath.log(mpmath.cosh(mpmath.mpf(e)))) for e in ERRORS.to(dtype).double().tolist()]
    torch.testing.assert_close(
        values("log_cosh", dtype).double(), torch.tensor(exact, dtype=torch.float64), rtol=rtol, atol=0
    )
    error = ERRORS.to(dtype).requires_grad_()
    (slope,) = torch.autograd.grad(lossmith.create("log_cosh:reduction=sum")(error, torch.zeros_like(error)), error)
    torch.testing.assert_close(slope, torch.tanh(ERRORS.to(dtype)), rtol=10 * rtol, atol=0)


@pytest.mark.parametrize("q", [0.1, 0.5, 0.8])
def test_the_quantile_loss_is_least_at_the_quantile(q: float) -> None:
    target = torch.tensor(np.random.default_rng(0).exponential(size=1001))
    loss = lossmith.create("quantile", q=q)
    best = min(target.tolist(), key=lambda value: float(loss(torch.full_like(target, value), target)))
    assert best == pytest.approx(np.quantile(target.numpy(), q, method="inverted_cdf"))


@pytest.mark.parametrize("text", ["mse", "huber", "absolute_error", "log_cosh", "quantile", "smooth_absolute_error"])
def test_reductions_shapes_and_compilation(text: str) -> None:
    prediction, target = torch.randn(5, 3), torch.randn(5, 3)
    terms = lossmith.create(text, reduction="none")(prediction, target)
    assert terms.shape == (5, 3)
    torch.testing.assert_close(lossmith.create(text)(prediction, target), terms.mean())
    torch.testing.assert_close(lossmith.create(text, reduction="sum")(prediction, target), terms.sum())
    with pytest.raises(ValueError, match=r"one shape, not \(5, 3\) and \(5,\)"):
        lossmith.create(text)(prediction, target[:, 0])
    compiled = torch.compile(lossmith.create(text), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(prediction, target), terms.mean())


@pytest.mark.parametrize("text, argument", [("huber:delta=0", "delta"), ("quantile:q=1", "q")])
def test_arguments_out_of_range_are_refused(text: str, argument: str) -> None:
    with pytest.raises(ValueError, match=argument):
        lossmith.create(text)

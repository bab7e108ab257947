"""The two passes of `rows.cpp` for graphics cards, in Triton; one program a row. Importing this module imports Triton.

The formulas are those of `rows.cpp`. What differs is how the sums come about: in one sweep, every lane keeps the two
largest logits it has seen and the sum of the exponentials of all but the largest, relative to the second; at the end
the lanes are put together in the same way. So the sum never holds the top class, and nothing is subtracted from it.
All is in float32: the odds of the other classes against the top class, ``w = s exp(z_2 - z_m)``, give
``p_m = 1 / (1 + w)`` and ``1 - p_m = w / (1 + w)`` without cancellation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from lossmith.kernels.batch import NOWHERE, STATE, Batch, Polynomial

WIDEST: Final = 2048
"""Classes a program looks at at a time; a power of two."""
_STATE: Final = tl.constexpr(STATE)
_NOWHERE: Final = tl.constexpr(NOWHERE)
_PER_WARP: Final = 256
_MOST_WARPS: Final = 8


def forward(batch: Batch, made: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The first pass, written to ``made``: c, odds, others, top and the state of every row.

    A target out of range trips a device-side assertion, as in torch, and its row is NaN.
    """
    logits, target, ignore_index, polynomial = batch
    rows, classes = logits.shape
    if rows:
        with torch.cuda.device_of(logits):
            _forward[rows,](
                *(logits, target.contiguous(), *made, ignore_index, classes, logits.stride(0)),
                *(_coefficients(polynomial.value), _coefficients(polynomial.slope)),
                **_kind(polynomial),
                **_layout(classes),
            )
    return made


def backward(batch: Batch, top: Tensor, state: Tensor, gradients: Sequence[Tensor], made: Tensor) -> None:
    """The second pass: the logits' gradient, written to ``made``, which may be the logits themselves."""
    logits, target, ignore_index, polynomial = batch
    rows, classes = logits.shape
    if rows:
        with torch.cuda.device_of(logits):
            _backward[rows,](
                *(logits, target.contiguous(), top, state, *(of.contiguous() for of in gradients), made),
                *(ignore_index, classes, logits.stride(0), _coefficients(polynomial.slope)),
                **_kind(polynomial),
                **_layout(classes),
            )


def try_on(device: torch.device) -> None:
    """Run the first pass over a row of two classes; whatever keeps Triton from running is raised."""
    c, odds, others, top = (
        torch.empty(1, dtype=dtype, device=device)
        for dtype in (torch.float32, torch.float64, torch.float32, torch.int64)
    )
    made = (c, odds, others, top, torch.empty(1, STATE, device=device))
    forward(Batch(torch.zeros(1, 2, device=device), torch.zeros(1, dtype=torch.int64, device=device), -1), made)


def _coefficients(polynomial: Sequence[float]) -> tuple[float, ...]:
    """As arguments of the kernel: a tensor would have to be copied to the card at every call, which waits for it."""
    return tuple(polynomial) or (0.0,)


def _kind(polynomial: Polynomial) -> dict[str, Any]:
    """What the kernels are compiled for."""
    return {"DEGREE": polynomial.degree, "LOGS": polynomial.logs, "POWER": polynomial.power}


def _layout(classes: int) -> dict[str, Any]:
    block = min(WIDEST, triton.next_power_of_2(classes))
    return {
        "BLOCK": block,
        "num_warps": max(1, min(_MOST_WARPS, block // _PER_WARP)),
        "debug": torch.version.hip is None,  # this compiles the assertion, which ROCm does not know
        "sanitize_overflow": False,
    }


@triton.jit
def _forward(
    logits: tl.tensor,
    target: tl.tensor,
    c: tl.tensor,
    odds_of_top: tl.tensor,
    others: tl.tensor,
    top: tl.tensor,
    state: tl.tensor,
    ignored: tl.tensor,
    classes: tl.tensor,
    stride: tl.tensor,
    value: tl.tuple,
    slope: tl.tuple,
    DEGREE: tl.constexpr,
    LOGS: tl.constexpr,
    POWER: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    z = logits + row * stride
    t = tl.load(target + row)
    has_target = t != ignored
    in_range = (t >= 0) & (t < classes)
    tl.device_assert(in_range | (t == ignored), "Target is out of bounds.")

    lanes = tl.arange(0, BLOCK)
    first = tl.full((BLOCK,), float("-inf"), tl.float32)
    second = tl.full((BLOCK,), float("-inf"), tl.float32)
    sums = tl.zeros((BLOCK,), tl.float32)
    where = lanes
    for start in range(0, classes, BLOCK):
        j = start + lanes
        x = tl.load(z + j, mask=j < classes, other=float("-inf"))
        larger = x > first
        loser = tl.where(larger, first, x)  # NaN, where x is NaN
        runner_up = tl.where(loser > second, loser, second)
        shift = tl.where(runner_up == float("-inf"), 0.0, runner_up)
        sums = sums * tl.exp(second - shift) + tl.exp(loser - shift)
        first, second = tl.where(larger, x, first), runner_up
        where = tl.where(larger, j, where)

    z_top = tl.max(first, 0)
    m = tl.min(tl.where(first == z_top, where, classes), 0)
    won = where == m
    z_second = tl.max(tl.where(won, second, first), 0)
    alone = z_second == float("-inf")  # no other class is left
    shift = tl.where(alone, 0.0, z_second)
    total = tl.sum(sums * tl.exp(second - shift) + tl.where(won, 0.0, tl.exp(first - shift)), 0)

    gap = z_top - shift
    back = gap - z_top
    lost = (z_top - (gap - back)) - (shift + back)  # what rounding took from the gap
    odds = tl.where((gap < 110.0) & (total > 0.0), total * _exp(-gap) * (1.0 - lost), 0.0)
    bad = (total != total) | (z_top == float("inf")) | (z_top == float("-inf"))
    odds = tl.where(bad, float("nan"), odds)
    of_top = _log1p(odds)
    log_odds = z_top.to(tl.float64) - shift.to(tl.float64) - tl.log(total.to(tl.float64))
    log_odds = tl.where(alone, float("inf"), log_odds)
    log_odds = tl.where(bad, float("nan"), log_odds)
    inverse = tl.where(alone, 0.0, 1.0 / total)
    complement = odds / (1.0 + odds)

    z_target = tl.load(z + t, mask=has_target & in_range, other=float("nan"))
    of_target = tl.where(t == m, of_top, z_top - z_target + of_top)
    tl.store(c + row, tl.where(has_target, of_target, 0.0))
    tl.store(odds_of_top + row, log_odds)
    tl.store(top + row, m.to(tl.int64))
    of_row = state + row * _STATE
    tl.store(of_row, shift)
    tl.store(of_row + 1, inverse)
    tl.store(of_row + 2, 1.0 / (1.0 + odds))
    tl.store(of_row + 3, complement)
    c_second = of_top + gap
    tl.store(of_row + 5, c_second)

    of_others = tl.zeros((BLOCK,), tl.float32)
    of_slopes = tl.zeros((BLOCK,), tl.float32)
    if DEGREE >= 0:
        for start in range(0, classes, BLOCK):
            j = start + lanes
            summed = (j < classes) & (j != m) & ((j != t) | (t == ignored))
            x = tl.load(z + j, mask=summed, other=float("-inf"))
            p = tl.exp(x - shift) * (inverse * complement)
            c_each = c_second - (x - shift)
            near = tl.minimum(c_each, _NOWHERE)  # 0 times infinity would be NaN
            weight = _power(p, c_each, POWER)
            of_value = weight * _series(value, p, (c_each if POWER == 0.0 else near), DEGREE, LOGS)
            of_slope = weight * _series(slope, p, near, DEGREE, LOGS)
            of_others += tl.where(summed, of_value, 0.0)
            of_slopes += tl.where(summed, of_slope, 0.0)
    tl.store(others + row, tl.sum(of_others, 0))
    tl.store(of_row + 4, tl.sum(of_slopes, 0))


@triton.jit
def _backward(
    logits: tl.tensor,
    target: tl.tensor,
    top: tl.tensor,
    state: tl.tensor,
    g_c: tl.tensor,
    g_odds: tl.tensor,
    g_others: tl.tensor,
    gradient: tl.tensor,
    ignored: tl.tensor,
    classes: tl.tensor,
    stride: tl.tensor,
    slope: tl.tuple,
    DEGREE: tl.constexpr,
    LOGS: tl.constexpr,
    POWER: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    z = logits + row * stride
    g = gradient + row * classes
    t, m = tl.load(target + row), tl.load(top + row)
    has_target = t != ignored
    of_row = state + row * _STATE
    shift, inverse, p_top = tl.load(of_row), tl.load(of_row + 1), tl.load(of_row + 2)
    complement, slope_sum, c_second = tl.load(of_row + 3), tl.load(of_row + 4), tl.load(of_row + 5)
    of_c = tl.where(has_target, tl.load(g_c + row), 0.0)
    of_odds = tl.load(g_odds + row)
    of_others = tl.load(g_others + row) if DEGREE >= 0 else 0.0

    of_sum = of_others * slope_sum
    constant = complement * (of_c - of_sum) - of_odds
    at_top = of_odds - p_top * of_sum
    at_top += tl.where(has_target & (t == m), -complement * of_c, p_top * of_c)
    nothing = (constant == 0.0) & (of_c == 0.0) & (of_odds == 0.0) & (of_others == 0.0)

    lanes = tl.arange(0, BLOCK)
    if nothing:
        for start in range(0, classes, BLOCK):
            j = start + lanes
            tl.store(g + j, tl.zeros((BLOCK,), tl.float32), mask=j < classes)
    else:
        for start in range(0, classes, BLOCK):
            j = start + lanes
            # Every value is made from the one logit that it may overwrite.
            x = tl.load(z + j, mask=j < classes, other=0.0) - shift
            r = tl.exp(x) * inverse
            made = r * constant
            at_target = made - of_c
            if DEGREE >= 0:
                p, c_each = r * complement, c_second - x
                of_slope = _series(slope, p, tl.minimum(c_each, _NOWHERE), DEGREE, LOGS)
                if (LOGS == 0) & (POWER == 2.0):
                    made = r * (of_slope * p * (complement * of_others) + constant)
                else:
                    made += _power(p, c_each, POWER) * of_slope * of_others
            made = tl.where((j == t) & has_target, at_target, made)
            tl.store(g + j, tl.where(j == m, at_top, made), mask=j < classes)


@triton.jit
def _series(coefficients: tl.tuple, p: tl.tensor, c: tl.tensor, DEGREE: tl.constexpr, LOGS: tl.constexpr) -> tl.tensor:
    total = tl.zeros_like(p)
    for m in tl.static_range(LOGS, -1, -1):
        value = tl.zeros_like(p) + coefficients[m * (DEGREE + 1) + DEGREE]
        for k in tl.static_range(DEGREE):
            value = value * p + coefficients[m * (DEGREE + 1) + DEGREE - 1 - k]
        total = value if m == LOGS else total * c + value
    return total


@triton.jit
def _power(p: tl.tensor, c: tl.tensor, POWER: tl.constexpr) -> tl.tensor:
    """p^power for p = e^-c."""
    if POWER == 1.0:
        return p
    if POWER == 2.0:
        return p * p
    if POWER == 0.0:
        return tl.zeros_like(p) + 1.0
    return tl.exp(-POWER * c)


@triton.jit
def _exp(x: tl.tensor) -> tl.tensor:
    """e^x with the rounding of x log2(e) put back, which `tl.exp` leaves out: 4e-6 at x = -69."""
    power = x * 1.44269504
    rounding = tl.fma(x, 1.44269504, -power) + x * 1.92596299e-8
    return tl.exp2(power) * (1.0 + rounding * 0.693147181)


@triton.jit
def _log1p(x: tl.tensor) -> tl.tensor:
    """log(1 + x) for x >= 0, with what 1 + x leaves out of x put back."""
    one_more = 1.0 + x
    return tl.where(one_more == float("inf"), one_more, tl.log(one_more) + (x - (one_more - 1.0)) / one_more)

"""Whether a loss is convex, in the probabilities and in the logits: refuted, proved, or tested; it says which."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import torch
from torch import Tensor

from lossmith.properties.optimum import jacobian
from lossmith.properties.subject import Subject

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lossmith.formulas import Expression

_FEW: Final = 4  # classes, in which counterexamples are sought
_POINTS: Final = 200
_LOWEST: Final = 1e-6  # of p and of 1 - p, in tests and in proofs
_TOLERANCE, _ROUNDING = 1e-7, 1e-9  # relative to the second derivatives, to the spread of the loss
_PLAIN: Final = 0.005  # probabilities that a counterexample had better not be below
_CELLS, _HALVINGS, _MOST_CELLS = 512, 16, 200_000


@dataclass(frozen=True)
class Convexity:
    """An answer and where it comes from.

    Attributes:
        holds: whether it is convex.
        how: ``"proved"``, ``"counterexample"``, or ``"tested"`` (no counterexample was found).
        detail: the proof's method or the counterexample, in words.
    """

    holds: bool
    how: Literal["proved", "counterexample", "tested"]
    detail: str


def convex_in_probabilities(subject: Subject) -> Convexity:
    """Whether the loss of a label is a convex function of the probabilities, on the simplex."""
    found = _counterexample(subject, lambda p: subject.table(p.log()), simplex=True)
    if found is not None:
        return found
    for parts in _parts(subject):
        from lossmith.formulas import derivative

        curvatures = [derivative(derivative(part, "p"), "p") for part in parts]
        proof = _proof("p", curvatures)
        if proof is not None:
            return proof
    return _tested()


def convex_in_logits(subject: Subject) -> Convexity:
    """Whether the loss of a label is a convex function of the logits.

    A loss phi(c) of the target's cross-entropy c is, for any number of classes, if phi' >= 0 and
    ``phi''(c) (e^c - 1) + phi'(c) >= 0``: its Hessian is ``phi' (diag(p) - p p^T) + phi'' g g^T``, g = p - onehot, and
    ``g^T (diag(p) - p p^T)^+ g = (1 - p_t) / p_t = e^c - 1``. A sum over classes is if both of its parts are.
    """
    found = _counterexample(subject, subject.table, simplex=False)
    if found is not None:
        return found
    for parts in _parts(subject):
        from lossmith.formulas import apply, derivative, terminal

        slopes = [derivative(part, "c") for part in parts]
        along = [derivative(slope, "c") * apply("expm1", terminal("c")) + slope for slope in slopes]
        proof = _proof("c", slopes + along) or _proof("p", slopes + along)
        if proof is not None:
            return proof
    return _tested()


def _parts(subject: Subject) -> Iterator[tuple[Expression, Expression]]:
    """What the target's class and any other add, as expressions of p and c: as written, then in canonical form."""
    text = subject.loss.formula
    if text is None or subject.binary:
        return
    from lossmith.formulas import FormulaError, canonical, parse, substitute

    with suppress(FormulaError):
        whole = substitute(parse(text), n=float(subject.num_classes), t=0.0)
        parts = substitute(whole, y=1.0), substitute(whole, y=0.0)
        yield parts
        yield canonical(parts[0]), canonical(parts[1])


def _counterexample(subject: Subject, table: Callable[[Tensor], Tensor], *, simplex: bool) -> Convexity | None:
    """A point where the Hessian of some class's loss has a clearly negative eigenvalue."""
    C = subject.num_classes if subject.only else min(_FEW, max(2, subject.num_classes))
    logits = _points(C)
    at = (logits.softmax(1) if simplex else logits.clone()).requires_grad_()
    for target in range(1 if subject.symmetric else C):
        value = table(at)
        floor = _ROUNDING * float(value.detach()[value.isfinite()].std().nan_to_num(0.0))
        (gradient,) = torch.autograd.grad(value[:, target].sum(), at, create_graph=True)
        hessian = jacobian(gradient, at)
        size = hessian.abs().amax((1, 2)).clamp(min=1e-12)
        if simplex:
            basis = torch.linalg.qr(torch.eye(C, dtype=torch.float64)[:, :-1] - 1 / C)[0]
            hessian = basis.mT @ hessian @ basis
        usable = hessian.isfinite().flatten(1).all(1)
        lowest = torch.linalg.eigvalsh((hessian[usable] + hessian[usable].mT) / 2)[:, 0]
        p = logits.detach()[usable].softmax(1)
        negative = lowest < -_TOLERANCE * size[usable] - floor
        if not negative.any():
            continue
        least = int(torch.where(negative & (p.amin(1) > _PLAIN), lowest, lowest.clamp(min=-1e-3)).argmin())
        least = least if negative[least] else int((lowest / size[usable]).argmin())
        q = p[least].tolist()
        shown = ", ".join(f"{value:.3g}" for value in (q[target], *q[:target], *q[target + 1 :]))
        return Convexity(
            False,
            "counterexample",
            f"at the probabilities ({shown}), the target's first, the curvature is {float(lowest[least]):.2g} in one "
            "direction",
        )
    return None


def _points(num_classes: int) -> Tensor:
    """Logits of points all over the simplex: on the line where the others share evenly, and at random."""
    generator = torch.Generator().manual_seed(0)
    ends = math.log((1 - _LOWEST) / _LOWEST)
    line = torch.zeros(_POINTS, num_classes, dtype=torch.float64)
    line[:, 0] = torch.linspace(-ends, ends, _POINTS, dtype=torch.float64) + math.log(num_classes - 1)
    random = torch.randn(_POINTS, num_classes, dtype=torch.float64, generator=generator)
    return torch.cat([line, random, 3 * random.flip(0)])


def _tested() -> Convexity:
    return Convexity(True, "tested", f"no counterexample among {3 * _POINTS} points")


def _proof(variable: Literal["p", "c"], nonnegative: list[Expression]) -> Convexity | None:
    """A proof by interval arithmetic that expressions are nowhere negative: up to the ends of p or nearly."""
    import numpy as np

    from lossmith.formulas import substitute

    nonnegative = [substitute(expression) for expression in nonnegative]  # folds constants
    nonnegative = [expression for expression in nonnegative if not (expression.is_constant and expression.value >= 0)]
    ends = math.log((1 - _LOWEST) / _LOWEST)
    p = 1 / (1 + np.exp(-np.linspace(-ends, ends, _CELLS + 1)))
    inner = p if variable == "p" else -np.log(p[::-1])
    whole = np.concatenate([[0.0], inner, [1.0 if variable == "p" else math.inf]])
    for cells, where in ((whole, "for every 0 < p < 1"), (inner, f"for {_LOWEST:g} <= p <= 1 - {_LOWEST:g}")):
        if all(_nowhere_negative(expression, variable, cells) for expression in nonnegative):
            return Convexity(True, "proved", f"by interval arithmetic, {where}")
    return None


def _nowhere_negative(expression: Expression, variable: str, cells: NDArray[np.float64]) -> bool:
    """Whether bounds on cells, halved where they are too wide, exclude that the expression is negative."""
    import numpy as np

    from lossmith.formulas import bounds

    low, high = cells[:-1], cells[1:]
    for _ in range(_HALVINGS):
        lower, upper = bounds(expression, **{variable: (low, high)})
        doubtful = ~(lower >= 0)
        if not doubtful.any():
            return True
        low, high = low[doubtful], high[doubtful]
        if (upper < 0).any() or len(low) > _MOST_CELLS or not np.isfinite(high).all():
            return False
        middle = (low + high) / 2
        low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
    return False

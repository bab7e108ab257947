"""One form for formulas that mean the same: sums of products, in a fixed order, constants folded."""

from __future__ import annotations

import hashlib
from typing import Final

from lossmith.formulas.expression import Expression, fold
from lossmith.formulas.normal import Normaliser
from lossmith.formulas.polynomials import Product
from lossmith.formulas.writer import Writer

_PASSES: Final = 4


def canonical(expression: Expression) -> Expression:
    """The canonical form of a formula.

    It has the value of the formula, exactly, up to a constant: no rewrite rounds. A number is the double that it is
    read as, and is computed with as a fraction. A result that no double holds is written as a sum or a quotient of
    doubles (``3*0.1`` as ``0.30000000000000004 - 2.7755575615628914e-17``), and a function of numbers that is not
    rational stays as it is. The value meant is that in exact arithmetic; evaluation rounds each step of either form, by
    a few units in the last place of its largest term, so that what cancels exactly is 0 here and may not be in floats.

    Sums and products are flattened, sorted and multiplied out where that stays small; log(p) and c, exp and powers,
    quotients, aq, expm1 and the like are written one way; y counts as 0 or 1, p, c, n and t as not negative. Terms of
    the sum that depend on neither p nor c are dropped: they have no gradient. Two formulas with one canonical form have
    the same gradient in exact arithmetic; the converse cannot be promised.

    Args:
        expression: the formula.

    Returns:
        The canonical form, fit for comparing and hashing; for computing the formula as written is more precise.

    Raises:
        FormulaError: if a number cannot be written in doubles, or the form would have more than 20,000 nodes.
    """
    for _ in range(_PASSES):
        previous, expression = expression, _once(expression)
        if expression == previous:
            break
    return expression


def digest(expression: Expression) -> str:
    """A hash of what a formula means: that of its canonical form.

    Args:
        expression: the formula.

    Returns:
        The first 32 hexadecimal digits of the SHA-256 of the canonical form's text.

    Raises:
        FormulaError: as `canonical`.
    """
    return hashlib.sha256(str(canonical(expression)).encode()).hexdigest()[:32]


def _once(expression: Expression) -> Expression:
    writer = Writer()
    normaliser = Normaliser(writer, writer.text)
    polynomial = normaliser.opened(fold(expression, normaliser.node).open)
    return normaliser.write({product: factor for product, factor in polynomial.items() if _moves(product)})


def _moves(product: Product) -> bool:
    return any(base.depends_on("p", "c", "d") for base, _ in product)

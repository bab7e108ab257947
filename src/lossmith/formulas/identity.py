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

    Sums and products are flattened, sorted and multiplied out where that stays small, constants folded and rounded to
    12 digits; log(p) and c, exp and powers, quotients, aq, expm1 and the like are written one way; y counts as 0 or 1,
    p, c, n and t as not negative. Terms of the sum that depend on neither p nor c are dropped: they have no gradient.
    Two formulas with one canonical form have the same gradient up to rounding; the converse cannot be promised.

    Args:
        expression: the formula.

    Returns:
        The canonical form, fit for comparing and hashing; for computing the formula as written is more precise.

    Raises:
        FormulaError: if a constant overflows, or the form would have more than 20,000 nodes.
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

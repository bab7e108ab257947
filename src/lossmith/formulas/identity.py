"""One form for formulas that mean the same: sums of products, in a fixed order, constants folded."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from typing import Final

from lossmith.formulas.errors import FormulaError
from lossmith.formulas.expression import Expression, apply, constant, fold
from lossmith.formulas.normal import Normaliser, Polynomial, Product
from lossmith.formulas.printer import to_text

_DIGITS: Final = 12
_PASSES: Final = 4
_MAX_NODES: Final = 20_000


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
    writer = _Writer()
    normaliser = Normaliser(writer, writer.text)
    polynomial = fold(expression, normaliser.node)
    moving = {product: factor for product, factor in polynomial.items() if _moves(product)}
    return normaliser.write(moving)


def _moves(product: Product) -> bool:
    return any(base.depends_on("p", "c", "d") for base, _ in product)


class _Writer:
    """Polynomials as expressions: terms in the order of their texts, rounded constants."""

    def __init__(self) -> None:
        self.texts: dict[Expression, str] = {}

    def __call__(self, polynomial: Polynomial) -> Expression:
        return self._sum([(self._factors(product), rounded(factor)) for product, factor in polynomial.items()])

    def _sum(self, terms: list[tuple[list[Expression], float]]) -> Expression:
        """The sum of numbers times factors; of nothing, 0."""
        terms = [term for term in terms if term[1]]
        terms.sort(key=lambda term: [self.text(factor) for factor in term[0]])
        total: Expression | None = None
        for factors, value in terms:
            if total is None:
                total = _joined(factors, value)
            else:
                total = apply("sub" if value < 0 else "add", total, _joined(factors, abs(value)))
        if total is not None and total.size > _MAX_NODES:
            raise FormulaError(f"the canonical form of the formula would have more than {_MAX_NODES} nodes")
        return total or constant(0.0)

    def text(self, expression: Expression) -> str:
        """`str`, remembered."""
        return to_text(expression, self.texts)

    def _factors(self, product: Product) -> list[Expression]:
        """Factors in the order of their texts, all exponentials in one."""
        exponent: list[tuple[list[Expression], float]] = []
        factors: list[Expression] = []
        for base, power in product:
            value = rounded(power)
            if base.op == "exp":
                exponent.append((_unwrapped(base.args[0]), value))
            elif value:
                factors.append(base if value == 1 else apply("pow", base, constant(value)))
        if exponent:
            factors.append(apply("exp", self._sum(exponent)))
        return sorted(factors, key=self.text)


def _unwrapped(product: Expression) -> list[Expression]:
    """The factors that `_joined` made a product of."""
    factors: list[Expression] = []
    while product.op == "mul":
        product, factor = product.args
        factors.append(factor)
    return [product, *reversed(factors)]


def _joined(factors: list[Expression], value: float) -> Expression:
    """A number times factors."""
    if not factors:
        return constant(value)
    result = factors[0] if abs(value) == 1 else apply("mul", constant(value), factors[0])
    for factor in factors[1:]:
        result = apply("mul", result, factor)
    return apply("neg", result) if value == -1 else result


def rounded(number: Fraction) -> float:
    """A number to 12 digits.

    Raises:
        FormulaError: if it overflows.
    """
    try:
        return float(f"{float(number):.{_DIGITS}g}")
    except OverflowError:
        raise FormulaError("a constant of the formula overflows when constants are folded") from None

"""Canonical forms: formulas with the same meaning become the same sum of products."""

from __future__ import annotations

import hashlib
from typing import Final

from lossmith.formulas.expression import Expression, fold_known
from lossmith.formulas.normal import Normaliser
from lossmith.formulas.terms import Form, Product

_PASSES: Final = 4
_MOST_FORMS: Final = 20_000


def canonical(expression: Expression) -> Expression:
    """Rewrite a formula to its canonical form.

    Two formulas with the same canonical form have the same gradient in exact arithmetic. The converse does not hold for
    every pair.

    In exact arithmetic the canonical form equals the formula up to an additive constant: no rewrite rounds. Numbers are
    read as doubles and computed with as fractions. A result that is not a double is written as a sum or a quotient of
    doubles (``3*0.1`` becomes ``0.30000000000000004 - 2.7755575615628914e-17``), and an irrational function value stays
    symbolic. Do not evaluate the canonical form in floating point: expanded terms may cancel or overflow.

    Sums and products are flattened, sorted, and expanded where the result stays small. Equivalent spellings, such as
    log(p) and -c, powers and exponentials, or quotients and aq, are unified. y is assumed to be 0 or 1, and p, c, n and
    t to be nonnegative. Terms that depend on neither p nor c are dropped, because they have no gradient.

    Args:
        expression: the formula.

    Returns:
        The canonical form, for comparing and hashing.

    Raises:
        FormulaError: if a number cannot be written in doubles, or the form would have more than 20,000 nodes.
    """
    return Identifier().canonical(expression)


def digest(expression: Expression) -> str:
    """Hash the meaning of a formula, which is its canonical form.

    Args:
        expression: the formula.

    Returns:
        The first 32 hexadecimal digits of the SHA-256 of the canonical form's text.

    Raises:
        FormulaError: as `canonical`.
    """
    return Identifier().digest(expression)


class Identifier:
    """Finds the canonical forms of many formulas, and computes what they share once.

    The results are those of `canonical` and `digest`, in any order. What is kept is given up from time to time, so that
    memory is bounded.
    """

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._normaliser = Normaliser()
        self._forms: dict[Expression, Form] = {}

    def digest(self, expression: Expression) -> str:
        """As `lossmith.formulas.digest`."""
        return self.hash_of(self.canonical(expression))

    def hash_of(self, form: Expression) -> str:
        """The digest of a formula, given its canonical form."""
        return hashlib.sha256(self._normaliser.text(form).encode()).hexdigest()[:32]

    def canonical(self, expression: Expression) -> Expression:
        """As `lossmith.formulas.canonical`."""
        if len(self._forms) > _MOST_FORMS:
            self._start()
        for _ in range(_PASSES):
            previous, expression = expression, self._once(expression)
            if expression == previous:
                break
        return expression

    def _once(self, expression: Expression) -> Expression:
        terms = fold_known(expression, self._normaliser.node, self._forms).terms
        return self._normaliser.write({product: factor for product, factor in terms.items() if _moves(product)})


def _moves(product: Product) -> bool:
    return any(base.depends_on("p", "c", "d") for base, _ in product)

"""Extreme eigenvalues by the Lanczos algorithm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from lossmith.dynamics.operators import Operator

_BASIS: Final = 40
"""Vectors that are kept at most, besides those wanted."""
_LEAST: Final = 2
"""Products at least, besides one for each eigenvalue: a random vector may by chance look like an eigenvector."""
_SPARE: Final = 4
"""Eigenvectors that a restart keeps besides those wanted; they speed up what follows."""


class NotFiniteError(ValueError):
    """A product with an operator that is not finite; the message says so in a sentence."""


@dataclass(frozen=True, eq=False)
class Eigenvalues:
    """Eigenvalues at one end of a spectrum.

    Attributes:
        values: shape (k,), the outermost first.
        vectors: of norm 1, shape (k, size).
        residuals: norms of ``A v - value v``, shape (k,). Each value differs from some eigenvalue of A by at most its
            residual.
        converged: whether all residuals are within the tolerance.
        products: products with the operator that were taken.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    converged: bool
    products: int


def eigenvalues(
    operator: Operator,
    *,
    k: int = 1,
    which: Literal["largest", "smallest"] = "largest",
    tol: float = 1e-4,
    seed: int = 0,
    most: int = 1000,
) -> Eigenvalues:
    """Compute the k largest, or smallest, eigenvalues of an operator.

    The Lanczos algorithm with full orthogonalisation, restarted with the best vectors when its basis is full (thick
    restart: Wu and Simon, "Thick-restart Lanczos method for large symmetric eigenvalue problems", 2000). Where k is
    above 1, an eigenvalue that occurs several times may be found once only.

    Args:
        operator: the operator.
        k: how many.
        which: ``"largest"`` or ``"smallest"``, by value and not by magnitude.
        tol: the residual, relative to the magnitude of the eigenvalue, at which it stops; eigenvalues nearly 0 count
            with the largest magnitude found times the precision to the power 2/3, as in ARPACK.
        seed: of the first vector.
        most: products with the operator after which it stops, converged or not.

    Returns:
        The eigenvalues.

    Raises:
        ValueError: if k is not between 1 and the operator's size.
        NotFiniteError: if a product with the operator is not finite.
    """
    if not 1 <= k <= operator.size:
        raise ValueError(f"k is {k}: an operator with {operator.size} rows has between 1 and {operator.size}")
    sign, eps = 1.0 if which == "largest" else -1.0, torch.finfo(operator.dtype).eps
    basis = Basis(operator, seed, min(operator.size, k + _BASIS))
    products = 0
    while True:
        basis.extend(sign)
        products += 1
        theta, rotation = torch.linalg.eigh(basis.projected)
        theta, rotation = theta.flip(0), rotation.flip(1)
        residuals = basis.coupling * rotation[-1].abs()
        largest = float(theta.abs().max())
        allowed = (tol * theta.abs().clamp_min(eps ** (2 / 3) * largest)).clamp_min(10 * eps * largest)
        done = products >= k + _LEAST and bool((residuals[:k] <= allowed[:k]).all())
        done = done and float(theta[k - 1]) >= basis.outside - float(allowed[k - 1])
        if done or products >= most or basis.is_whole:
            break
        if basis.is_full:
            basis.restart(theta, rotation, min(k + _SPARE, len(theta) - 1))
    vectors = rotation[:, :k].T.to(operator.dtype) @ basis.vectors
    return Eigenvalues(sign * theta[:k].to(operator.dtype), vectors, residuals[:k], done or basis.is_whole, products)


class Basis:
    """An orthonormal basis that grows by one vector at a time, with the operator projected on it.

    Args:
        operator: the operator.
        seed: of the first vector.
        room: how many vectors there may be.

    Attributes:
        vectors: the basis, shape (m, size).
        projected: the operator in the basis, shape (m, m), float64.
        coupling: the norm of what the operator moves out of the basis, all of it from the last vector.
        outside: no eigenvalue outside the basis is larger. Where the basis has become invariant it goes on with a
            random vector, and a random vector meets all eigenvalues that are left. Before that it is minus infinity:
            small residuals are then all there is to go by.
    """

    def __init__(self, operator: Operator, seed: int, room: int) -> None:
        generator = torch.Generator(operator.device).manual_seed(seed)
        self.operator, self.room, self.generator = operator, room, generator
        self._all = torch.empty(room, operator.size, dtype=operator.dtype, device=operator.device)
        self._count = 0
        self.projected = torch.zeros(0, 0, dtype=torch.float64, device=operator.device)
        self.coupling, self.outside = 0.0, -math.inf
        self._negligible = 10 * torch.finfo(operator.dtype).eps
        self._scale = 0.0  # of the operator: the longest product
        self._begun = 0  # where the vectors begin that stem from the last random one
        self._next = self._random()

    @property
    def vectors(self) -> Tensor:
        """The basis."""
        return self._all[: self._count]

    @property
    def is_full(self) -> bool:
        """Whether there is no room for a further vector."""
        return self._count == self.room

    @property
    def is_whole(self) -> bool:
        """Whether the basis spans the whole space."""
        return self._count == self.operator.size

    def extend(self, sign: float) -> None:
        """Take in the next vector, and the operator's product with it."""
        self._all[self._count] = self._next
        self._count += 1
        image = sign * self.operator.matvec(self._next)
        length = _length(image)
        if not math.isfinite(length):
            raise NotFiniteError(
                "a product with the operator is not finite: the loss or a derivative of it overflows here"
            )
        column = self.vectors @ image
        rest = image - column @ self.vectors
        rest -= (self.vectors @ rest) @ self.vectors
        self.projected = torch.nn.functional.pad(self.projected, (0, 1, 0, 1))
        self.projected[:, -1] = self.projected[-1] = column.double()
        self.coupling = _length(rest)
        self._scale = max(self._scale, length)
        if self.coupling > self._negligible * self._scale:
            self._next = rest / self.coupling
            return
        own = self.projected[self._begun :, self._begun :]
        self.outside, self._begun = float(torch.linalg.eigvalsh(own)[-1]), self._count
        self._next = self._random()

    def restart(self, theta: Tensor, rotation: Tensor, count: int) -> None:
        """Keep ``count`` eigenvectors of the projected operator, the first ones."""
        self._all[:count] = rotation[:, :count].T.to(self._all.dtype) @ self.vectors
        self._count, self._begun = count, 0
        self.projected = torch.diag(theta[:count])

    def _random(self) -> Tensor:
        """A vector of norm 1, orthogonal to the basis."""
        vector = torch.randn(
            self.operator.size, generator=self.generator, dtype=self._all.dtype, device=self._all.device
        )
        for _ in range(2):
            vector -= (self.vectors @ vector) @ self.vectors
        length: Tensor = torch.linalg.vector_norm(vector).clamp_min(torch.finfo(vector.dtype).tiny)
        return vector / length


def _length(vector: Tensor) -> float:
    """The Euclidean norm, in float64 where the squares would underflow or overflow in the precision of the vector."""
    length = float(torch.linalg.vector_norm(vector))
    usual = _USUAL[0] < length < _USUAL[1]
    return length if usual else float(torch.linalg.vector_norm(vector, dtype=torch.float64))


_USUAL: Final = (1e-12, 1e15)
"""Norms whose squares no precision loses."""

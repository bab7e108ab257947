"""What a loss sees of the logits: probabilities in precise forms, and where they stand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# A loss that explodes is continued by its tangent where its slope against cross-entropy reaches e^20;
# for float16 logits e^8, because their gradient has to fit below 65504.
_LOG_SLOPE_LIMIT: Final = 20.0
_LOG_SLOPE_LIMIT_FLOAT16: Final = 8.0
LOG_SLOPE_LIMITS: Final = (_LOG_SLOPE_LIMIT, _LOG_SLOPE_LIMIT_FLOAT16)


class Entries(NamedTuple):
    """The setting of the entries a loss is evaluated at.

    Attributes:
        num_classes: number of classes C.
        labels: class index of each entry, or ``None`` where the entries run over all classes along ``dim``.
        ignore_index: the label of entries that do not count.
        dim: the class dimension of the logits.
        log_slope_limit: natural logarithm of the slope at which an exploding loss is continued linearly.
    """

    num_classes: int
    labels: Tensor | None
    ignore_index: int
    dim: int
    log_slope_limit: float

    def take(self, values: float | Tensor, like: Tensor) -> float | Tensor:
        """Bring a hyperparameter, one number or one value per class, to the entries ``like``."""
        if not isinstance(values, Tensor):
            return values
        if self.labels is not None:
            return of_labels(values.to(like.dtype), self.labels, self.ignore_index)
        return along(values.to(like.dtype), self.dim, like.dim())


class Prepared(NamedTuple):
    """One call's inputs after checks: what the two shapes of loss work from."""

    logits: Tensor
    entries: Entries
    class_weight: Tensor | None
    sample_weight: Tensor | None


class Probability:
    """The probability p of each entry in several forms, each computed once, when first asked for.

    ``value`` is p; ``c = -log p`` keeps precision near p = 0; ``d = -log(1 - p)`` keeps it near p = 1, where it is
    infinite; ``classes`` counts the classes that share the probability, those whose logit is not -inf.
    """

    def __init__(self, *, value: Callable[[], Tensor], **others: Callable[[], Tensor]) -> None:
        self._makers = {"p": value, **others}
        self._forms: dict[str, Tensor] = {}

    @property
    def value(self) -> Tensor:
        """The probability p."""
        return self.form("p")

    @property
    def c(self) -> Tensor:
        """The cross-entropy -log p."""
        return self.form("c")

    @property
    def d(self) -> Tensor:
        """The cross-entropy of the complement, -log(1 - p)."""
        return self.form("d")

    @property
    def classes(self) -> Tensor:
        """The number of classes whose logit is not -inf."""
        return self.form("classes")

    def form(self, name: str) -> Tensor:
        """One of the forms: p, c, d or classes."""
        if name not in self._forms:
            self._forms[name] = self._makers[name]()
        return self._forms[name]

    def map(self, function: Callable[[Tensor], Tensor]) -> Probability:
        """Apply a selection (gather, scatter) to whichever form is asked for."""
        return Probability(
            value=lambda: function(self.value),
            c=lambda: function(self.c),
            d=lambda: function(self.d),
            classes=lambda: function(self.classes),
        )

    def near_one(self) -> Probability:
        """The same with a precise c also where p > 1/2, computed from d: log_softmax leaves a small c few digits."""

        def c() -> Tensor:
            is_near = self.d > math.log(2)
            return torch.where(is_near, -torch.log1p(-torch.exp(-self.d.masked_fill(~is_near, 1.0))), self.c)

        return Probability(value=lambda: self.value, c=c, d=lambda: self.d, classes=lambda: self.classes)

    @classmethod
    def softmax(cls, logits: Tensor, dim: int) -> Probability:
        """Probabilities of the classes along ``dim``, from their logits."""
        return cls(
            value=lambda: logits.softmax(dim),
            c=lambda: -logits.log_softmax(dim),
            d=lambda: softmax_complement(logits, dim),
            classes=lambda: (logits != -math.inf).to(logits.dtype).sum(dim, keepdim=True).expand_as(logits),
        )

    @classmethod
    def sigmoid(cls, logits: Tensor) -> Probability:
        """Probabilities of independent yes-no questions, from their logits."""
        return cls(
            value=logits.sigmoid,
            c=lambda: -F.logsigmoid(logits),
            d=lambda: -F.logsigmoid(-logits),
            classes=lambda: torch.full_like(logits, 2),
        )


def at_least_float32(logits: Tensor) -> Tensor:
    """Half-precision logits as float32, others as they are."""
    return logits.float() if logits.dtype in {torch.float16, torch.bfloat16} else logits


def log_slope_limit(dtype: torch.dtype) -> float:
    """The natural logarithm of the slope at which a loss of logits of this dtype is continued linearly."""
    return _LOG_SLOPE_LIMIT_FLOAT16 if dtype == torch.float16 else _LOG_SLOPE_LIMIT


def softmax_complement(logits: Tensor, dim: int) -> Tensor:
    """Compute ``d = -log(1 - softmax(logits))``, precise for every class; +inf where no other class is left.

    Where one class holds more than half of the probability, 1 - p would cancel; its d comes from the sum of the *other*
    classes. Everywhere else ``log1p(-p)`` is exact to rounding.
    """
    log_p = logits.log_softmax(dim)
    log_p_top, top = log_p.max(dim, keepdim=True)
    lowest = torch.finfo(log_p.dtype).min  # not -inf, whose logsumexp has no gradient where no other class is left
    rest = logits.scatter(dim, top, lowest)
    largest = rest.amax(dim, keepdim=True).detach()  # taken off first, so that far from the top the others differ still
    others = (rest - largest).logsumexp(dim, keepdim=True) + (largest - logits.gather(dim, top)) + log_p_top
    holds_half = log_p_top > -math.log(2)
    d_top = torch.where(holds_half, -others, -torch.log1p(-log_p_top.exp().masked_fill(holds_half, 0.0)))
    d_top = d_top.masked_fill(largest == lowest, math.inf)
    return torch.log1p(-log_p.exp().scatter(dim, top, 0.0)).neg().scatter(dim, top, d_top)


def of_labels(values: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
    """The value of each label, for one value per class; some finite one for ignored labels."""
    index = labels.where(labels != ignore_index, 0)
    return values.index_select(0, index.flatten()).view(labels.shape)  # values[index] fails for vmap's single labels


def along(values: Tensor, dim: int, dims: int) -> Tensor:
    """View a vector of length C so that it broadcasts along dimension ``dim`` of a tensor with ``dims`` dimensions."""
    return values.view(*(-1 if i == dim else 1 for i in range(dims)))


def times(coefficient: Tensor, value: Tensor) -> Tensor:
    """``coefficient * value`` with ``0 * inf = 0``."""
    return coefficient * value.masked_fill((coefficient == 0) & value.isinf(), 0.0)


def product(*factors: Tensor | None) -> Tensor | None:
    """The product of those factors that are there."""
    result: Tensor | None = None
    for factor in factors:
        if factor is not None:
            result = factor if result is None else result * factor
    return result

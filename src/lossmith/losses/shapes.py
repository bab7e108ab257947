"""The two shapes almost every loss has: a function of the target's cross-entropy, or a sum over classes."""

from __future__ import annotations

import math
import operator
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.kernels import fuses, row_terms
from lossmith.losses.base import ClassificationLoss, Prepared
from lossmith.losses.entries import Entries, Probability, along, product, times
from lossmith.losses.fused import NegativePart, negative_part
from lossmith.losses.targets import uniform


class TargetLoss(ClassificationLoss):
    """A loss ``phi(c)`` of the target's cross-entropy ``c = -log p_target``.

    For target probabilities q and class weights w a sample's loss is ``sum_k w_k q_k phi(c_k)``. The gradient with
    respect to the logits is ``phi'(c) (p - onehot)``: ``phi'`` is the loss's strictness against cross-entropy.
    Subclasses write `phi` and, where they continue it by a tangent, `linear_above`: the c beyond which they do.
    """

    def phi(self, c: Tensor, entries: Entries) -> Tensor:
        """The loss as a function of cross-entropy, elementwise; 0 at c = 0, finite with its slope at every finite c."""
        raise NotImplementedError

    def label_terms(self, prepared: Prepared, target: Tensor) -> Tensor:
        """See `ClassificationLoss.label_terms`."""
        logits, entries, class_weight, sample_weight = prepared
        # An ignored sample has c = 0, and phi(0) = 0.
        if self.implementation == "auto" and fuses(logits, with_others=False):
            c = row_terms(logits, target, self.ignore_index).c
        else:
            c = F.cross_entropy(logits, target, ignore_index=self.ignore_index, reduction="none")
        terms = self.terms_of(c, target, entries, class_weight, sample_weight)
        if not self.label_smoothing:
            return terms
        spread = self._mean_over_classes(-logits.log_softmax(entries.dim), prepared)
        spread = spread.where(target != self.ignore_index, 0.0)
        return (1 - self.label_smoothing) * terms + self.label_smoothing * spread

    def terms_of(
        self, c: Tensor, target: Tensor, entries: Entries, class_weight: Tensor | None, sample_weight: Tensor | None
    ) -> Tensor:
        """The weighted losses of class-index targets with cross-entropies ``c``, which is 0 where one is ignored."""
        return self._weighted(c, product(sample_weight, self._target_weight(class_weight, target)), entries)

    def soft_terms(self, prepared: Prepared, q: Tensor) -> Tensor:
        """See `ClassificationLoss.soft_terms`."""
        return self._sum_classes(-prepared.logits.log_softmax(prepared.entries.dim), q, prepared)

    def binary_terms(self, prepared: Prepared, q: Tensor) -> Tensor:
        """See `ClassificationLoss.binary_terms`."""
        logits, entries, class_weight, sample_weight = prepared
        no, yes = (None, None) if class_weight is None else class_weight.unbind()
        return self._weighted(-F.logsigmoid(logits), product(q, sample_weight, yes), entries) + self._weighted(
            -F.logsigmoid(-logits), product(1 - q, sample_weight, no), entries
        )

    def _mean_over_classes(self, c: Tensor, prepared: Prepared) -> Tensor:
        """The mean of ``w_k phi(c_k)`` over the classes whose logit is not -inf, times the sample weight."""
        logits, entries, class_weight, sample_weight = prepared
        absent = logits == -math.inf
        terms = self.phi(c.masked_fill(absent, 0.0), entries._replace(labels=None)).masked_fill(absent, 0.0)
        if class_weight is not None:
            terms = terms * along(class_weight, entries.dim, c.dim())
        mean = terms.sum(entries.dim) / (~absent).sum(entries.dim)
        return mean if sample_weight is None else times(sample_weight, mean)

    def _sum_classes(self, c: Tensor, q: Tensor, prepared: Prepared) -> Tensor:
        """``sum_k w_k q_k phi(c_k)`` over the class dimension, times the sample weight."""
        entries, class_weight, sample_weight = prepared.entries, prepared.class_weight, prepared.sample_weight
        if class_weight is not None:
            q = q * along(class_weight, entries.dim, c.dim())
        if sample_weight is not None:
            q = q * sample_weight.unsqueeze(entries.dim)
        return self._weighted(c, q, entries).sum(entries.dim)

    def _weighted(self, c: Tensor, coefficient: Tensor | None, entries: Entries) -> Tensor:
        """``coefficient * phi(c)``, 0 where the coefficient is 0 and c infinite."""
        if coefficient is None:
            return self.phi(c, entries)
        return coefficient * self.phi(c.masked_fill((coefficient == 0) & c.isinf(), 1.0), entries)


class ClasswiseLoss(ClassificationLoss):
    """A loss ``sum_j l(q_j, p_j)`` over the classes, ``l(q, p) = q positive(p) + (1 - q) negative(p)``.

    With class weights w a sample's loss is ``(sum_k w_k q_k) sum_j l(q_j, p_j)``. With a class index t as target it is
    ``sum_j negative(p_j) + (positive - negative)(p_t)``: no one-hot tensor is built. Where ``negative`` is infinite at
    p = 0 or 1 (`singular`) the target class is masked out of the sum instead, as that difference would be inf - inf.
    Subclasses write `positive` and `negative`, and where they continue them by tangents in c and d, `linear_above`.
    """

    singular: ClassVar[bool] = False
    """Whether `negative` is infinite at p = 0 or p = 1."""
    two_classes: ClassVar[bool] = False
    """Whether ``task="binary"`` takes a question's yes and no as two classes, because `positive` and `negative` of one
    class make no sense without the others."""

    def positive(self, p: Probability, entries: Entries) -> Tensor:
        """The part of a class that is the target."""
        raise NotImplementedError

    def negative(self, p: Probability, entries: Entries) -> Tensor:
        """The part of a class that is not the target."""
        raise NotImplementedError

    def probability(self, prepared: Prepared) -> Probability:
        """The probabilities of all classes; softmax unless the loss says otherwise."""
        return Probability.softmax(prepared.logits, prepared.entries.dim)

    def class_factor(self, entries: Entries) -> float:
        """The factor in front of the sum over classes: 1 for a sum, 1/C for a mean."""
        del entries
        return 1.0

    def label_terms(self, prepared: Prepared, target: Tensor) -> Tensor:
        """See `ClassificationLoss.label_terms`."""
        negative = self._fusable(prepared)
        if negative is not None:
            return self._fused_terms(prepared, target, negative)
        valid = target != self.ignore_index
        entries, class_weight = prepared.entries, prepared.class_weight
        dim, smoothing = entries.dim, self.label_smoothing
        index = target.where(valid, 0).unsqueeze(dim)
        p = self.probability(prepared)
        p_target = p.map(lambda form: form.gather(dim, index).squeeze(dim))
        if self.singular:
            # 0.5 is harmless in all three forms; what is computed there is overwritten by 0.
            others = self.negative(p.map(lambda form: form.scatter(dim, index, 0.5)), entries).scatter(dim, index, 0.0)
            terms = others.sum(dim) + self.positive(p_target, entries)
        else:
            terms = self.negative(p, entries).sum(dim) + (
                self.positive(p_target, entries) - self.negative(p_target, entries)
            )
        mass = self._target_weight(class_weight, target)
        if smoothing:
            spread = uniform(prepared.logits, dim)
            terms = (1 - smoothing) * terms + smoothing * self._sum_classes(p, spread, entries)
            if mass is not None and class_weight is not None:
                mass = (1 - smoothing) * mass + smoothing * self._mass(spread, class_weight, dim)
        return self._weighted(terms, mass, prepared).where(valid, 0.0)

    def soft_terms(self, prepared: Prepared, q: Tensor) -> Tensor:
        """See `ClassificationLoss.soft_terms`."""
        entries, class_weight = prepared.entries, prepared.class_weight
        mass = q.sum(entries.dim) if class_weight is None else self._mass(q, class_weight, entries.dim)
        return self._weighted(self._sum_classes(self.probability(prepared), q, entries), mass, prepared)

    def binary_terms(self, prepared: Prepared, q: Tensor) -> Tensor:
        """See `ClassificationLoss.binary_terms`."""
        p, entries, class_weight = (
            Probability.sigmoid(prepared.logits),
            prepared.entries,
            prepared.class_weight,
        )
        yes, no = self.positive(p, entries), self.negative(p, entries)
        if self.two_classes:
            other = Probability.sigmoid(-prepared.logits)
            yes, no = yes + self.negative(other, entries), no + self.positive(other, entries)
        terms = times(q, yes) + times(1 - q, no)
        mass = None if class_weight is None else class_weight[0] + (class_weight[1] - class_weight[0]) * q
        return self._weighted(terms, mass, prepared)

    def _fusable(self, prepared: Prepared) -> NegativePart | None:
        """What the kernels need to know of the loss; None where they do not serve the call."""
        if self.implementation != "auto" or self.label_smoothing or not fuses(prepared.logits, with_others=True):
            return None
        expression = self.expression("y")
        if expression is None or type(self).probability is not ClasswiseLoss.probability or self._learns():
            return None
        num_classes = operator.index(prepared.entries.num_classes)  # torch.compile may have a symbol for it
        factor = self.class_factor(prepared.entries._replace(num_classes=num_classes))
        part: NegativePart | None = negative_part(expression, num_classes, factor)
        return part

    def _learns(self) -> bool:
        """Whether a tensor of the loss itself needs a gradient, which the polynomial, a constant, would not give it."""
        own = (value for value in vars(self).values() if isinstance(value, Tensor))
        return any(tensor.requires_grad for tensor in (*self.parameters(), *self.buffers(), *own))

    def _fused_terms(self, prepared: Prepared, target: Tensor, negative: NegativePart) -> Tensor:
        """`label_terms` where all but the target and the most probable class go through the kernels' polynomial."""
        logits, entries = prepared.logits, prepared.entries
        rows = row_terms(logits, target, self.ignore_index, negative.polynomial)
        is_top, valid = rows.top == target, target != self.ignore_index
        # In float64, and of one number a row: what cancels between the forms, and with a common slope, cancels here.
        c_top, d_top = -F.logsigmoid(rows.odds), -F.logsigmoid(-rows.odds)
        c = torch.where(is_top, c_top, rows.c.double().masked_fill(is_top | ~valid, 1.0))
        d = torch.where(is_top, d_top, -torch.log1p(-torch.exp(-c).masked_fill(is_top, 0.0)))
        positive = self.positive(_of_rows(c, d, logits), entries)
        # 0.5 is harmless in all three forms; what is computed there is overwritten by 0.
        top = _of_rows(c_top, d_top, logits).map(lambda form: form.masked_fill(is_top, 0.5))
        top_and_rest = self.negative(top, entries).masked_fill(is_top, 0.0)
        rest = -torch.expm1(-c_top) - torch.exp(-c).masked_fill(is_top, 0.0)  # all probability but target's and top's
        at_zero = negative.at_zero * (entries.num_classes - 2 + is_top.double())
        terms = positive + top_and_rest + rows.others + at_zero + negative.slope_at_zero * rest
        mass = self._target_weight(prepared.class_weight, target)
        return self._weighted(terms.to(logits.dtype), mass, prepared).where(valid, 0.0)

    def _sum_classes(self, p: Probability, q: Tensor, entries: Entries) -> Tensor:
        return (times(q, self.positive(p, entries)) + times(1 - q, self.negative(p, entries))).sum(entries.dim)

    def _mass(self, q: Tensor, class_weight: Tensor, dim: int) -> Tensor:
        return (q * along(class_weight, dim, q.dim())).sum(dim)

    def _weighted(self, terms: Tensor, mass: Tensor | None, prepared: Prepared) -> Tensor:
        factor = self.class_factor(prepared.entries)
        if factor != 1.0:
            terms = terms * factor
        coefficient = product(mass, prepared.sample_weight)
        return terms if coefficient is None else times(coefficient, terms)


def _of_rows(c: Tensor, d: Tensor, logits: Tensor) -> Probability:
    """One probability a row of the logits, shape (N,)."""
    return Probability(
        value=lambda: torch.exp(-c),
        c=lambda: c,
        d=lambda: d,
        classes=lambda: (logits != -math.inf).sum(1).to(logits.dtype),
    )

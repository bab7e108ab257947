"""The two shapes almost every loss has: a function of the target's cross-entropy, or a sum over classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from lossmith.formulas import Expression
from lossmith.losses.base import ClassificationLoss, CommonArguments
from lossmith.losses.entries import Entries, Prepared, Probability, along, product, times
from lossmith.losses.parts import ClassParts, Part, class_parts, document, stated, target_part
from lossmith.losses.targets import uniform


class StatedLoss(ClassificationLoss):
    """A loss that says once, in `statement`, what one class adds to the loss of a sample.

    The expression is in p, c, y and n (see `Loss.formula`) and in the names of the loss's own arguments. From it
    follow torch code, tangent, certificate, kernels and export.

    Args:
        values: for subclasses: what the names in the statement stand for.
        statement: for subclasses: in place of the class's.
        **common: see `ClassificationLoss`.
    """

    statement: ClassVar[str | None] = None

    def __init__(
        self,
        values: Mapping[str, float | Expression] | None = None,
        statement: str | Expression | None = None,
        /,
        **common: Unpack[CommonArguments],
    ) -> None:
        super().__init__(**common)
        statement = statement or type(self).statement
        if statement is not None:
            self.expression = stated(statement, values or {})
            self.compile_parts(self.expression)

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        document(cls, "Each class adds ``{}`` to the loss of a sample.")

    def compile_parts(self, expression: Expression) -> None:
        """Make functions of the expression."""
        raise NotImplementedError

    def settings(self, entries: Entries) -> dict[str, Any]:
        """What an expression depends on besides the probabilities."""
        return {"n": entries.num_classes}


class TargetLoss(StatedLoss):
    """A loss ``phi(c)`` of the target's cross-entropy ``c = -log p_target``.

    For target probabilities q and class weights w a sample's loss is ``sum_k w_k q_k phi(c_k)``. The gradient with
    respect to the logits is ``phi'(c) (p - onehot)``: ``phi'`` is the loss's strictness against cross-entropy.
    Subclasses state what a class adds; those without an expression write `phi`.
    """

    explodes: ClassVar[bool] = True
    """Whether a slope without bound is cut off by a tangent."""
    part: Part | None = None

    @override
    def compile_parts(self, expression: Expression) -> None:
        self.part = target_part(expression, exploding=self.explodes)

    def phi(self, c: Tensor, entries: Entries) -> Tensor:
        """The loss as a function of cross-entropy, elementwise; 0 for ignored entries, which have c = 0."""
        part = self.part
        assert part is not None, "a loss without a statement writes phi"
        if part.is_simple:
            terms: Tensor = part.run({"c": c}, entries.log_slope_limit)
            return terms
        if entries.labels is None or part.is_zero_at_one:
            return part.run_like(c, {**self.settings(entries), "c": c}, entries.log_slope_limit)
        ignored = entries.labels == entries.ignore_index
        values = {**self.settings(entries), "c": c.masked_fill(ignored, 1.0)}
        return part.run_like(c, values, entries.log_slope_limit).masked_fill(ignored, 0.0)

    @override
    def linear_above(self, limit: float) -> float | Tensor | None:
        return None if self.part is None else self.part.linear_above(limit)

    @override
    def label_terms(self, prepared: Prepared, target: Tensor) -> Tensor:
        c = F.cross_entropy(prepared.logits, target, ignore_index=self.ignore_index, reduction="none")
        return self.terms_of_rows(c, target, prepared)

    def terms_of_rows(self, c: Tensor, target: Tensor, prepared: Prepared) -> Tensor:
        """`label_terms`, given the cross-entropies ``c`` of the targets, which are 0 where one is ignored."""
        logits, entries, class_weight, sample_weight = prepared
        if class_weight is None and sample_weight is None:
            terms = self.phi(c, entries)
        else:
            terms = self.terms_of(c, target, entries, class_weight, sample_weight)
        if not self.label_smoothing:
            return terms
        spread = self._mean_over_classes(-logits.log_softmax(entries.dim), prepared)
        spread = spread.where(target != self.ignore_index, 0.0)
        return (1 - self.label_smoothing) * terms + self.label_smoothing * spread

    def terms_of(
        self, c: Tensor, target: Tensor, entries: Entries, class_weight: Tensor | None, sample_weight: Tensor | None
    ) -> Tensor:
        """`terms_of_rows` without label smoothing."""
        return self._weighted(c, product(sample_weight, self.target_weight(class_weight, target)), entries)

    @override
    def soft_terms(self, prepared: Prepared, q: Tensor) -> Tensor:
        return self._sum_classes(-prepared.logits.log_softmax(prepared.entries.dim), q, prepared)

    @override
    def binary_terms(self, prepared: Prepared, q: Tensor) -> Tensor:
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


class ClasswiseLoss(StatedLoss):
    """A loss ``sum_j l(q_j, p_j)`` over the classes, ``l(q, p) = q positive(p) + (1 - q) negative(p)``.

    With class weights w a sample's loss is ``(sum_k w_k q_k) sum_j l(q_j, p_j)``. With a class index t as target it is
    ``sum_j negative(p_j) + (positive - negative)(p_t)``: no one-hot tensor is built. Where ``negative`` is infinite at
    p = 0 or 1 (`singular`) the target class is masked out of the sum instead, as that difference would be inf - inf.
    Subclasses state what a class adds; those without an expression write `positive` and `negative`.
    """

    singular: bool = False
    """Whether `negative` is infinite at p = 0 or p = 1."""
    precise: ClassVar[bool] = False
    """Whether 1 - p is computed from the other classes, so that it keeps its digits near p = 1."""
    explodes: ClassVar[bool] = True
    """Whether a slope without bound is cut off by a tangent."""
    two_classes: ClassVar[bool] = False
    """Whether ``task="binary"`` takes a question's yes and no as two classes, because `positive` and `negative` of one
    class make no sense without the others."""
    parts: ClassParts | None = None

    @override
    def compile_parts(self, expression: Expression) -> None:
        self.parts = class_parts(expression, precise=self.precise, exploding=self.explodes)
        self.singular = self.parts.singular

    def positive(self, p: Probability, entries: Entries) -> Tensor:
        """The part of a class that is the target."""
        parts = self.parts
        assert parts is not None, "a loss without a statement writes positive"
        return self._value(parts.positive, p.near_one() if self.singular else p, entries)

    def negative(self, p: Probability, entries: Entries) -> Tensor:
        """The part of a class that is not the target."""
        assert self.parts is not None, "a loss without a statement writes negative"
        return self._value(self.parts.negative, p, entries)

    def gain(self, p: Probability, entries: Entries) -> Tensor:
        """``positive - negative``."""
        if self.parts is None or self.parts.gain is None:
            return self.positive(p, entries) - self.negative(p, entries)
        return self._value(self.parts.gain, p, entries)

    def forms(self, part: Part, p: Probability, entries: Entries) -> dict[str, Any]:
        """What a part is evaluated at."""
        forms: dict[str, Any] = {form: p.form(form) for form in part.forms}
        return {**self.settings(entries), **forms} if part.has_settings else forms

    def _value(self, part: Part, p: Probability, entries: Entries) -> Tensor:
        values = self.forms(part, p, entries)
        like = values[part.forms[0]] if part.forms else p.c
        return part.run_like(like, values, entries.log_slope_limit)

    @override
    def linear_above(self, limit: float) -> float | Tensor | None:
        return None if self.parts is None else self.parts.positive.linear_above(limit)

    def probability(self, prepared: Prepared) -> Probability:
        """The probabilities of all classes; softmax unless the loss says otherwise."""
        return Probability.softmax(prepared.logits, prepared.entries.dim)

    def class_factor(self, entries: Entries) -> float:
        """The factor in front of the sum over classes: 1 for a sum, 1/C for a mean."""
        return 1 / entries.num_classes if self.parts is not None and self.parts.is_mean else 1.0

    @override
    def label_terms(self, prepared: Prepared, target: Tensor) -> Tensor:
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
            terms = self.gain(p_target, entries)
            if self.parts is None or not self.parts.negative.is_nothing:
                terms = self.negative(p, entries).sum(dim) + terms
        mass = self.target_weight(class_weight, target)
        if smoothing:
            spread = uniform(prepared.logits, dim)
            terms = (1 - smoothing) * terms + smoothing * self._sum_classes(p, spread, entries)
            if mass is not None and class_weight is not None:
                mass = (1 - smoothing) * mass + smoothing * self._mass(spread, class_weight, dim)
        return self.weighted(terms, mass, prepared).where(valid, 0.0)

    @override
    def soft_terms(self, prepared: Prepared, q: Tensor) -> Tensor:
        entries, class_weight = prepared.entries, prepared.class_weight
        mass = q.sum(entries.dim) if class_weight is None else self._mass(q, class_weight, entries.dim)
        return self.weighted(self._sum_classes(self.probability(prepared), q, entries), mass, prepared)

    @override
    def binary_terms(self, prepared: Prepared, q: Tensor) -> Tensor:
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
        return self.weighted(terms, mass, prepared)

    def _sum_classes(self, p: Probability, q: Tensor, entries: Entries) -> Tensor:
        return (times(q, self.positive(p, entries)) + times(1 - q, self.negative(p, entries))).sum(entries.dim)

    def _mass(self, q: Tensor, class_weight: Tensor, dim: int) -> Tensor:
        return (q * along(class_weight, dim, q.dim())).sum(dim)

    def weighted(self, terms: Tensor, mass: Tensor | None, prepared: Prepared) -> Tensor:
        """Losses times the factor of the sum over classes, the weights of classes and those of samples."""
        factor = self.class_factor(prepared.entries)
        if factor != 1.0:
            terms = terms * factor
        coefficient = product(mass, prepared.sample_weight)
        return terms if coefficient is None else times(coefficient, terms)

"""What every classification loss shares: the common arguments, targets, weights and reductions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, TypedDict, Unpack, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from lossmith.formulas import Expression
from lossmith.losses.arguments import (
    check_choice,
    check_number,
    class_values,
    defaults_of,
    whole_number,
)
from lossmith.losses.entries import Entries, Prepared, at_least_float32, log_slope_limit, of_labels, product
from lossmith.losses.fused import fused_terms
from lossmith.losses.loss import CallOptions, Implementation, Kind, LogitLoss
from lossmith.losses.parts import smoothed
from lossmith.losses.reductions import Fraction, Reduction, masses_of_labels, mean_of_labels, reduced
from lossmith.losses.targets import (
    broadcast_sample_weight,
    check_call,
    check_labels,
    check_values,
    smooth,
    smooth_binary,
)

ClassificationTask = Literal["multiclass", "binary"]


class CommonArguments(TypedDict, total=False):
    """Constructor arguments that every classification loss takes; see `ClassificationLoss`."""

    weight: Tensor | Sequence[float] | None
    ignore_index: int
    reduction: Reduction
    label_smoothing: float
    task: ClassificationTask
    validate: bool
    implementation: Implementation


class ClassificationLoss(LogitLoss):
    """Base of all classification losses: a drop-in for `torch.nn.CrossEntropyLoss`.

    Args:
        weight: one weight per class, length C, or ``None``.
        ignore_index: label whose samples count for nothing; only for class-index targets.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``. The mean divides by the sum of sample weight times class weight
            of the target over the samples not ignored (class-index targets), or by the sum of the sample weights
            (probability targets), as `torch.nn.functional.cross_entropy` does; if that is 0 the mean is 0.
        label_smoothing: share e of the target spread evenly over all classes whose logit is not -inf.
        task: ``"multiclass"`` (softmax over dimension 1) or ``"binary"`` (independent sigmoids; logits and
            floating targets of one shape, as in `torch.nn.BCEWithLogitsLoss`).
        validate: check the values of the targets at each call and raise a sentence that names the first bad one;
            costs a pass over the targets and does not work under `torch.compile`.
        implementation: ``"reference"``: differentiable torch operations and nothing else; ``"auto"``: the same, but
            fused kernels for large float32 logits (N, C) on the CPU with class indices as target. They have first
            derivatives only and raise where a second one is asked for. Each row's gradient keeps its digits, also
            where a prediction is so certain that ``"reference"`` loses them; a row whose gradient is of second order
            there, as Brier's, loses them where its norm is below 1e-16.

    Raises:
        ValueError: if an argument is out of range or does not fit the task.
    """

    kind: Kind = "classification"
    weight: Tensor | None
    expression: Expression | None = None
    """What one class adds to the loss of a sample, in p, y, c, n and t; ``None`` where it has no such form."""

    def __init__(
        self,
        *,
        weight: Tensor | Sequence[float] | None = None,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        label_smoothing: float = 0.0,
        task: ClassificationTask = "multiclass",
        validate: bool = False,
        implementation: Implementation = "auto",
    ) -> None:
        super().__init__()
        check_choice("implementation", implementation, get_args(Implementation))
        check_choice("reduction", reduction, get_args(Reduction))
        check_choice("task", task, get_args(ClassificationTask))
        check_number("label_smoothing", label_smoothing, low=0.0, high=1.0)
        if not isinstance(validate, bool):
            raise ValueError(f"validate must be true or false, not {validate!r}")
        if task == "binary" and weight is not None:
            raise ValueError("weight counts classes and does not apply to task='binary': use sample_weight in the call")
        if task == "binary" and ignore_index != -100:
            raise ValueError("ignore_index does not apply to task='binary': give those entries sample_weight 0")
        self.register_buffer("weight", None if weight is None else class_values("weight", weight), persistent=False)
        self.ignore_index = whole_number("ignore_index", ignore_index, low=-(2**53))
        self.reduction = reduction
        self.label_smoothing = float(label_smoothing)
        self.task = task
        self.validate = validate
        self.implementation = implementation

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """The loss's own constructor arguments and the common ones, with their defaults."""
        return defaults_of(cls) | defaults_of(ClassificationLoss)

    @override
    def fractions(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> tuple[Fraction, ...]:
        options |= {"reduction": "none", "implementation": "reference"}
        values = self.evaluate(logits, target, **options)
        weight = self._class_weight(logits.size(1), values.dtype)
        return (Fraction(values, masses_of_labels(target, self.ignore_index, weight)),)

    @override
    def evaluate(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> Tensor:
        reduction = options.get("reduction") or self.reduction
        sample_weight, normalizer = options.get("sample_weight"), options.get("normalizer")
        class_scale = options.get("class_scale")
        if normalizer is not None and reduction != "mean":
            raise ValueError(f"normalizer divides the mean and has no meaning with reduction={reduction!r}")
        binary, soft = self.task == "binary", target.is_floating_point()
        dim = 0 if binary or logits.dim() == 1 else 1
        check_call(logits, target, binary=binary, ignore_index=self.ignore_index)
        if self.validate:
            check_values(target, 2 if binary else logits.shape[dim], self.ignore_index, binary=binary)
        if not soft:
            target = target.long()
        limit = log_slope_limit(logits.dtype)
        logits = self.adjust(at_least_float32(logits))
        dtype, num_classes = logits.dtype, 2 if binary else logits.size(dim)
        if sample_weight is not None:
            samples = target.shape[:dim] + target.shape[dim + 1 :] if soft and not binary else target.shape
            sample_weight = broadcast_sample_weight(sample_weight, samples).to(dtype)
        class_weight = self._class_weight(num_classes, dtype)
        prepared = Prepared(
            logits,
            Entries(num_classes, None if soft else target, self.ignore_index, dim, limit),
            class_weight if class_scale is None else product(class_weight, class_scale.to(dtype)),
            sample_weight,
        )
        if not soft:
            terms = self._label_terms(prepared, target, options.get("implementation") or self.implementation)
            if reduction != "mean" or normalizer is not None:
                return reduced(terms, reduction, 1.0, normalizer)
            return mean_of_labels(terms, target, self.ignore_index, class_weight, sample_weight)
        target = target.to(dtype)
        if binary:
            terms = self.binary_terms(prepared, smooth_binary(target, self.label_smoothing))
        else:
            terms = self.soft_terms(prepared, smooth(target, logits, self.label_smoothing, dim))
        mass = math.prod(terms.shape) if sample_weight is None else sample_weight.sum()
        return reduced(terms, reduction, mass, normalizer)

    def _label_terms(self, prepared: Prepared, target: Tensor, implementation: Implementation) -> Tensor:
        """`label_terms`, by the kernels where they serve the call."""
        try:
            fused = fused_terms(self, prepared, target) if implementation == "auto" else None
            return self.label_terms(prepared, target) if fused is None else fused
        except (IndexError, RuntimeError):
            # Every path refuses a label that is out of range, in words of its own; checking first would cost a pass.
            if not torch.compiler.is_compiling() and torch._C._functorch.peek_interpreter_stack() is None:
                check_labels(target, prepared.entries.num_classes, self.ignore_index)
            raise

    @property
    @override
    def formula(self) -> str | None:
        if self.expression is None or self.weight is not None or self.task == "binary":
            return None
        return str(smoothed(self.expression, self.label_smoothing))

    def adjust(self, logits: Tensor) -> Tensor:
        """Shift the logits before the loss; most losses leave them alone."""
        return logits

    def label_terms(self, prepared: Prepared, target: Tensor) -> Tensor:
        """Weighted losses, shape (N, ...), for class-index targets; 0 for ignored samples."""
        raise NotImplementedError

    def soft_terms(self, prepared: Prepared, q: Tensor) -> Tensor:
        """Weighted losses, shape (N, ...), for target probabilities ``q`` of the logits' shape."""
        raise NotImplementedError

    def binary_terms(self, prepared: Prepared, q: Tensor) -> Tensor:
        """Weighted losses of the logits' shape for independent yes-no targets ``q`` in [0, 1]."""
        raise NotImplementedError

    def linear_above(self, limit: float) -> float | Tensor | None:
        """The cross-entropy beyond which the loss is continued by its tangent, where its slope reaches e^limit.

        It is one number, or one per class where classes differ; ``None`` if the loss is never continued.
        """
        return None

    @property
    def can_extend(self) -> bool:
        """Whether there are logits for which the loss is continued by its tangent."""
        return self.linear_above(log_slope_limit(torch.float32)) is not None

    def extended(self, logits: Tensor, target: Tensor) -> Tensor:
        """Which samples lie where the loss is continued by its tangent.

        For a class-wise loss every continued class implies a target with a cross-entropy as large, so that the
        target's tells.

        Args:
            logits: shape (N, C, ...).
            target: class indices, shape (N, ...).

        Returns:
            A boolean tensor of the target's shape; all false for a loss that needs no continuation.

        Raises:
            ValueError: for ``task="binary"``, which has no class indices.
        """
        if self.task == "binary":
            raise ValueError("extended needs class indices, which task='binary' has not")
        above = self.linear_above(log_slope_limit(logits.dtype))
        if above is None:
            return torch.zeros_like(target, dtype=torch.bool)
        if isinstance(above, Tensor):
            above = of_labels(above, target, self.ignore_index)
        c = F.cross_entropy(at_least_float32(logits), target, ignore_index=self.ignore_index, reduction="none")
        return c > above

    def target_weight(self, class_weight: Tensor | None, target: Tensor) -> Tensor | None:
        """The class weight of each target."""
        return None if class_weight is None else of_labels(class_weight, target, self.ignore_index)

    def _class_weight(self, num_classes: int, dtype: torch.dtype) -> Tensor | None:
        weight = self.weight
        if weight is None:
            return None
        if weight.numel() != num_classes:
            raise ValueError(f"weight has {weight.numel()} values, but the logits have {num_classes} classes")
        return weight.to(dtype)

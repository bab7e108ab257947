"""What every loss has, whatever it is a loss of: a name, a text form and, for losses of logits, two ways to call it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, TypedDict, Unpack

from torch import Tensor, nn

from lossmith.losses.arguments import Range, as_value, defaults_of
from lossmith.losses.reductions import Fraction, Reduction
from lossmith.losses.text import LossText

Kind = Literal["classification", "segmentation", "regression", "gan", "learned"]
Implementation = Literal["auto", "reference"]


class Loss(nn.Module):
    """A loss with a name and a text form."""

    name: ClassVar[str]
    kind: Kind
    searched: ClassVar[tuple[Range, ...]] = ()
    """What `lossmith compare` searches where an argument is given as ``?``."""

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """The constructor's arguments with their defaults; `inspect.Parameter.empty` where there is none."""
        return defaults_of(cls)

    def bind(self, *, total_steps: int | None = None, class_counts: Sequence[float] | None = None) -> None:
        """Fill in what depends on the run and not on the loss; most losses need nothing.

        Args:
            total_steps: length of the run in optimiser steps, if known.
            class_counts: how often each class occurs in the training labels, length C, if known.
        """

    def step(self) -> None:
        """Count one optimiser step, to be called after each; does something for losses with a schedule only."""

    @property
    def text(self) -> str:
        """The canonical text form: arguments sorted, defaults dropped; `lossmith.create` reads it back."""
        given = {name: (as_value(getattr(self, name)), default) for name, default in self.defaults().items()}
        changed = {name: value for name, (value, default) in given.items() if value != default}
        return str(LossText(self.name, arguments=tuple(sorted(changed.items()))))

    @property
    def formula(self) -> str | None:
        """The loss as an expression, or ``None`` where it has no such form.

        The loss of one sample, as a class index t is its target, is the sum over the classes j of the expression at
        ``p`` = p_j, ``y`` = 1 if j = t else 0, ``c`` = -log p_j and ``n`` = the number of classes; beyond
        `ClassificationLoss.linear_above` it is continued by its tangent. The grammar is `lossmith.formulas`'.
        """
        return None

    def extra_repr(self) -> str:
        """The text form, shown when the module is printed."""
        return self.text


class CallOptions(TypedDict, total=False):
    """What a call of a classification loss may be given; see `LogitLoss.evaluate`."""

    sample_weight: Tensor | None
    normalizer: float | Tensor | None
    class_scale: Tensor | None
    reduction: Reduction
    implementation: Implementation


class LogitLoss(Loss):
    """A loss of logits and classes: it is called in two ways, which `evaluate` serves both."""

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        sample_weight: Tensor | None = None,
        normalizer: float | Tensor | None = None,
    ) -> Tensor:
        """Evaluate the loss.

        Args:
            logits: shape (N, C) or (N, C, d1, ...), or (C,) for a single sample; for ``task="binary"`` any shape.
            target: class indices of shape (N, d1, ...), or class probabilities (floating) of the logits' shape.
            sample_weight: weight of each sample, of shape (N, d1, ...) or (N,).
            normalizer: with ``reduction="mean"``, the number to divide the sum by, in place of the usual one: for
                gradient accumulation, or for ranks that hold unequal shares of a batch.

        Returns:
            A scalar, or for ``reduction="none"`` the weighted losses in shape (N, d1, ...); float32 for
            half-precision logits, else of the logits' dtype.

        Raises:
            ValueError: if shapes, dtypes or arguments do not fit together.
            IndexError: if a label is out of range; on CUDA, without ``validate``, a device-side assertion.
        """
        return self.evaluate(logits, target, sample_weight=sample_weight, normalizer=normalizer)

    def per_sample(self, logits: Tensor, target: Tensor, *, sample_weight: Tensor | None = None) -> Tensor:
        """The weighted loss of each sample before any reduction, by differentiable torch operations alone.

        Arguments and errors are those of `forward`.

        Returns:
            Losses of shape (N, d1, ...), 0 for ignored samples, whatever ``reduction`` and ``implementation`` say.
        """
        return self.evaluate(logits, target, sample_weight=sample_weight, reduction="none", implementation="reference")

    def fractions(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> tuple[Fraction, ...]:
        """The mean loss as fractions to be added, for callers that average over groups of samples.

        Args:
            logits: shape (N, C, ...).
            target: class indices of shape (N, ...), int64.
            **options: ``class_scale``, as in `evaluate`.

        Returns:
            One fraction, or one for each term of a sum; the values are those of `per_sample`.
        """
        raise NotImplementedError

    def evaluate(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> Tensor:
        """`forward` with everything that a wrapper may change in a call.

        Args:
            logits: as in `forward`.
            target: as in `forward`.
            **options: ``sample_weight`` and ``normalizer`` as in `forward`; ``class_scale``, one factor per class that
                multiplies and stays out of the denominator; ``reduction`` and ``implementation`` in place of the
                loss's own.
        """
        raise NotImplementedError

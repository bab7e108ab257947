"""Cross-entropy and the ways to soften or shift it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from lossmith.losses.arguments import check_number, class_values
from lossmith.losses.base import CommonArguments
from lossmith.losses.entries import Entries, Probability, along
from lossmith.losses.shapes import ClasswiseLoss, TargetLoss
from lossmith.losses.written import number


class CrossEntropyLoss(TargetLoss):
    """Cross-entropy, ``c = -log p_target``: the reference every other loss is measured against.

    Equal to `torch.nn.CrossEntropyLoss` but for three stated exceptions: an empty mean is 0 (torch: nan), -inf masked
    classes work with probability targets and label smoothing (torch: nan, inf), half precision is computed in float32.

    Args:
        **common: see `lossmith.losses.ClassificationLoss`.
    """

    name = "cross_entropy"

    def __init__(self, **common: Unpack[CommonArguments]) -> None:
        super().__init__(**common)

    def phi(self, c: Tensor, entries: Entries) -> Tensor:
        """``phi(c) = c``."""
        del entries
        return c

    def expression(self, y: str) -> str | None:
        """See `ClassificationLoss.expression`."""
        return f"{y}*c"


class LabelSmoothingLoss(CrossEntropyLoss):
    """Cross-entropy against the target ``(1 - epsilon) onehot + epsilon / C``.

    Args:
        epsilon: share of the target spread evenly over the classes, in [0, 1].
        **common: see `lossmith.losses.ClassificationLoss`; ``label_smoothing`` is refused, it is this loss's epsilon.

    Source: Szegedy et al., "Rethinking the Inception Architecture", 2015, arXiv 1512.00567.
    """

    name = "label_smoothing"

    def __init__(self, epsilon: float = 0.1, **common: Unpack[CommonArguments]) -> None:
        if common.get("label_smoothing"):
            raise ValueError("label_smoothing is this loss's own epsilon: set epsilon instead")
        check_number("epsilon", epsilon, low=0.0, high=1.0)
        super().__init__(**common | CommonArguments(label_smoothing=epsilon))
        self.epsilon = float(epsilon)

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """As for every loss, without ``label_smoothing``."""
        return {name: default for name, default in super().defaults().items() if name != "label_smoothing"}


class SparseLabelSmoothingLoss(ClasswiseLoss):
    """Label smoothing that needs the target's probability alone.

    ``(1 - e + e/C) c_t + e (C-1)/C (log(C-1) - log(1 - p_t))``: the expected loss of the other classes is put in place
    of each one's. Never more than label smoothing's, equal where the other classes share evenly, least at
    ``p_t = 1 - e (C-1)/C``.

    Args:
        epsilon: share e of the target spread over the classes, in [0, 1].
        **common: see `lossmith.losses.ClassificationLoss`.

    Source: formula of the README of the authors' SparseLSR code (Raymond et al.); its released Python files have the
    opposite sign before the second part, which drives p_t to 1 without bound.
    """

    name = "sparse_label_smoothing"
    two_classes = True

    def __init__(self, epsilon: float = 0.1, **common: Unpack[CommonArguments]) -> None:
        check_number("epsilon", epsilon, low=0.0, high=1.0)
        super().__init__(**common)
        self.epsilon = float(epsilon)

    def positive(self, p: Probability, entries: Entries) -> Tensor:
        """``(1 - kept) c + kept (d + log(C - 1))``, ``kept = e (C-1)/C``, C the classes whose logit is not -inf."""
        del entries
        others = p.classes - 1
        kept = self.epsilon * others / p.classes
        # d is infinite only where every other class has logit -inf: none is left to take a share.
        rest = p.d.masked_fill(others == 0, 0.0) + others.clamp(min=1).log()
        return (1 - kept) * p.c + kept * rest

    def negative(self, p: Probability, entries: Entries) -> Tensor:
        """0: the other classes enter through the target's probability."""
        del entries
        return torch.zeros_like(p.c)

    def expression(self, y: str) -> str | None:
        """See `ClassificationLoss.expression`."""
        if self.epsilon == 0:
            return f"{y}*c"
        e = number(self.epsilon)
        return f"{y}*((1 - {e} + {e}/n)*c + {e}*(n - 1)/n*(log(n - 1) - log(1 - p)))"


class LogitAdjustedLoss(CrossEntropyLoss):
    """Cross-entropy of ``logits + tau log(prior)``: trains for balanced accuracy on imbalanced classes.

    Args:
        tau: strength of the adjustment; 0 is cross-entropy.
        class_counts: how often each class occurs in the training data, length C, all positive. Lossmith's trials fill
            it in from the training labels; in your own loop give it here.
        **common: see `lossmith.losses.ClassificationLoss`; ``task="binary"`` is refused.

    Source: Menon et al., "Long-tail learning via logit adjustment", 2020, arXiv 2007.07314, eq. for the softmax form.
    """

    name = "logit_adjusted"
    class_counts: Tensor | None
    bound_counts: Tensor | None

    def __init__(
        self, tau: float = 1.0, class_counts: Sequence[float] | None = None, **common: Unpack[CommonArguments]
    ) -> None:
        check_number("tau", tau, low=0.0)
        if common.get("task") == "binary":
            raise ValueError("task='binary' has no class counts to adjust by: logit_adjusted needs classes")
        super().__init__(**common)
        self.tau = float(tau)
        counts = None if class_counts is None else _positive_counts(class_counts)
        self.register_buffer("class_counts", counts, persistent=False)
        self.register_buffer("bound_counts", None, persistent=False)

    def bind(self, *, total_steps: int | None = None, class_counts: Sequence[float] | None = None) -> None:
        """Take the class counts, if none were given at construction; see `Loss.bind`."""
        del total_steps
        self.bound_counts = None if class_counts is None else _positive_counts(class_counts)

    def adjust(self, logits: Tensor) -> Tensor:
        """Add ``tau log(prior)``."""
        counts = self.bound_counts if self.class_counts is None else self.class_counts
        if counts is None:
            raise ValueError("logit_adjusted needs class_counts, one number per class: how often it occurs in training")
        dim = 0 if logits.dim() == 1 else 1
        if counts.numel() != logits.shape[dim]:
            raise ValueError(
                f"class_counts has {counts.numel()} values, but the logits have {logits.shape[dim]} classes"
            )
        counts = counts.to(logits.dtype)
        shift = self.tau * (counts / counts.sum()).log()
        # Less the largest logit first: beside it the shift would be rounded away.
        return logits - logits.detach().amax(dim, keepdim=True) + along(shift, dim, logits.dim())

    def expression(self, y: str) -> str | None:
        """None: the logits are shifted by class before the softmax."""
        del y
        return None


def _positive_counts(class_counts: Sequence[float]) -> Tensor:
    counts = class_values("class_counts", class_counts)
    if not bool((counts > 0).all()):
        raise ValueError("class_counts must all be positive")
    return counts

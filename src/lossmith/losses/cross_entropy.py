"""Cross-entropy and the ways to soften or shift it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Unpack

from torch import Tensor
from typing_extensions import override

from lossmith.losses.arguments import Range, check_number, class_values
from lossmith.losses.base import CommonArguments
from lossmith.losses.entries import Entries, Probability, along
from lossmith.losses.parts import Part
from lossmith.losses.shapes import ClasswiseLoss, TargetLoss

SMOOTHINGS: Final = Range("epsilon", (0.05, 0.1, 0.2, 0.4, 0.65))


class CrossEntropyLoss(TargetLoss):
    """Cross-entropy: the reference every other loss is measured against.

    Equal to `torch.nn.CrossEntropyLoss` but for three stated exceptions: an empty mean is 0 (torch: nan), -inf masked
    classes work with probability targets and label smoothing (torch: nan, inf), half precision is computed in float32.
    """

    name = "cross_entropy"
    statement = "y*c"


class LabelSmoothingLoss(CrossEntropyLoss):
    """Cross-entropy against the target ``(1 - epsilon) onehot + epsilon / C``.

    Args:
        epsilon: share of the target spread evenly over the classes, in [0, 1].
        **common: see `lossmith.losses.ClassificationLoss`; ``label_smoothing`` is refused, it is this loss's epsilon.

    Source: Szegedy et al., "Rethinking the Inception Architecture", 2015, arXiv 1512.00567.
    """

    name = "label_smoothing"
    searched = (SMOOTHINGS,)

    def __init__(self, epsilon: float = 0.1, **common: Unpack[CommonArguments]) -> None:
        if common.get("label_smoothing"):
            raise ValueError("label_smoothing is this loss's own epsilon: set epsilon instead")
        check_number("epsilon", epsilon, low=0.0, high=1.0)
        super().__init__(**common | CommonArguments(label_smoothing=epsilon))
        self.epsilon = float(epsilon)

    @classmethod
    @override
    def defaults(cls) -> dict[str, Any]:
        return {name: default for name, default in super().defaults().items() if name != "label_smoothing"}


class SparseLabelSmoothingLoss(ClasswiseLoss):
    """Label smoothing that needs the target's probability alone.

    The expected loss of the other classes is put in place of each one's, for the share e = epsilon of the target. Never
    more than label smoothing's, equal where the other classes share evenly, least at ``p_t = 1 - e (C-1)/C``.

    Args:
        epsilon: share e of the target spread over the classes, in [0, 1].
        **common: see `lossmith.losses.ClassificationLoss`.

    Source: formula of the README of the authors' SparseLSR code (Raymond et al.); its released Python files have the
    opposite sign before the second part, which drives p_t to 1 without bound.
    """

    name = "sparse_label_smoothing"
    statement = "y*((1 - epsilon + epsilon/n)*c + epsilon*(n - 1)/n*(log(n - 1) - log(1 - p)))"
    searched = (SMOOTHINGS,)
    precise = True
    two_classes = True

    def __init__(self, epsilon: float = 0.1, **common: Unpack[CommonArguments]) -> None:
        check_number("epsilon", epsilon, low=0.0, high=1.0)
        super().__init__({"epsilon": epsilon}, **common)
        self.epsilon = float(epsilon)

    @override
    def forms(self, part: Part, p: Probability, entries: Entries) -> dict[str, Any]:
        # n counts the classes whose logit is not -inf. Where one alone is left, d is infinite, but none is left to
        # take a share: any n and a d of log(n - 1) then give the same.
        values, alone = super().forms(part, p, entries), p.classes == 1
        if "d" not in values:
            return values
        return values | {"n": p.classes.masked_fill(alone, 2.0), "d": values["d"].masked_fill(alone, 0.0)}


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
    searched = (Range("tau", (0.25, 2.0), "log"),)
    class_counts: Tensor | None
    bound_counts: Tensor | None

    def __init__(
        self, tau: float = 1.0, class_counts: Sequence[float] | None = None, **common: Unpack[CommonArguments]
    ) -> None:
        check_number("tau", tau, low=0.0)
        if common.get("task") == "binary":
            raise ValueError("task='binary' has no class counts to adjust by: logit_adjusted needs classes")
        super().__init__(**common)
        self.expression = None  # the logits are shifted by class before the softmax
        self.tau = float(tau)
        counts = None if class_counts is None else _positive_counts(class_counts)
        self.register_buffer("class_counts", counts, persistent=False)
        self.register_buffer("bound_counts", None, persistent=False)

    @override
    def bind(self, *, total_steps: int | None = None, class_counts: Sequence[float] | None = None) -> None:
        self.bound_counts = None if class_counts is None else _positive_counts(class_counts)

    @override
    def adjust(self, logits: Tensor) -> Tensor:
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


def _positive_counts(class_counts: Sequence[float]) -> Tensor:
    counts = class_values("class_counts", class_counts)
    if not bool((counts > 0).all()):
        raise ValueError("class_counts must all be positive")
    return counts

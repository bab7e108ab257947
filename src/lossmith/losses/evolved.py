"""Losses found by genetic programming."""

from __future__ import annotations

from typing import Literal, Unpack

import torch
from torch import Tensor

from lossmith.losses.arguments import check_choice, check_number
from lossmith.losses.base import CommonArguments
from lossmith.losses.entries import Entries, Probability
from lossmith.losses.shapes import ClasswiseLoss
from lossmith.losses.written import number


class NextGenerationLoss(ClasswiseLoss):
    """The Next Generation Loss: ``exp(alpha - x (1 + y)) - cos(cos(sin(x)))``, mean over samples and classes.

    Its optimum is not one-hot: at 10 classes p_target = 0.391 (softmax form), a confidence cap like that of label
    smoothing with epsilon = 0.68. Its gradient at the start of training is 12 times (10 classes) to 90,000 times
    (1,000 classes) smaller than cross-entropy's: tune the learning rate, or use ``class_reduction="sum"``.

    Args:
        alpha: the constant of the exponent; it sets only the weight of the first part against the second.
        scaling: ``"none"``: x is the softmax probability, as in the authors' PyTorch file; ``"sigmoid"``: x is the
            sigmoid of that probability, as in their TensorFlow example. Two different losses; which one the paper's
            tables used is not known.
        class_reduction: ``"mean"`` over classes as published, or ``"sum"``, C times as large.
        **common: see `lossmith.losses.ClassificationLoss`; ``task="binary"`` is refused, since both of its parts push
            every probability up and only the softmax's competition makes it learn.

    Source: Akhmedova and Koerber, "Next Generation Loss Function for Image Classification", 2024, arXiv 2404.12948;
    formula from a summary of the paper and the authors' code, which for logits (N, C, H, W) normalises over the width;
    here it is over the classes.
    """

    name = "ngl"

    def __init__(
        self,
        alpha: float = 2.4092,
        *,
        scaling: Literal["none", "sigmoid"] = "none",
        class_reduction: Literal["mean", "sum"] = "mean",
        **common: Unpack[CommonArguments],
    ) -> None:
        check_number("alpha", alpha, low=-20.0, high=20.0)
        check_choice("scaling", scaling, ("none", "sigmoid"))
        check_choice("class_reduction", class_reduction, ("mean", "sum"))
        if common.get("task") == "binary":
            raise ValueError("task='binary' does not learn under ngl: both of its parts push every probability up")
        super().__init__(**common)
        self.alpha, self.scaling, self.class_reduction = float(alpha), scaling, class_reduction

    def positive(self, p: Probability, entries: Entries) -> Tensor:
        """``exp(alpha - 2x) - cos(cos(sin(x)))``."""
        del entries
        return self._value(p, 2.0)

    def negative(self, p: Probability, entries: Entries) -> Tensor:
        """``exp(alpha - x) - cos(cos(sin(x)))``."""
        del entries
        return self._value(p, 1.0)

    def class_factor(self, entries: Entries) -> float:
        """1/C for the mean over classes."""
        return 1.0 if self.class_reduction == "sum" else 1 / entries.num_classes

    def expression(self, y: str) -> str | None:
        """See `ClassificationLoss.expression`; ``None`` with label smoothing: the exponential is not linear in y."""
        if y != "y":
            return None
        x = "sigmoid(p)" if self.scaling == "sigmoid" else "p"
        entry = f"exp({number(self.alpha)} - {x}*(1 + y)) - cos(cos(sin({x})))"
        return f"({entry})/n" if self.class_reduction == "mean" else entry

    def _value(self, p: Probability, factor: float) -> Tensor:
        x = p.value.sigmoid() if self.scaling == "sigmoid" else p.value
        return torch.exp(self.alpha - factor * x) - torch.cos(torch.cos(torch.sin(x)))

"""Losses found by genetic programming."""

from __future__ import annotations

from typing import Literal, Unpack

from lossmith.formulas import apply, constant, parse, substitute, terminal
from lossmith.losses.arguments import Range, check_choice, check_number
from lossmith.losses.base import CommonArguments
from lossmith.losses.shapes import ClasswiseLoss


class NextGenerationLoss(ClasswiseLoss):
    """The Next Generation Loss, found by genetic programming: a mean over samples and classes.

    Its optimum is not one-hot: at 10 classes p_target = 0.391 (softmax form), a confidence cap like that of label
    smoothing with epsilon = 0.68. Its gradient at the start of training is 12 times (10 classes) to 90,000 times
    (1,000 classes) smaller than cross-entropy's: tune the learning rate, or use ``class_reduction="sum"``.

    Args:
        alpha: the constant of the exponent; it sets only the weight of the first part against the second.
        scaling: ``"none"``: of the softmax probability p, as in the authors' PyTorch file; ``"sigmoid"``: of the
            sigmoid of that probability in place of p, as in their TensorFlow example. Two different losses; which one
            the paper's tables used is not known.
        class_reduction: ``"mean"`` over classes as published, or ``"sum"``, C times as large.
        **common: see `lossmith.losses.ClassificationLoss`; ``task="binary"`` is refused, since both of its parts push
            every probability up and only the softmax's competition makes it learn.

    Source: Akhmedova and Koerber, "Next Generation Loss Function for Image Classification", 2024, arXiv 2404.12948;
    formula from a summary of the paper and the authors' code, which for logits (N, C, H, W) normalises over the width;
    here it is over the classes.
    """

    name = "ngl"
    statement = "(exp(alpha - p*(1 + y)) - cos(cos(sin(p))))/n"
    searched = (Range("alpha", (0.0, 4.0), "linear"),)

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
        mean = parse(self.statement, {"alpha": constant(alpha)})
        entry = mean if class_reduction == "mean" else mean.args[0]
        x = apply("sigmoid", terminal("p")) if scaling == "sigmoid" else terminal("p")
        super().__init__(None, substitute(entry, p=x), **common)
        self.alpha, self.scaling, self.class_reduction = float(alpha), scaling, class_reduction

"""Soft Dice: the overlap of areas, one loss for each image."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor
from typing_extensions import override

from lossmith.losses.base import ClassificationLoss, CommonArguments
from lossmith.losses.entries import at_least_float32
from lossmith.losses.loss import CallOptions
from lossmith.losses.reductions import Fraction, reduced
from lossmith.losses.targets import check_call, check_values, smooth


class SoftDiceLoss(ClassificationLoss):
    """One minus the soft Dice overlap of each class's area in an image, averaged over the classes in that image.

    For softmax probabilities p and targets q, with sums over the pixels i of one image that are not ignored,
    ``D_c = 2 sum_i p_ic q_ic / (sum_i p_ic^2 + sum_i q_ic^2)``. The loss of the image is ``1 - sum_c w_c D_c / sum_c
    w_c`` over the classes c with ``sum_i q_ic > 0``, w being the class weights: a class that is absent has D = 0
    whatever the prediction, so it is left out; pixels wrongly given to it lower the D of the classes they belong to.
    The overlap is a property of an image, not of a pixel: a sample is an image. ``reduction="mean"`` averages over the
    images with a pixel that counts, ``"none"`` and `per_sample` return one loss for each image, and ``sample_weight``
    holds one weight for each image.

    Args:
        **common: see `lossmith.losses.ClassificationLoss`; logits need at least three dimensions, (N, C, d1, ...), and
            ``task="binary"`` is refused.

    Source: Milletari et al., "V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image Segmentation",
    2016, arXiv 1606.04797, for one class and one volume; the mean over the classes present is ours.
    """

    name = "soft_dice"
    kind = "segmentation"

    def __init__(self, **common: Unpack[CommonArguments]) -> None:
        if common.get("task") == "binary":
            raise ValueError("task='binary' is not supported: give logits for two classes")
        super().__init__(**common)

    @override
    def evaluate(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> Tensor:
        reduction = options.get("reduction") or self.reduction
        sample_weight, normalizer = options.get("sample_weight"), options.get("normalizer")
        if normalizer is not None and reduction != "mean":
            raise ValueError(f"normalizer divides the mean and has no meaning with reduction={reduction!r}")
        if sample_weight is not None and sample_weight.shape != logits.shape[:1]:
            raise ValueError(
                f"soft_dice needs one sample_weight for each image, shape ({len(logits)},), not "
                f"{tuple(sample_weight.shape)}"
            )
        values, masses = self._per_image(logits, target, options.get("class_scale"))
        if sample_weight is not None:
            values, masses = sample_weight * values, sample_weight * masses
        return reduced(values, reduction, masses.sum(), normalizer)

    @override
    def fractions(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> tuple[Fraction, ...]:
        return (self._per_image(logits, target, options.get("class_scale")),)

    def _per_image(self, logits: Tensor, target: Tensor, class_scale: Tensor | None) -> Fraction:
        """The loss of each image, and 1 for each image that has a pixel that counts."""
        if logits.dim() < 3:
            raise ValueError(
                f"soft_dice compares areas and needs logits (N, C, d1, ...), not {tuple(logits.shape)}: use it for "
                "segmentation"
            )
        check_call(logits, target, binary=False, ignore_index=self.ignore_index)
        if self.validate:
            check_values(target, logits.size(1), self.ignore_index, binary=False)
        logits = at_least_float32(logits)
        p, q = logits.softmax(1), self._target_probabilities(logits, target)
        if not target.is_floating_point():
            p = p * (target != self.ignore_index).unsqueeze(1)
        p, q = p.flatten(2), q.flatten(2)
        present = q.sum(2) > 0
        overlap = 2 * (p * q).sum(2) / (p.square() + q.square()).sum(2).masked_fill(~present, 1.0)
        weight = present.to(p.dtype)
        class_weight = self._class_weight(logits.size(1), p.dtype)
        weight = weight if class_weight is None else weight * class_weight
        total = weight.sum(1)
        scaled = weight if class_scale is None else weight * class_scale.to(p.dtype)
        values = (scaled * (1 - overlap)).sum(1) / total.masked_fill(total == 0, 1.0)
        return Fraction(values, present.any(1).to(p.dtype))

    def _target_probabilities(self, logits: Tensor, target: Tensor) -> Tensor:
        """The target as probabilities of the logits' shape, 0 at ignored pixels."""
        if target.is_floating_point():
            return smooth(target.to(logits.dtype), logits, self.label_smoothing, 1)
        valid = (target != self.ignore_index).unsqueeze(1)
        index = target.long().unsqueeze(1).where(valid, 0)
        onehot = torch.zeros_like(logits).scatter(1, index, 1.0)
        return smooth(onehot, logits, self.label_smoothing, 1) * valid

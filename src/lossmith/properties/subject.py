"""A loss as the analysis sees it: for every point of logits, the loss if each class were the target."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from lossmith.losses import ClassificationLoss, LogitAdjustedLoss, Loss, RootedGANLoss, RootedLogisticLoss, Wrapper
from lossmith.losses.entries import log_slope_limit

_MAX_ENTRIES = 100_000  # so that they stay in the cache
_FEW = 5


@dataclass(frozen=True)
class Subject:
    """What is described.

    Attributes:
        loss: a copy of the loss.
        text: its text form.
        remarks: in what it differs from the loss that was given, in sentences.
        num_classes: C, the number of classes asked for.
        binary: whether it answers yes-no questions: class 1 is yes.
        only: whether C is the only number of classes it works for.
        symmetric: whether all classes are alike to it.
    """

    loss: ClassificationLoss
    text: str
    remarks: tuple[str, ...]
    num_classes: int
    binary: bool
    only: bool
    symmetric: bool

    def table(self, logits: Tensor) -> Tensor:
        """The loss if each class in turn were the target, shape (N, C), for logits (N, C)."""
        if self.binary:
            z = logits[:, 1] - logits[:, 0]
            return torch.stack([self.loss.per_sample(z, torch.full_like(z, target)) for target in (0.0, 1.0)], 1)
        N, C = logits.shape
        rows = max(1, _MAX_ENTRIES // (C * C))
        parts = [
            self.loss.per_sample(part.repeat_interleave(C, 0), torch.arange(C).repeat(len(part))).view(len(part), C)
            for part in logits.split(rows)
        ]
        return torch.cat(parts) if N else logits

    def of_class_0(self, logits: Tensor) -> Tensor:
        """The loss with class 0 as the target, shape (N,), for logits (N, C)."""
        if self.binary:
            z = logits[:, 0] - logits[:, 1]
            return self.table(torch.stack([torch.zeros_like(z), z], 1))[:, 1]
        return self.loss.per_sample(logits, torch.zeros(len(logits), dtype=torch.int64))

    def probabilities(self, logits: Tensor) -> Tensor:
        """The class probabilities (N, C) that the loss trains; softmax unless the loss says otherwise."""
        own = getattr(self.loss, "probabilities", None)
        return logits.softmax(1) if own is None else cast("Tensor", own(logits))

    def linear_above(self, dtype: torch.dtype) -> float | None:
        """The cross-entropy beyond which the loss is continued by its tangent for logits of a dtype, the least one."""
        above = self.loss.linear_above(log_slope_limit(dtype))
        return None if above is None else float(torch.as_tensor(above).min())


def subject_of(loss: Loss, num_classes: int) -> Subject:
    """Prepare a copy of a loss: a wrapper with a schedule as its base, a GAN loss as its generator's part.

    Raises:
        ValueError: if the loss is no classification loss or does not work with so many classes.
    """
    remarks: list[str] = []
    loss = copy.deepcopy(loss).cpu().double()  # a learned one has parameters
    if isinstance(loss, RootedGANLoss):
        remarks.append(
            "Described by its generator's part, the loss of the answer yes at one logit; the discriminator's is the "
            "same function, of yes for real samples and of no for generated ones."
        )
        loss = RootedLogisticLoss(k=loss.k, task="binary")
    while isinstance(loss, Wrapper) and not isinstance(loss, ClassificationLoss):
        remarks.append(f"Described by the loss it wraps, {loss.base.text}: what {loss.name} adds changes in training.")
        loss = loss.base
    if loss.kind == "segmentation":
        raise ValueError(f"{loss.text} is a loss of whole images, and only losses of single samples can be described")
    if not isinstance(loss, ClassificationLoss):
        raise ValueError(f"{loss.text} is a loss for {loss.kind}, which has no classes to describe it by")
    text = loss.text
    loss.train().bind(total_steps=1000, class_counts=[1.0] * num_classes)
    if _is_schedule(loss):
        remarks.append("Described as it is when training begins: its formula has t, which is 0 then.")
    if any(isinstance(module, LogitAdjustedLoss) and module.class_counts is None for module in loss.modules()):
        remarks.append("Described for classes that occur equally often, where it is cross-entropy.")
    if loss.task == "binary":
        remarks.append("A yes-no question, described as two classes whose logits differ by its logit.")
        return Subject(loss, text, tuple(remarks), 2, binary=True, only=True, symmetric=False)
    subject = Subject(loss, text, tuple(remarks), num_classes, binary=False, only=False, symmetric=True)
    subject.of_class_0(torch.zeros(1, num_classes))  # whether it works for so many classes
    subject = replace(subject, only=not _works(subject, num_classes + 1))
    return replace(subject, symmetric=_is_symmetric(subject))


def _is_schedule(loss: ClassificationLoss) -> bool:
    from lossmith.formulas import parse

    formula = loss.formula
    return formula is not None and "t" in parse(formula).terminals


def _works(subject: Subject, num_classes: int) -> bool:
    try:
        subject.of_class_0(torch.zeros(1, num_classes))
    except ValueError:
        return False
    return True


def _is_symmetric(subject: Subject) -> bool:
    """Whether exchanging classes changes nothing, tried at a few points."""
    C = min(subject.num_classes, _FEW) if not subject.only else subject.num_classes
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, C, dtype=torch.float64, generator=generator)
    turned = subject.table(logits.roll(1, 1))
    return torch.allclose(subject.table(logits).roll(1, 1), turned, rtol=1e-9, atol=1e-12, equal_nan=True)

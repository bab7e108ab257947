"""Segmentation: a class for each pixel, scored by the overlap of areas."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import override

from lossmith.data import IGNORED, Examples, Splits
from lossmith.losses.loss import Kind
from lossmith.tasks.classification import PROBABILITIES, strictness
from lossmith.tasks.task import Judged, Raster, Scores, Task, Words

UNKNOWN: Final = 255
"""Ignored pixels in a `Raster` of classes."""
_SHOWN: Final = 3
_SHOWN_SIDE: Final = 160  # pixels of the longer side of what is shown; larger masks are thinned
_ROWS: Final = 256  # images of the training part that are counted at a time


@dataclass(frozen=True)
class Segmentation(Task):
    """Segmentation into C classes; the unit is an image.

    The score of an image is its mean IoU: intersection over union, averaged over the classes present in the image's
    truth. Ignored pixels count for nothing. A class that is predicted but not present has no IoU of its own; its pixels
    are missing from the classes they belong to. The columns of each image are ``intersection``, ``union`` and
    ``truth``, areas in pixels (n, C), and ``nll``, the mean cross-entropy of its pixels in nats.

    Args:
        classes: the C classes' names.
        constant: the mean score, on the training part, of the best single class predicted everywhere.

    Source: Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC 2013, for the score per
    image.
    """

    classes: tuple[str, ...]
    constant: float

    name: ClassVar[str] = "segmentation"
    reference: ClassVar[str] = "cross_entropy"
    loss_kinds: ClassVar[tuple[Kind, ...]] = ("classification", "segmentation", "learned")
    sums: ClassVar[tuple[str, ...]] = ("cross_entropy+soft_dice",)
    rival: ClassVar[str] = "label_smoothing:epsilon=?"
    words: ClassVar[Words] = Words()
    metric_names: ClassVar[tuple[str, ...]] = ("mean IoU",)
    curve: ClassVar[tuple[str, ...]] = ("mean IoU", "nll")
    tie_break: ClassVar[str] = "nll"
    sentences: ClassVar[Mapping[str, str]] = {
        "mean IoU": "mean IoU of an image {:.2%}",
        "data_set_iou": "of the whole part {:.2%}",
        "pixel_accuracy": "pixel accuracy {:.2%}",
        "nll": "cross-entropy {:.4f}",
    }

    @classmethod
    @override
    def of(cls, splits: Splits) -> Segmentation:
        return cls(splits.class_names, best_constant(splits.train.targets, len(splits.class_names)))

    @property
    @override
    def outputs(self) -> int:
        return len(self.classes)

    @property
    @override
    def guess(self) -> float:
        return self.constant

    @property
    @override
    def meaning(self) -> str:
        return "intersection over union of an image, averaged over the classes in it and over the images"

    @override
    def facts(self, splits: Splits) -> dict[str, Any]:
        """Pixels of each class in training; a class without one counts as having one, so that its logarithm exists."""
        return {"class_counts": splits.class_counts.clamp(min=1).tolist()}

    @override
    def reference_values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return torch.stack([F.cross_entropy(*of, ignore_index=IGNORED) for of in zip(outputs, targets, strict=True)])

    @override
    def curve_point(self, outputs: Tensor, targets: Tensor) -> Tensor:
        pixels, nll = outputs.flatten(0, 1), _nll(outputs.flatten(0, 1), targets.flatten(0, 1))
        score = _areas(_predicted(pixels), targets.flatten(0, 1), self.outputs).score
        return torch.stack([score.view(targets.shape[:2]).mean(1), nll.double().view(targets.shape[:2]).mean(1)])

    @override
    def judge(self, outputs: Tensor, examples: Examples) -> Judged:
        """Judge logits (n, C, h, w); a pixel with a logit that is not finite is of class 0."""
        targets, predicted = examples.targets.long(), _predicted(outputs)
        areas = _areas(predicted, targets, self.outputs)
        columns = {name: area.int().cpu().numpy() for name, area in areas._asdict().items()}
        columns["nll"] = _nll(outputs, targets).cpu().numpy()
        thin = slice(None, None, math.ceil(max(targets.shape[1:]) / _SHOWN_SIDE))
        columns["mask"] = targets[:, thin, thin].where(targets[:, thin, thin] != IGNORED, UNKNOWN).byte().cpu().numpy()
        columns["predicted"] = predicted[:, thin, thin].byte().cpu().numpy()
        columns["image"] = _visible(examples.inputs[:, :, thin, thin])
        return Judged(examples.index.cpu().numpy(), areas.score.cpu().numpy(), columns)

    @override
    def conclude(self, valid: Judged, test: Judged | None) -> tuple[Judged, Judged | None, dict[str, float]]:
        """Keep the pictures of a few test images and drop all others."""
        return _with_few(valid, 0), None if test is None else _with_few(test, _SHOWN), {}

    @property
    @override
    def pull_axis(self) -> Scores:
        """Probabilities of the target."""
        return PROBABILITIES

    @override
    def pull(self, loss: nn.Module) -> Scores:
        """The strictness of a loss on one pixel, the other classes sharing the rest evenly; NaN for one of images."""
        try:
            return strictness(loss, self.outputs)
        except ValueError:
            return np.full_like(PROBABILITIES, np.nan)

    @override
    def predictions(self, outputs: Tensor) -> NDArray[Any]:
        """The class of each pixel, an index (n, h, w)."""
        return _predicted(outputs).byte().cpu().numpy()

    @override
    def metrics(self, judged: Judged) -> dict[str, float]:
        return {"mean IoU": float(judged.score.mean())}

    @override
    def columns(self, judged: Judged) -> dict[str, float]:
        """The mean IoU of all pixels as one image, over the classes in it; pixel accuracy; cross-entropy per pixel."""
        areas = _Areas(*(judged.columns[name].sum(0, dtype=np.int64) for name in _Areas._fields))
        present, pixels = areas.truth > 0, judged.columns["truth"].sum(1, dtype=np.int64)
        with np.errstate(invalid="ignore"):
            return {
                "data_set_iou": float((areas.intersection[present] / areas.union[present]).mean()),
                "pixel_accuracy": float(areas.intersection.sum() / areas.truth.sum()),
                "nll": float((judged.columns["nll"].astype(np.float64) * pixels).sum() / pixels.sum()),
            }

    @property
    @override
    def summary(self) -> str:
        return f"segmentation, {len(self.classes)} classes"

    @override
    def originals(self, judged: Judged) -> tuple[Raster, ...]:
        """Images, then masks."""
        return _rasters(judged, "image") + _rasters(judged, "mask")

    @override
    def pictures(self, judged: Judged) -> tuple[Raster, ...]:
        """Predicted masks."""
        return _rasters(judged, "predicted")


def best_constant(masks: Tensor, classes: int) -> float:
    """The mean score of the best single class predicted everywhere, for masks (n, h, w) with -100 for ignored."""
    scores = torch.zeros(classes, dtype=torch.float64)
    for some in masks.split(_ROWS):
        truth = _count(some.long(), some != IGNORED, classes).double()
        shares = truth / truth.sum(1, keepdim=True)
        scores += (shares / (truth > 0).sum(1, keepdim=True)).sum(0).cpu()
    return float(f"{float(scores.max()) / len(masks):.6g}")


class _Areas(NamedTuple):
    """Areas in pixels that count, int64 (n, C) by image and class."""

    intersection: Any
    union: Any
    truth: Any

    @property
    def score(self) -> Tensor:
        """The mean IoU of each image over the classes present, float64 (n,)."""
        present = self.truth > 0
        iou = (self.intersection.double() / self.union.clamp(min=1)).where(present, 0.0)
        mean: Tensor = iou.sum(1) / present.sum(1).clamp(min=1)
        return mean


def _areas(predicted: Tensor, targets: Tensor, classes: int) -> _Areas:
    valid = targets != IGNORED
    truth = _count(targets, valid, classes)
    intersection = _count(targets, valid & (predicted == targets), classes)
    return _Areas(intersection, truth + _count(predicted, valid, classes) - intersection, truth)


def _count(masks: Tensor, where: Tensor, classes: int) -> Tensor:
    """How many of the chosen pixels each image has of each class: int64 (n, C)."""
    image = torch.arange(len(masks), device=masks.device).view(-1, *[1] * (masks.dim() - 1))
    return torch.bincount((image * classes + masks)[where], minlength=len(masks) * classes).view(-1, classes)


def _predicted(outputs: Tensor) -> Tensor:
    return outputs.argmax(1).where(outputs.isfinite().all(1), 0)


def _nll(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean cross-entropy of each image's pixels, float32 (n,); infinite where a logit is not finite."""
    terms = F.cross_entropy(outputs.float(), targets, ignore_index=IGNORED, reduction="none").flatten(1)
    mean = terms.sum(1) / (targets != IGNORED).flatten(1).sum(1).clamp(min=1)
    return mean.where(mean.isfinite(), math.inf)


def _visible(inputs: Tensor) -> NDArray[np.uint8]:
    """Images (n, c, h, w) as bytes (n, h, w, 3), each with its values from 0 to 255."""
    colours = inputs[:, :3] if inputs.shape[1] >= 3 else inputs[:, :1].expand(-1, 3, -1, -1)
    low, high = (bound(colours.flatten(1), 1)[:, None, None, None] for bound in (torch.amin, torch.amax))
    scaled = 255 * (colours - low) / (high - low).clamp(min=1e-12)
    return scaled.round().byte().permute(0, 2, 3, 1).cpu().numpy()


def _with_few(judged: Judged, count: int) -> Judged:
    """Move the pictures of so many units, evenly spread, from the columns to `Judged.few`."""
    pictures = ("image", "mask", "predicted")
    rows = [(2 * i + 1) * len(judged.index) // (2 * count) for i in range(min(count, len(judged.index)))]
    few = {name: judged.columns[name][rows] for name in pictures} | {"index": judged.index[rows]} if rows else {}
    columns = {name: values for name, values in judged.columns.items() if name not in pictures}
    return Judged(judged.index, judged.score, columns, few)


def _rasters(judged: Judged, what: str) -> tuple[Raster, ...]:
    if not judged.few:
        return ()
    pairs = zip(judged.few["index"].tolist(), judged.few[what], strict=True)
    return tuple(Raster.of(f"{what} {index}", values) for index, values in pairs)

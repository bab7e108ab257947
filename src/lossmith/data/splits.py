"""What a training consumes: the chosen examples as tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lossmith.data.dataset import IGNORE, Dataset, Kind, TaskName
from lossmith.data.encode import Encoding as Encoding
from lossmith.data.encode import ImageEncoding, fit_images
from lossmith.data.errors import DataError, quoted
from lossmith.data.generators import Purpose, generator
from lossmith.data.noise import noisy_labels, with_outliers
from lossmith.data.rows import choose_rows
from lossmith.data.spec import DataSpec
from lossmith.data.table import TableEncoding, fit_table
from lossmith.data.text import TextEncoding, fit_text

_ENCODINGS: Final[dict[str, type[Encoding]]] = {
    each.kind: each for each in (TableEncoding, ImageEncoding, TextEncoding)
}

IGNORED: Final = -100
"""The target of pixels that count neither in a loss nor in a score; losses ignore it by default, as torch's do."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs with their targets.

    Args:
        inputs: float32 (n, d) or (n, c, h, w), or token numbers int64 (n, L).
        targets: Classification: class indices, int64 (n,). Regression: standardised numbers, float32 (n, 1).
            Segmentation: class indices of the pixels, int16 (n, h, w), -100 where a pixel is ignored.
        index: Row numbers in the data set, int64 (n,).
    """

    inputs: Tensor
    targets: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def rows(self, start: int, stop: int) -> Examples:
        """Examples number start to stop - 1, as views."""
        return Examples(self.inputs[start:stop], self.targets[start:stop], self.index[start:stop])

    def batch(self, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Inputs and targets of some rows as a loss takes them: class indices as int64."""
        targets = self.targets[rows]
        return self.inputs[rows], targets if targets.is_floating_point() else targets.long()


@dataclass(frozen=True, eq=False)
class Splits:
    """A data set made ready for training: its training, validation and test part.

    Args:
        name: The data set's name.
        train: What the model is fitted to, shuffled; the clean examples first where there are any.
        valid: What choices are made on; noise, outliers and imbalance alter it as they alter train, unless it is clean.
        test: What is reported; never altered.
        class_names: The C classes' names; empty for regression.
        encoding: How the inputs were made from raw examples.
        clean: How many examples of `train` come from the spec's clean set.
        task: What the targets are.
        target_mean: For regression, the mean of the training targets before outliers, in the data's units; else None.
        target_std: For regression, their standard deviation (divisor n); else None. All targets have the mean
            subtracted and are divided by it, so that a squared error of 1 is the variance of the training targets.
        ignore: For segmentation, the target of pixels that count neither in a loss nor in a score: -100, which every
            loss ignores by default; else None.
        notes: What of the training inputs is not read, a line each.
    """

    name: str
    train: Examples
    valid: Examples
    test: Examples
    class_names: tuple[str, ...]
    encoding: Encoding
    clean: int = 0
    task: TaskName = "classification"
    target_mean: float | None = None
    target_std: float | None = None
    ignore: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        """What the inputs are: "tabular", "image" or "text"."""
        return self.encoding.kind

    @property
    def input_shape(self) -> tuple[int, ...]:
        """One example's shape: (d,), (c, h, w) or (L,)."""
        return self.encoding.input_shape

    @property
    def vocabulary(self) -> tuple[str, ...] | None:
        """For texts, the token of each number, "<pad>" and "<unk>" first; else None."""
        return self.encoding.vocabulary

    @property
    def class_counts(self) -> Tensor:
        """How many training examples, or pixels of training masks, each class has: int64 (C,); C = 0 for regression."""
        if self.task == "regression":
            return torch.zeros(0, dtype=torch.int64)
        targets = self.train.targets if self.ignore is None else self.train.targets[self.train.targets != self.ignore]
        return torch.bincount(targets, minlength=len(self.class_names))


def make_splits(dataset: Dataset, spec: DataSpec) -> Splits:
    """Choose a data set's rows, alter and encode them: the same spec gives the same splits, bit for bit.

    Args:
        dataset: The data set that `spec.source` stands for.
        spec: Which of its examples the trial sees.

    Returns:
        The splits.

    Raises:
        DataError: If the spec is of another data set, or the data set does not allow it.
    """
    _check_source(dataset, spec)
    rows = choose_rows(dataset, spec)
    if dataset.task == "regression" and min(len(rows.valid), len(rows.test)) < 2:
        raise DataError(
            f"{dataset.name!r} leaves {len(rows.valid)} rows for validation and {len(rows.test)} for the test, while R2"
            " is undefined below 2; add examples."
        )
    shown = np.concatenate([rows.clean, rows.train])
    encoding, notes = _fit(dataset, shown)
    targets, mean, std = dataset.targets, None, None
    if dataset.task == "regression":
        targets, mean, std = _standardised(dataset, shown)

    def examples(chosen: NDArray[np.int64], values: NDArray[Any]) -> Examples:
        return Examples(_encoded(dataset, encoding, chosen), _as_tensor(values, dataset), torch.from_numpy(chosen))

    altered = _altered(targets[rows.train], dataset, spec, Purpose.NOISE_TRAIN, Purpose.OUTLIERS_TRAIN)
    train = examples(shown, np.concatenate([targets[rows.clean], altered]))
    valid = targets[rows.valid]
    if spec.clean is None:
        valid = _altered(valid, dataset, spec, Purpose.NOISE_VALID, Purpose.OUTLIERS_VALID)
    splits = Splits(
        name=dataset.name,
        train=train,
        valid=examples(rows.valid, valid),
        test=examples(rows.test, targets[rows.test]),
        class_names=dataset.class_names,
        encoding=encoding,
        clean=len(rows.clean),
        task=dataset.task,
        target_mean=mean,
        target_std=std,
        ignore=IGNORED if dataset.task == "segmentation" else None,
        notes=notes,
    )
    if dataset.task == "classification" and not splits.class_counts.all():
        lost = dataset.class_names[int(splits.class_counts.argmin())]
        raise DataError(
            f"label_noise {spec.label_noise:g} leaves the class {quoted(lost)} of {dataset.name!r} without a training"
            " example; give less noise or more examples."
        )
    return splits


def encoding_of(plain: Mapping[str, Any]) -> Encoding:
    """The encoding that `Encoding.plain` described."""
    return _ENCODINGS[plain["kind"]].from_plain(plain)


def _check_source(dataset: Dataset, spec: DataSpec) -> None:
    if spec.source != dataset.digest:
        raise DataError(
            f"the data set {dataset.name!r} ({dataset.digest:.20}) is not the one the spec was made for"
            f" ({spec.source:.20}); give the unchanged data, or make a new spec."
        )
    if spec.task != dataset.task:
        raise DataError(
            f"the spec is for {spec.task}, but {dataset.name!r} was read for {dataset.task}; give both the same task."
        )
    for name in ("label", "drop", "image_size"):
        wanted, found = getattr(spec, name), getattr(dataset, name)
        if wanted != found:
            raise DataError(
                f"the spec's {name} is {wanted!r}, but {dataset.name!r} was read with {found!r}; give both the same."
            )


def _fit(dataset: Dataset, train: NDArray[np.int64]) -> tuple[Encoding, tuple[str, ...]]:
    """The encoding, and what to say of it."""
    if isinstance(dataset.inputs, list):
        return fit_text(dataset.inputs, train, dataset.columns[0].name if dataset.columns else None)
    return (fit_images if dataset.kind == "image" else fit_table)(dataset, train), ()


def _encoded(dataset: Dataset, encoding: Encoding, rows: NDArray[np.int64]) -> Tensor:
    inputs = dataset.inputs
    try:
        return encoding.encode([inputs[row] for row in rows] if isinstance(inputs, list) else inputs[rows])
    except DataError as error:
        raise DataError(f"in the data set {dataset.name!r}, {error}") from None


def _standardised(dataset: Dataset, train: NDArray[np.int64]) -> tuple[NDArray[np.float64], float, float]:
    """All targets in units of the training targets' standard deviation from their mean, with both."""
    known = dataset.targets[train]
    mean, std = float(known.mean()), float(known.std())
    if known.min() == known.max() or std == 0:
        raise DataError(
            f"all {len(known):,} training targets of {dataset.name!r} are {known[0]:g}; give more or other examples."
        )
    return (dataset.targets - mean) / std, mean, std


def _altered(
    targets: NDArray[Any], dataset: Dataset, spec: DataSpec, noise: Purpose, outliers: Purpose
) -> NDArray[Any]:
    seed = spec.split_seed if spec.clean is None else spec.clean.seed
    if spec.label_noise > 0:
        draw = generator(seed, noise, spec.fold)
        return noisy_labels(targets, spec.label_noise, len(dataset.class_names), draw, spec.noise)
    if spec.outliers > 0:
        return with_outliers(targets, spec.outliers, generator(seed, outliers, spec.fold))
    return targets


def _as_tensor(targets: NDArray[Any], dataset: Dataset) -> Tensor:
    if dataset.task == "classification":
        return torch.from_numpy(targets.astype(np.int64))
    if dataset.task == "segmentation":  # small: a mask as int64 would take more memory than its image
        return torch.from_numpy(np.where(targets == IGNORE, np.int16(IGNORED), targets.astype(np.int16)))
    with np.errstate(over="ignore"):
        values = targets.astype(np.float32)
    if not np.isfinite(values).all():
        raise DataError(
            f"the targets of {dataset.name!r} are not finite once scaled by the training targets; correct extreme ones."
        )
    return torch.from_numpy(values)[:, None]

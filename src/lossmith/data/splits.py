"""What a training consumes: the chosen examples as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lossmith.data.dataset import Dataset, Kind
from lossmith.data.encode import Encoder, fit_images, fit_table
from lossmith.data.errors import DataError, quoted
from lossmith.data.generators import Purpose, generator
from lossmith.data.noise import noisy_labels
from lossmith.data.rows import choose_rows
from lossmith.data.spec import DataSpec
from lossmith.data.text import fit_text


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs with their targets.

    Args:
        inputs: float32 (n, d) or (n, c, h, w), or token numbers int64 (n, L).
        targets: Class indices, int64 (n,).
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


@dataclass(frozen=True, eq=False)
class Splits:
    """A data set made ready for training: its training, validation and test part.

    Args:
        name: The data set's name.
        kind: "tabular", "image" or "text".
        train: What the model is fitted to, shuffled; the clean examples first where there are any.
        valid: What choices are made on; noise and imbalance hit it as they hit train, unless it is clean.
        test: What is reported; never altered.
        class_names: The C classes' names.
        input_shape: One example's shape: (d,), (c, h, w) or (L,).
        vocabulary: Of a text task the token of each number, "<pad>" and "<unk>" first; else None.
        clean: How many examples of `train` come from the spec's clean set.
    """

    name: str
    kind: Kind
    train: Examples
    valid: Examples
    test: Examples
    class_names: tuple[str, ...]
    input_shape: tuple[int, ...]
    vocabulary: tuple[str, ...] | None
    clean: int = 0

    @property
    def class_counts(self) -> Tensor:
        """How many training examples carry each class's label, int64 (C,)."""
        return torch.bincount(self.train.targets, minlength=len(self.class_names))


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
    shown = np.concatenate([rows.clean, rows.train])
    encode, vocabulary = _fit(dataset, shown)
    noisy = _labels(dataset, spec, rows.train, Purpose.NOISE_TRAIN)
    train = _examples(shown, np.concatenate([dataset.labels[rows.clean], noisy]), encode)
    valid = dataset.labels[rows.valid] if spec.clean else _labels(dataset, spec, rows.valid, Purpose.NOISE_VALID)
    splits = Splits(
        name=dataset.name,
        kind=dataset.kind,
        train=train,
        valid=_examples(rows.valid, valid, encode),
        test=_examples(rows.test, dataset.labels[rows.test], encode),
        class_names=dataset.class_names,
        input_shape=tuple(train.inputs.shape[1:]),
        vocabulary=vocabulary,
        clean=len(rows.clean),
    )
    if not splits.class_counts.all():
        lost = dataset.class_names[int(splits.class_counts.argmin())]
        raise DataError(
            f"label_noise {spec.label_noise:g} leaves the class {quoted(lost)} of {dataset.name!r} without a training"
            " example; give less noise or more examples."
        )
    return splits


def _check_source(dataset: Dataset, spec: DataSpec) -> None:
    if spec.source != dataset.digest:
        raise DataError(
            f"the data set {dataset.name!r} ({dataset.digest:.20}) is not the one the spec was made for"
            f" ({spec.source:.20}); give the unchanged data, or make a new spec."
        )
    if spec.label != dataset.label:
        raise DataError(
            f"the spec's label column is {spec.label!r}, but {dataset.name!r} was read with {dataset.label!r};"
            " give both the same."
        )


def _fit(dataset: Dataset, train: NDArray[np.int64]) -> tuple[Encoder, tuple[str, ...] | None]:
    if isinstance(dataset.inputs, list):
        return fit_text(dataset.inputs, train)
    return (fit_images if dataset.kind == "image" else fit_table)(dataset, train), None


def _labels(dataset: Dataset, spec: DataSpec, rows: NDArray[np.int64], purpose: Purpose) -> NDArray[np.int64]:
    labels = dataset.labels[rows]
    if spec.label_noise == 0:
        return labels
    draw = generator(spec.split_seed if spec.clean is None else spec.clean.seed, purpose, spec.fold)
    return noisy_labels(labels, spec.label_noise, len(dataset.class_names), draw, spec.noise)


def _examples(rows: NDArray[np.int64], labels: NDArray[np.int64], encode: Encoder) -> Examples:
    return Examples(encode(rows), torch.from_numpy(labels), torch.from_numpy(rows))

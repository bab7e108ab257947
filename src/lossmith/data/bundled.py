"""The data sets that need no file."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossmith.data.dataset import Column, Dataset, TaskName
from lossmith.data.errors import DataError

BUNDLED: dict[str, str] = {
    "digits": "1,797 handwritten digits, 8x8 grey images, 10 classes",
    "wine": "178 wines, 13 measurements, 3 cultivars",
    "breast_cancer": "569 tumours, 30 measurements, malignant or benign",
    "iris": "150 flowers, 4 measurements, 3 species",
    "diabetes": "442 patients, 10 measurements, progression of the disease after a year (regression)",
    "spirals": "300 points of the plane on 3 interleaved spirals, unscaled",
}


def load_bundled(name: str) -> Dataset:
    """Load one of `BUNDLED`, digits as images (1, 8, 8) and all others as tables; its digest is its name."""
    if name == "spirals":
        return _spirals()
    try:
        from sklearn import datasets
    except ImportError as error:
        raise DataError(
            f"the data set {name!r} comes with scikit-learn, which is not installed; pip install 'lossmith[compare]'."
        ) from error
    raw = {"scaled": False} if name == "diabetes" else {}
    bunch: Any = getattr(datasets, f"load_{name}")(**raw)
    if name == "diabetes":
        return _table(name, bunch, bunch.target.astype(np.float64), (), "regression")
    classes = bunch.target.astype(np.int64)
    class_names = tuple(str(text) for text in bunch.target_names)
    if name == "digits":
        return Dataset(name, name, "image", bunch.images.astype(np.uint8)[:, None], classes, class_names)
    return _table(name, bunch, classes, class_names, "classification")


def _table(name: str, bunch: Any, targets: NDArray[Any], class_names: tuple[str, ...], task: TaskName) -> Dataset:
    columns = tuple(Column(str(text)) for text in bunch.feature_names)
    inputs = bunch.data.astype(np.float64)
    return Dataset(name, name, "tabular", inputs, targets, class_names, columns=columns, task=task)


def spiral_points(draw: int, classes: int = 3, per_class: int = 100) -> NDArray[np.float64]:
    """Draw points of the spirals of Ruiz-Garcia et al. (2021, arXiv 2102.03793), as the authors' notebook does.

    For class j: r from 0 to 1, angle from 2 pi j / C over two full turns plus 0.2 times a standard normal.

    Args:
        draw: seed of the generator; the notebook's is 0.
        classes: C.
        per_class: number of points of each class.

    Returns:
        The points, class after class, shape (C per_class, 2).
    """
    normal: Any = np.random.RandomState(draw).randn  # the notebook's generator, bit for bit
    radius = np.linspace(0.0, 1.0, per_class)
    arms: list[NDArray[np.float64]] = []
    for j in range(classes):
        start = j * 2 * np.pi / classes
        angle = np.linspace(start, start + 4 * np.pi, per_class) + 0.2 * normal(per_class)
        arms.append(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1))
    return np.concatenate(arms)


def _spirals() -> Dataset:
    classes, points = 3, spiral_points(0)
    return Dataset(
        name="spirals",
        digest="spirals",
        kind="tabular",
        inputs=points,
        targets=np.repeat(np.arange(classes, dtype=np.int64), len(points) // classes),
        class_names=tuple(str(j) for j in range(classes)),
        columns=(Column("x"), Column("y")),
        standardize=False,
    )

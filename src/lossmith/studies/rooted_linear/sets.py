"""The data sets of the study, three of them drawn so that their solutions are known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lossmith.data.bundled import load_bundled

Array = NDArray[np.float64]

SYNTHETIC: Final = ("separable", "wide", "overlapping")
BUNDLED: Final = ("breast_cancer", "wine")
FILES: Final = {"ionosphere": "ionosphere", "spect": "spect_train", "madelon": "madelon_train"}
NAMES: Final = {
    "separable": "separable (drawn)",
    "wide": "wide (drawn)",
    "overlapping": "overlapping (drawn)",
    "breast_cancer": "breast cancer",
    "wine": "wine",
    "ionosphere": "ionosphere",
    "spect": "SPECT heart",
    "madelon": "Madelon",
}


SHARE: Final = 0.8
"""Of the points, in a resample."""


@dataclass(frozen=True)
class Points:
    """Labelled points.

    Args:
        inputs: shape (N, D), the last column ones.
        classes: integers from 0, shape (N,).
    """

    inputs: Array
    classes: NDArray[np.int64]


def present(data: Path | None) -> tuple[list[str], list[str]]:
    """The names of the data sets that are there, and of those whose file is missing."""
    files = {} if data is None else {name: file_of(name, data) for name in FILES}
    there = [name for name, file in files.items() if file is not None and file.is_file()]
    return [*SYNTHETIC, *BUNDLED, *there], [name for name in FILES if name not in there]


def file_of(name: str, data: Path) -> Path | None:
    """The file of a data set in a folder; ``None`` if it needs none."""
    return (data / "tabular" / f"{FILES[name]}.csv.gz").resolve() if name in FILES else None


def load(name: str, file: Path | None, resample: int, limit: int = 0) -> Points:
    """Load a data set or a part of it, standardised.

    Args:
        name: of the data set.
        file: of a data set that is in one.
        resample: number of the part, which is drawn without replacement; 0 is the whole.
        limit: points at most, drawn once; 0: all.
    """
    if name in SYNTHETIC:
        inputs, classes = {"separable": _separable, "wide": _wide, "overlapping": _overlapping}[name]()
    elif name in BUNDLED:
        dataset = load_bundled(name)
        inputs, classes = np.asarray(dataset.inputs, np.float64), np.asarray(dataset.targets, np.int64)
    else:
        assert file is not None
        rows = np.loadtxt(file, delimiter=",", skiprows=1)
        inputs, classes = rows[:, :-1], rows[:, -1].astype(np.int64)
    if limit:
        inputs, classes = _drawn(inputs, classes, limit, [0, *name.encode()])
    if resample:
        inputs, classes = _drawn(inputs, classes, round(SHARE * len(inputs)), [resample, *name.encode()])
    if name not in SYNTHETIC:  # these keep the units in which their solutions are known
        spread = inputs.std(0)
        inputs = (inputs - inputs.mean(0))[:, spread > 0] / spread[spread > 0]
    return Points(np.concatenate([inputs, np.ones((len(inputs), 1))], 1), classes)


def _drawn(inputs: Array, classes: NDArray[np.int64], count: int, seed: list[int]) -> tuple[Array, NDArray[np.int64]]:
    chosen = np.sort(np.random.default_rng(seed).permutation(len(inputs))[:count])
    return inputs[chosen], classes[chosen]


MARGIN: Final = 0.1
"""Of the separable set."""


def _separable() -> tuple[Array, NDArray[np.int64]]:
    """200 points in 10 dimensions whose maximum-margin direction is the first axis, without an intercept.

    In each class the points nearest the boundary are four pairs (m, v) and (m, -v) with the class' sign on the first
    coordinate, and m the margin: their sum, and so the solution, lies on the first axis.
    """
    generator = np.random.default_rng(1)
    scales = np.geomspace(0.3, 3, 9)
    pairs = generator.standard_normal((4, 9)) * scales
    nearest = np.concatenate([np.full((8, 1), MARGIN), np.concatenate([pairs, -pairs])], 1)
    signs = np.repeat([1.0, -1.0], 92)
    others = generator.standard_normal((184, 9)) * scales
    first = MARGIN + generator.exponential(0.5, 184)
    far = np.concatenate([(signs * first)[:, None], others], 1)
    flip = np.append(-1.0, np.ones(9))
    inputs = np.concatenate([nearest, nearest * flip, far])
    classes = np.concatenate([np.ones(8), np.zeros(8), signs > 0]).astype(np.int64)
    return inputs, classes


def _wide() -> tuple[Array, NDArray[np.int64]]:
    """40 points in 100 dimensions: every labelling is separable, and least squares interpolates it."""
    generator = np.random.default_rng(2)
    classes = np.arange(40) % 2
    return generator.standard_normal((40, 100)) + np.outer(2.0 * classes - 1, np.append(1.0, np.zeros(99))), classes


COUNTS: Final = ((3, 1), (9, 1), (2, 3), (19, 1), (1, 4), (6, 2))
"""Of the overlapping set: how often each of its points occurs in class 1 and in class 0."""


def _overlapping() -> tuple[Array, NDArray[np.int64]]:
    """Six directions of unequal length, each a point that occurs several times in both classes.

    A loss is least where each point has the logit that is best for its two counts: log(a / b) for cross-entropy, and
    k / (k + 1) of it for the rooted loss of the convex form. Six weights reach any six logits.
    """
    times = [one + other for one, other in COUNTS]
    classes = np.concatenate([np.arange(one + other) < one for one, other in COUNTS])
    return np.repeat(directions(), times, 0), classes.astype(np.int64)


def directions() -> Array:
    """The points of the overlapping set, without repetition."""
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((len(COUNTS), len(COUNTS))))[0]
    rows: Array = np.geomspace(0.1, 3, len(COUNTS))[:, None] * turn
    return rows

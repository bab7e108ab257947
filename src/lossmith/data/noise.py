"""Label noise and outliers."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from lossmith.data.spec import NoiseKind

OUTLIER_SCALE: Final = 10.0
"""Standard deviation of what an outlier adds, in those of the training targets."""


def noisy_labels(
    labels: NDArray[np.int64], share: float, classes: int, draw: np.random.Generator, kind: NoiseKind = "symmetric"
) -> NDArray[np.int64]:
    """Replace a share of the labels (n,), rounded to whole labels, by a different class.

    "symmetric": all other classes are equally likely; "asymmetric": class c becomes (c + 1) mod C.

    Source: both kinds as in Han et al., "Co-teaching", 2018, arXiv 1804.06872 (the second is its "pair flipping"), but
    with exactly the share asked for.
    """
    count = int(np.floor(share * len(labels) + 0.5))
    chosen = draw.permutation(len(labels))[:count]
    noisy = labels.copy()
    shift = draw.integers(1, classes, size=count) if kind == "symmetric" else 1
    noisy[chosen] = (labels[chosen] + shift) % classes
    return noisy


def with_outliers(targets: NDArray[np.float64], share: float, draw: np.random.Generator) -> NDArray[np.float64]:
    """Add 10 standard deviations times a normal number to a share of the standardised targets (n,); see `DataSpec`."""
    count = int(np.floor(share * len(targets) + 0.5))
    chosen = draw.permutation(len(targets))[:count]
    altered = targets.copy()
    altered[chosen] += OUTLIER_SCALE * draw.standard_normal(count)
    return altered

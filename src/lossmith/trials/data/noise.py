"""Label noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def noisy_labels(labels: NDArray[np.int64], share: float, classes: int, draw: np.random.Generator) -> NDArray[np.int64]:
    """Replace a share of the labels, rounded to whole labels, by a different class, all others equally likely.

    Args:
        labels: Class indices (n,).
        share: How many of them to replace, in [0, 1).
        classes: The number of classes C.
        draw: What chooses the examples and their new classes.

    Returns:
        Class indices (n,); `labels` is left as it is.
    """
    count = int(np.floor(share * len(labels) + 0.5))
    chosen = draw.permutation(len(labels))[:count]
    noisy = labels.copy()
    noisy[chosen] = (labels[chosen] + draw.integers(1, classes, size=count)) % classes
    return noisy

"""The named loss that a loss resembles most, by the slope in the target's logit."""

from __future__ import annotations

import numpy as np
import pytest

from lossmith.catalog import create
from lossmith.properties.nearest import nearest

P = np.linspace(0.005, 0.995, 199)


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("formula(-3*y*log(p))", "cross_entropy"),
        ("formula((y - p)*(y - p))", "brier"),
        ("formula(0.5*y*(1 - p)*c)", "focal:gamma=1"),
        ("formula(2 - 2*y*p)", "mae"),
        ("label_smoothing:epsilon=0.2", "label_smoothing:epsilon=0.2"),
    ],
)
def test_a_multiple_of_a_named_loss_is_that_loss(text: str, known: str) -> None:
    found = nearest(create(text), 10)
    assert found is not None
    assert found.alike
    assert create(found.known).text == create(known).text


def test_how_far_apart_is_what_the_slopes_say() -> None:
    """The slope of a c + b (1 - p) in the target's logit is -(a + b p) (1 - p); that of cross-entropy is p - 1."""
    found = nearest(create("formula(y*c + 0.002*y*(1 - p))"), 10)
    own, other = (1 + 0.002 * P) * (1 - P), 1 - P
    factor = (own @ other) / (other @ other)
    apart = np.linalg.norm(own - factor * other) / np.linalg.norm(own)
    assert found is not None
    assert found.known == "cross_entropy"
    assert found.apart == pytest.approx(apart, rel=1e-9)


def test_a_loss_that_leaves_the_target_alone_resembles_none() -> None:
    assert nearest(create("formula(0*p + y)"), 10) is None

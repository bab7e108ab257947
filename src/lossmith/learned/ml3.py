"""ML3, the baseline that learns offline."""

from __future__ import annotations

from lossmith.learned.adaptive import AdaptiveLoss
from lossmith.losses import ClassificationLoss


class ML3Loss(AdaptiveLoss):
    """ML3: a loss network that is learned offline, on one step of fresh models at a time, and then stays fixed.

    A trial learns it for 250 steps with Adam at 1e-3 and a step size of 0.01.

    Args:
        init_seed: seed of the network's initial weights.
        base: only cross-entropy, which supplies the common arguments.

    Source: Bechtle et al., "Meta-Learning via Learned Loss", 2021, arXiv 1906.05374. Two layers of 50 units, ReLU, a
    softplus output, no biases, the sum over the classes, 250 steps, Adam at 1e-3 and a step size of 0.01 are from the
    code of the AdaLFL authors, which initialises with Kaiming normal weights.
    """

    name = "ml3"

    def __init__(self, *, init_seed: int = 0, base: ClassificationLoss | None = None) -> None:
        super().__init__(
            base,
            start="random",
            hidden=50,
            activation="relu",
            output="softplus",
            class_reduction="sum",
            init_seed=init_seed,
        )

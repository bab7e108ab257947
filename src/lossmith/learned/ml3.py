"""ML3, the baseline that learns offline."""

from __future__ import annotations

from lossmith.learned.adaptive import AdaptiveLoss
from lossmith.learned.recipe import MetaData
from lossmith.losses import ClassificationLoss
from lossmith.losses.arguments import Range


class ML3Loss(AdaptiveLoss):
    """ML3: a loss network that is learned offline, on one step of fresh models at a time, and then stays fixed.

    Args:
        offline: number of offline steps.
        offline_lr: learning rate of the model's plain SGD steps.
        meta_lr: learning rate of Adam for the network.
        meta_data: the data that the task loss is measured on: ``"held_out"``, ``"fresh"`` or ``"same"``.
        meta_part: fraction of the training examples held out.
        max_scale: effective scale at which the offline phase stops.
        init_seed: seed of the network's initial weights.
        base: only cross-entropy, which supplies the common arguments.

    Source: Bechtle et al., "Meta-Learning via Learned Loss", 2021, arXiv 1906.05374. Two layers of 50 units, ReLU, a
    softplus output, no biases, the sum over the classes, 250 steps, Adam at 1e-3 and a step size of 0.01 are from the
    code of the AdaLFL authors, which initialises with Kaiming normal weights.
    """

    name = "ml3"
    searched = (Range("meta_lr", (1e-4, 1e-2), "log"),)

    def __init__(
        self,
        *,
        offline: int = 250,
        offline_lr: float = 0.01,
        meta_lr: float = 1e-3,
        meta_data: MetaData = "held_out",
        meta_part: float = 0.1,
        max_scale: float = 10.0,
        init_seed: int = 0,
        base: ClassificationLoss | None = None,
    ) -> None:
        if meta_data == "next":
            raise ValueError(
                "meta_data='next' is for online learning, but ml3 learns offline: choose held_out, fresh or same"
            )
        super().__init__(
            base,
            start="random",
            hidden=50,
            activation="relu",
            output="softplus",
            class_reduction="sum",
            init_seed=init_seed,
            online=False,
            meta_data=meta_data,
            meta_part=meta_part,
            scale="learned",
            max_scale=max_scale,
            offline=offline,
            offline_lr=offline_lr,
            offline_meta_lr=meta_lr,
        )
        self.meta_lr = float(meta_lr)

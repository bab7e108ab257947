"""ML3, the offline baseline."""

from __future__ import annotations

from lossmith.learned.adaptive import AdaptiveLoss
from lossmith.learned.recipe import MetaData
from lossmith.losses import ClassificationLoss
from lossmith.losses.arguments import Range


class ML3Loss(AdaptiveLoss):
    """ML3: a loss network learned offline, one step at a time on fresh models, then used as it is.

    Args:
        offline: steps of the offline phase.
        offline_lr: learning rate of the model's plain SGD step.
        meta_lr: Adam's learning rate for the network.
        meta_data: ``"held_out"``, ``"fresh"`` or ``"same"``: what the task loss is measured on.
        meta_part: share of the training examples held out.
        max_scale: largest effective scale, at which the offline phase stops.
        init_seed: of the network's initial weights.

    Source: Bechtle et al., "Meta-Learning via Learned Loss", 2021, arXiv 1906.05374; two layers of 50 units, ReLU,
    softplus at the end, no biases, sum over the classes, 250 steps, Adam 1e-3 and a step size of 0.01 from the code of
    the AdaLFL authors, which draws Kaiming normal weights.
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
            raise ValueError("meta_data='next' needs training online, and ml3 learns offline: held_out, fresh or same")
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

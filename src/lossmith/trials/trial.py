"""One training as a value: everything that decides its result, and nothing else."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Literal

from lossmith.data import DataSpec

OptimizerName = Literal["sgd", "adam", "adamw"]
Schedule = Literal["none", "cosine"]
Engine = Literal["single", "stacked"]
Select = Literal["last", "best-val"]
CleanUse = Literal["unused", "mixed", "last"]


@dataclass(frozen=True)
class OptimizerSpec:
    """An optimiser of `torch.optim` with its settings; whatever is not named here stands at torch's default.

    Args:
        name: ``"sgd"``, ``"adam"`` or ``"adamw"``.
        lr: learning rate at the first step, > 0.
        momentum: of SGD, in [0, 1).
        nesterov: Nesterov's momentum, for SGD.
        weight_decay: added to the gradient (sgd, adam) or decoupled from it (adamw), >= 0.
        clip: largest norm of the whole gradient, ``None`` for no limit.
        schedule: ``"none"``, or ``"cosine"``: lr times (1 + cos(pi t / steps)) / 2 at step t = 0, 1, ...
    """

    name: OptimizerName
    lr: float
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    clip: float | None = None
    schedule: Schedule = "cosine"


@dataclass(frozen=True)
class Trial:
    """One training, frozen and hashable.

    Args:
        data: the examples it sees.
        model: canonical text of the model.
        loss: canonical text of the loss, without ``?``.
        optimizer: the optimiser.
        steps: number of optimiser steps.
        batch_size: examples per step, at most the size of the training part.
        seed: decides initial weights and the order of the examples, alike for every loss.
        evaluations: number of equally spaced points at which the learning curve is taken.
        select: whether the weights of the last step count or those of the best validation accuracy.
        final: whether the test part is scored and outcomes per example are kept.
        engine: ``"single"``: its own forward passes; ``"stacked"``: as a slice of one batched model.
        clean: how the model trains on the clean examples of ``data``: ``"unused"``, ``"mixed"`` into each batch, or
            ``"last"``, in place of the noisy ones at the end. A loss that learns takes unused ones as its meta data.
        clean_share: share of each batch (mixed) or of the steps (last) that consists of clean examples, in [0, 1].
    """

    data: DataSpec
    model: str
    loss: str
    optimizer: OptimizerSpec
    steps: int
    batch_size: int
    seed: int
    evaluations: int = 60
    select: Select = "last"
    final: bool = False
    engine: Engine = "single"
    clean: CleanUse = "unused"
    clean_share: float = 0.0

    @property
    def hash(self) -> str:
        """SHA-256 of the trial's canonical JSON, in hexadecimal."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @property
    def stack_key(self) -> str:
        """What trials must share to be trained as slices of one stack, as JSON."""
        own = asdict(self)
        for name in ("loss", "seed", "clean", "clean_share"):
            del own[name]
        for name in ("lr", "weight_decay", "momentum"):
            del own["optimizer"][name]
        own["optimizer"]["clip"] = self.optimizer.clip is not None
        return json.dumps(own, sort_keys=True)

    def evaluation_steps(self) -> list[int]:
        """The steps after which the learning curve is taken; the last one is the last step."""
        points = min(self.evaluations, self.steps)
        return sorted({round(self.steps * k / points) for k in range(1, points + 1)})


@dataclass(frozen=True)
class Sources:
    """Where this machine keeps what trials name by content.

    Args:
        data: what to give `load_dataset` for each `DataSpec.source`.
        models: path of the Python file behind the hash of each model of a user's own.
    """

    data: dict[str, str] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)

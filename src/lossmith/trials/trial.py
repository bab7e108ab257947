"""One training as a value: everything that decides its result, and nothing else."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, get_args

from lossmith.data import DataSpec
from lossmith.learned.scale import MAX_SCALE, Scale, cap_on_scale
from lossmith.losses.arguments import check_choice, check_number, whole_number
from lossmith.tasks import Task
from lossmith.trials.options import OptimizerName, Schedule, Select

Engine = Literal["single", "stacked"]
CleanUse = Literal["unused", "mixed", "last"]
MetaData = Literal["held_out", "fresh", "same", "next"]


@dataclass(frozen=True)
class OptimizerSpec:
    """An optimiser of `torch.optim` with its settings; all others keep torch's defaults.

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
class ModelTrainer:
    """Our trainer: a model trained on batches of a data set.

    Args:
        data: the examples.
        model: canonical text of the model.
        batch_size: examples per step, at most the size of the training part.
        evaluations: number of equally spaced points at which the learning curve is taken.
        evaluation_rows: validation examples that each point is taken on, spread evenly over the validation part.
        select: whether the weights of the last step count or those with the best validation score.
        engine: ``"single"``: its own forward passes; ``"stacked"``: as a slice of one batched model.
        metric: text of a user's metric, to be scored besides those of the task: ``"cost.py:cost#<hash of the file>"``.
    """

    data: DataSpec
    model: str
    batch_size: int
    evaluations: int = 60
    evaluation_rows: int = 1024
    select: Select = "last"
    engine: Engine = "single"
    metric: str | None = None

    @property
    def title(self) -> str:
        """What people call it: the model."""
        return self.model.rpartition("#")[0] or self.model

    @property
    def folds(self) -> int:
        """The number of test folds; 0 for a hold-out."""
        return self.data.folds

    def on_fold(self, fold: int, repeat: int = 0) -> ModelTrainer:
        """The same trainer on another fold of the data, with another draw of its validation part."""
        return replace(self, data=replace(self.data, fold=fold, repeat=repeat))

    def with_folds(self, folds: int) -> ModelTrainer:
        """The same trainer with another number of test folds."""
        return replace(self, data=replace(self.data, folds=folds))

    @property
    def test_split(self) -> str:
        """A hash of the test split: of how the test part is drawn, not of how examples are read or changed."""
        plain = replace(
            self.data,
            train_size=None,
            valid_size=None,
            label_noise=0.0,
            imbalance=1.0,
            noise="symmetric",
            clean=None,
            outliers=0.0,
            repeat=0,
            drop=(),
            image_size=None,
            stage="all",
        )
        return hashlib.sha256(json.dumps(asdict(plain), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class SearchTrainer(ModelTrainer):
    """A cheap trainer for the many trainings of a search: no learning curve, judged by cross-entropy alone.

    The score of a validation example is minus its cross-entropy in nats, times its weight.

    Args:
        tabulated: whether the loss, a formula, is trained by a table of its slopes; see `lossmith.trials.tables`.
        scaled: whether outputs are divided by the temperature that minimises the mean cross-entropy.
        balanced: whether each class has the same weight, whatever its number of examples.
    """

    tabulated: bool = True
    scaled: bool = True
    balanced: bool = False


@dataclass(frozen=True)
class FunctionTrainer:
    """A user's training function; see `lossmith.trials.function`.

    Args:
        function: ``"train.py:train#<hash of the file>"``.
        task: what scores that which the function returns.
        folds: the number of test folds; 0 for a hold-out.
        fold: the fold that the function is asked to hold out, from 0.
        repeat: which draw of the validation part it is asked for, from 0.
        split_seed: decides the parts that `lossmith.trials.function.Run.split` draws.
    """

    function: str
    task: Task
    folds: int = 0
    fold: int = 0
    repeat: int = 0
    split_seed: int = 0

    evaluations: ClassVar[int] = 0
    """Points of the learning curve that are ours to take: the function takes its own."""

    curve: ClassVar[tuple[str, ...]] = ("logged score",)
    """Columns of its learning curve."""

    @property
    def title(self) -> str:
        """What people call it: file and function."""
        return self.function.rpartition("#")[0]

    def on_fold(self, fold: int, repeat: int = 0) -> FunctionTrainer:
        """The same function on another fold, asked for another draw of its validation part."""
        return replace(self, fold=fold, repeat=repeat)

    def with_folds(self, folds: int) -> FunctionTrainer:
        """The same function asked for another number of folds."""
        return replace(self, folds=folds)

    @property
    def test_split(self) -> str:
        """A hash of the test split, which a file, a seed and a fold stand for."""
        named = f"{self.function} {self.split_seed} {self.folds} {self.fold}"
        return hashlib.sha256(named.encode()).hexdigest()


Trainer = ModelTrainer | FunctionTrainer


@dataclass(frozen=True)
class Plain:
    """Each step follows the gradient of the loss.

    Args:
        clean: how the model trains on the clean examples of its data: ``"unused"``, ``"mixed"`` into each batch, or
            ``"last"``, in place of the noisy ones at the end.
        clean_share: share of each batch (mixed) or of the steps (last) that consists of clean examples, in [0, 1].
    """

    clean: CleanUse = "unused"
    clean_share: float = 0.0


@dataclass(frozen=True)
class Adaptive:
    """The loss is learned: while the model trains, before, or both. Clean examples, if there are any, teach it.

    Custom training loops pass these settings to `OnlineLossLearner` and `learn_offline` directly.

    Args:
        online: whether the loss is learned while the model trains.
        meta_lr: learning rate of Adam for the loss's parameters.
        meta_data: the data of the task loss: ``"held_out"`` training examples that the model does not see, a
            ``"fresh"`` training batch, the ``"same"`` batch, or the ``"next"`` one.
        meta_part: fraction of the training examples that are held out.
        every: number of training steps per update of the loss.
        meta_share: fraction of each batch that an update uses.
        scale: ``"fixed"`` or ``"learned"``; see `OnlineLossLearner`.
        max_scale: largest effective scale when it is learned; ``None`` is 10.
        offline: number of offline steps before training.
        offline_lr: learning rate of the model's plain SGD steps in the offline phase.

    Raises:
        ValueError: if a value is out of its range.
    """

    online: bool = True
    meta_lr: float = 1e-3
    meta_data: MetaData = "held_out"
    meta_part: float = 0.1
    every: int = 1
    meta_share: float = 1.0
    scale: Scale = "fixed"
    max_scale: float | None = None
    offline: int = 0
    offline_lr: float = 0.1

    def __post_init__(self) -> None:
        if not isinstance(self.online, bool):
            raise ValueError(f"online must be true or false, not {self.online!r}")
        check_choice("meta_data", self.meta_data, get_args(MetaData))
        if self.meta_data == "next" and not self.online:
            raise ValueError("meta_data='next' is for online learning: choose held_out, fresh or same")
        check_number("meta_lr", self.meta_lr, low=0.0, high=10.0)
        check_number("meta_part", self.meta_part, low=0.01, high=0.9)
        check_number("meta_share", self.meta_share, low=0.01, high=1.0)
        if cap_on_scale(self.scale, self.max_scale) == MAX_SCALE:
            object.__setattr__(self, "max_scale", None)  # one training, one value
        check_number("offline_lr", self.offline_lr, low=1e-6, high=1e3)
        for name, low in (("every", 1), ("offline", 0)):  # numbers in a text form are floats
            object.__setattr__(self, name, whole_number(name, getattr(self, name), low=low))


@dataclass(frozen=True)
class Replay:
    """The loss follows the course that a learned loss took in another training.

    Args:
        of: that training, whose stepper is `Adaptive`.
        what: ``"rate"`` multiplies each step's loss by the effective scale of the learned loss at that step, ``"loss"``
            gives the loss the parameters that the learned loss had at that step.
    """

    of: Trial
    what: Literal["rate", "loss"]


Stepper = Plain | Adaptive | Replay


@dataclass(frozen=True)
class Trial:
    """One training, frozen and hashable.

    Args:
        trainer: what trains.
        loss: canonical text of the loss, without ``?``.
        optimizer: the optimiser.
        steps: number of optimiser steps.
        seed: decides initial weights and the order of the examples, alike for every loss.
        stepper: how a step is taken.
        probes: canonical texts of the probes that look at the training; see `lossmith.trials.probes`.
        final: whether the test part is scored and outcomes per unit are kept.
    """

    trainer: Trainer
    loss: str
    optimizer: OptimizerSpec
    steps: int
    seed: int
    stepper: Stepper = Plain()
    probes: tuple[str, ...] = ()
    final: bool = False

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the trial's canonical JSON, in hexadecimal."""
        return hashlib.sha256(self.json.encode()).hexdigest()

    @cached_property
    def json(self) -> str:
        """The trial as canonical JSON; two trials are equal if and only if their JSON is."""
        return json.dumps(_described(self), sort_keys=True)

    @property
    def source(self) -> Trial | None:
        """The trial whose course this one replays."""
        return self.stepper.of if isinstance(self.stepper, Replay) else None

    @property
    def ours(self) -> ModelTrainer:
        """The trainer of a trial that our trainer trains."""
        assert isinstance(self.trainer, ModelTrainer)
        return self.trainer

    @property
    def is_stacked(self) -> bool:
        """Whether it is trained as a slice of a stack."""
        return isinstance(self.trainer, ModelTrainer) and self.trainer.engine == "stacked"

    @property
    def stack_key(self) -> str:
        """What trials must share to be trained as slices of one stack, as JSON."""
        own = _described(self)
        for name in ("loss", "seed", "stepper"):
            del own[name]
        for name in ("lr", "weight_decay", "momentum"):
            del own["optimizer"][name]
        own["optimizer"]["clip"] = self.optimizer.clip is not None
        return json.dumps(own, sort_keys=True)


def _described(trial: Trial) -> dict[str, Any]:
    """The fields of a trial, with the kinds of its trainer and stepper."""
    own = asdict(trial)
    own["trainer"]["kind"] = type(trial.trainer).__name__
    if isinstance(trial.trainer, FunctionTrainer):
        own["trainer"]["task"]["kind"] = type(trial.trainer.task).__name__
    own["stepper"]["kind"] = type(trial.stepper).__name__
    if isinstance(trial.stepper, Replay):
        own["stepper"]["of"] = _described(trial.stepper.of)
    return own


@dataclass(frozen=True)
class Sources:
    """Where this machine keeps what trials name by content.

    Args:
        data: what to give `load_dataset` for each `DataSpec.source`.
        code: path of the Python file behind each hash in the text of a model or a training function.
    """

    data: dict[str, str] = field(default_factory=dict)
    code: dict[str, str] = field(default_factory=dict)

"""The plan of a comparison: everything that is decided before the first training."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from lossmith.comparison.arms import Arm, Baselines, make_arms
from lossmith.comparison.files import toml_text, write_file
from lossmith.comparison.options import Options as Options
from lossmith.comparison.subject import subject_of
from lossmith.comparison.tuning import Setting
from lossmith.dynamics.measurements import MEASUREMENTS
from lossmith.losses.text import parse_loss
from lossmith.tasks import Task
from lossmith.trials.options import RequestError
from lossmith.trials.texts import parse, with_loss
from lossmith.trials.trial import FunctionTrainer, Sources, Trial

ADAM_LRS: Final = tuple(2.0**k for k in range(-11, -3))
_SGD_LR0: Final = 0.1
SGD_LRS: Final = tuple(_SGD_LR0 * 2.0**k for k in range(-6, 2))
_LEAST_STEPS: Final = 20
_STREAMS: Final = {"tuning": 0, "final": 1, "speed": 1}


Use = Literal["tuning", "final", "speed"]


class PlanError(ValueError):
    """A run folder that holds another plan; the message is one sentence."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A comparison as a value; two equal plans have equal results.

    Args:
        name: what the data set is called.
        trial: one training of the reference on fold 0, with a learning rate of 1 and the plan's seed; those of the
            comparison differ from it in loss, learning rate, tuned values, fold, seed and, for some, length.
        task: what scores a training.
        examples: number of examples in training, validation and test of fold 0.
        arms: what is compared.
        lrs: the grid of learning rates, ascending by factors of 2, for the reference.
        budget: trainings spent on tuning each arm in each repeat.
        repeats: how often tuning and final training are done in each fold, each time with other seeds and another
            validation part.
        metric_reason: why they are judged by the task's metric.
        delta: the difference that matters, a fraction.
        device: ``"cpu"`` or ``"cuda"``.
        versions: of Lossmith and torch.
        notes: what a user should know of how the data were read and what was chosen, and what the losses warn of.
    """

    name: str
    trial: Trial
    task: Task
    examples: tuple[int, int, int]
    arms: tuple[Arm, ...]
    lrs: tuple[float, ...]
    budget: int
    repeats: int
    metric_reason: str
    delta: float
    device: str
    versions: dict[str, str]
    notes: tuple[str, ...]

    @property
    def metric(self) -> str:
        """What the losses are judged by."""
        return self.task.metric

    @property
    def folds(self) -> range:
        """The numbers of the test folds; one for a hold-out."""
        return range(max(1, self.trial.trainer.folds))

    @property
    def pipelines(self) -> list[tuple[int, int]]:
        """Fold and repeat of each pipeline: tuning, choice and final training of every arm."""
        return [(fold, repeat) for fold in self.folds for repeat in range(self.repeats)]

    @property
    def text(self) -> str:
        """The plan as TOML."""
        trainer, trial = asdict(self.trial.trainer), self.trial
        task = {name: getattr(self.task, name) for name in ("name", "summary", "guess", "meaning")} | asdict(self.task)
        of_trial = trainer | {"optimizer": asdict(trial.optimizer), "steps": trial.steps, "seed": trial.seed}
        of_trial |= {"probes": trial.probes} if trial.probes else {}
        own = {name: value for name, value in asdict(self).items() if name != "trial"}
        return toml_text(own | of_trial | {"task": task})

    @property
    def digest(self) -> str:
        """The first 8 hexadecimal digits of the text's SHA-256."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:8]

    @property
    def folder(self) -> str:
        """The name of its run folder, unless the user gives one."""
        file, _, name = self.trial.trainer.title.partition(":")
        named = name if isinstance(self.trial.trainer, FunctionTrainer) else file
        return "-".join(filter(None, (self.name, named, self.digest)))

    @property
    def names(self) -> Baselines:
        """What the arms are called that all others are held against."""
        return Baselines.of(self.task)

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    def bracket(self, arm: Arm) -> list[Setting]:
        """The learning rates that are tried of an arm before all else.

        They are the whole grid; where the arm has values to tune and the budget does not allow for as many settings of
        those, every second of the grid.
        """
        lrs = self.lrs[::2] if arm.tuned and self.budget < 2 * len(self.lrs) else self.lrs
        return [Setting(float(f"{lr * arm.lr_scale:.6g}")) for lr in lrs]

    def training(self, arm: Arm, fold: int, repeat: int, setting: Setting, use: Use) -> Trial:
        """One training.

        Args:
            arm: what is trained.
            fold: on which fold.
            repeat: in which repeat.
            setting: with which learning rate and values.
            use: what for. Tuning has seeds of its own; only final trainings have probes and are scored on test.

        Returns:
            The trial.
        """
        named = {} if setting.values is None else dict(zip((d.name for d in arm.tuned), setting.values, strict=True))
        optimizer = replace(self.trial.optimizer, lr=setting.lr, weight_decay=named.get("weight_decay", 0.0))
        if optimizer.weight_decay and optimizer.name == "adam":
            optimizer = replace(optimizer, name="adamw")  # Adam's coupled decay is a different, weaker control
        trial = replace(
            self.trial,
            trainer=self.trial.trainer.on_fold(fold, repeat),
            optimizer=optimizer,
            steps=round(arm.length * self.trial.steps),
            seed=derive_seed(self.trial.seed, arm.stream, _STREAMS[use], fold, repeat),
            probes=self.trial.probes if use == "final" else (),
            final=use == "final",
        )
        return with_loss(trial, arm.loss_with(setting.values))


def make_plan(options: Options, sources: Sources) -> Plan:
    """Plan a comparison; data, model and every loss are tried once on one batch, so that mistakes show at once.

    Args:
        options: what was asked for.
        sources: where data and models lie; filled in.

    Returns:
        The plan.

    Raises:
        ValueError: if data, model, a loss or an option does not do; the message is one sentence.
    """
    lrs = _grid(options)
    budget = _budget(options, len(lrs))
    subject = subject_of(options, sources)
    trial, task = subject.trial, subject.task
    if trial.steps < _LEAST_STEPS:
        raise RequestError(
            f"{trial.steps} steps are too few to compare losses, which takes {_LEAST_STEPS}: give more --epochs or "
            "--steps, or a smaller --batch-size"
        )
    if unfit := [text for text in trial.probes if parse_loss(text).name not in MEASUREMENTS]:
        raise RequestError(
            f"--probe {unfit[0]}: a comparison measures {', '.join(MEASUREMENTS)}; `lossmith train` takes it"
        )
    losses, left_out = subject.default_losses() if options.losses is None else (list(options.losses), ())
    arms = make_arms(task, list(map(task.loss_text, losses)), options.update_rule, subject.counts)
    tried = [subject.try_loss(arm.name, with_loss(trial, arm.loss_with())) for arm in arms]
    if options.update_rule == "sgd":
        arms = [
            arm if parse(arm.loss).learns else replace(arm, lr_scale=1 / ratio)  # what it will learn is not known yet
            for arm, (ratio, _) in zip(arms, tried, strict=True)
        ]
    return Plan(
        name=subject.name,
        trial=trial,
        task=task,
        examples=subject.examples,
        arms=tuple(arms),
        lrs=lrs,
        budget=budget,
        repeats=options.repeats or (2 if trial.trainer.folds else 3),
        metric_reason=subject.metric_reason,
        delta=options.delta,
        device=subject.device,
        versions={"lossmith": version("lossmith"), "torch": version("torch")},
        notes=(*subject.notes, *left_out, *dict.fromkeys(note for _, notes in tried for note in notes)),
    )


class Written(Protocol):
    """A plan that can be written."""

    @property
    def text(self) -> str:
        """The plan as TOML."""


def write_plan(plan: Written, folder: Path) -> None:
    """Write the plan into its run folder, unless it stands there already.

    Args:
        plan: the plan.
        folder: the run folder, made if absent.

    Raises:
        PlanError: if the folder holds another plan.
    """
    file = folder / "plan.toml"
    if file.exists() and (different := _difference_from(file, plan)) is not None:
        raise PlanError(
            f"{folder} holds the run of another plan ({different}): choose another --out, or give the options it was "
            "made with"
        )
    write_file(file, plan.text)


def derive_seed(*parts: float | str) -> int:
    """A seed below 2^31 from several numbers and words."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big") >> 1


def _budget(options: Options, lrs: int) -> int:
    budget = options.budget or lrs
    if budget < lrs:
        raise RequestError(
            f"--budget {budget} is less than a training for each of the {lrs} learning rates: give at least {lrs}, or "
            f"fewer rates (--lrs)"
        )
    return budget


def _grid(options: Options) -> tuple[float, ...]:
    full = SGD_LRS if options.update_rule == "sgd" else ADAM_LRS
    if options.lrs is None:
        return full
    if isinstance(options.lrs, int):
        if not 3 <= options.lrs <= len(full):
            raise RequestError(f"--lrs {options.lrs}: a number of learning rates lies between 3 and {len(full)}")
        start = (len(full) - options.lrs + 1) // 2
        return full[start : start + options.lrs]
    lrs = tuple(sorted(set(options.lrs)))
    if len(lrs) < 3 or lrs[0] <= 0:
        raise RequestError(
            "--lrs needs at least 3 positive learning rates: fewer cannot show that the best lies inside"
        )
    return lrs


def _difference_from(file: Path, plan: Written) -> str | None:
    """What a plan differs in from the one in a file; ``None``: nothing."""
    try:
        before = file.read_text(encoding="utf-8")
        return None if before == plan.text else _first_difference(tomllib.loads(before), tomllib.loads(plan.text))
    except ValueError as error:
        raise PlanError(f"{file} is damaged ({error}): delete it, or choose another --out") from None


def _first_difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            if isinstance(old.get(key), dict) and isinstance(new.get(key), dict):
                return f"{key}.{_first_difference(old[key], new[key])}"
            return f"{key} differs"
    return "they differ"

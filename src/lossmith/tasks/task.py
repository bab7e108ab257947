"""The contract of a task."""

from __future__ import annotations

import base64
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from lossmith.data import Examples, Splits
from lossmith.losses.loss import Kind

Scores = NDArray[np.float64]
_MOST_VALUES: Final = 2**20
"""What a `Raster` may hold: a page shows small pictures, and files come from other people."""


@dataclass(frozen=True, eq=False)
class Judged:
    """What a model made of each unit (image, row, sequence) of a part of the data.

    Args:
        index: row numbers in the data set, int64 (n,).
        score: the score of each unit, float64 (n,); higher is better.
        columns: whatever else is known of each unit, by name, each (n, ...).
        few: arrays about a few of the units, by name, for a report to show.
    """

    index: NDArray[np.int64]
    score: Scores
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)
    few: dict[str, NDArray[Any]] = field(default_factory=dict)

    @staticmethod
    def join(parts: Sequence[Judged]) -> Judged:
        """The units of several parts, one after another, before `Task.conclude` has chosen a few."""
        return Judged(
            np.concatenate([part.index for part in parts]),
            np.concatenate([part.score for part in parts]),
            {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns},
        )


@dataclass(frozen=True)
class Diagram:
    """One value against another over all units, in bins.

    Args:
        name: what is shown.
        x: mean of the one in each bin.
        y: mean of the other.
        count: units in each bin.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    count: tuple[int, ...]


@dataclass(frozen=True)
class Words:
    """What sentences call the two losses that all others are compared with, and what they say of them.

    Args:
        reference: the reference loss.
        rival: the rival loss.
        reference_short: the reference in a narrow column.
        rival_short: likewise the rival.
        tuned_rival: the rival with what is tuned of it.
        tie_break: the column that decides between equal scores.
        pull: what the pull of a loss is; see `Task.pull`.
        pull_axis: what it is drawn against.
    """

    reference: str = "cross-entropy"
    rival: str = "label smoothing"
    reference_short: str = "CE"
    rival_short: str = "LS"
    tuned_rival: str = "label smoothing with its epsilon tuned"
    tie_break: str = "cross-entropy"
    pull: str = (
        "its strictness, the pull on the true class's logit relative to cross-entropy's, against the probability given "
        "to the true class while the others share the rest evenly"
    )
    pull_axis: str = "probability of the true class"

    def fill(self, template: str) -> str:
        """A template with the words for ``{reference}`` and so on in place; its other gaps stay.

        A word is capitalised at the beginning of the template.
        """
        for gap, word in vars(self).items():
            if template.startswith(f"{{{gap}}}"):
                word = word[0].upper() + word[1:]
            template = template.replace(f"{{{gap}}}", word)
        return template


@dataclass(frozen=True)
class Raster:
    """A small picture of whole numbers: a mask or an image.

    Args:
        name: what is shown.
        shape: height, width, and values per pixel: 1 for a class, 3 for red, green and blue.
        data: the values, uint8 by rows, deflated, in base64.
    """

    name: str
    shape: tuple[int, int, int]
    data: str

    @classmethod
    def of(cls, name: str, values: NDArray[np.uint8]) -> Raster:
        """Pack values (h, w) or (h, w, 3)."""
        height, width, *rest = values.shape
        data = base64.b64encode(zlib.compress(np.ascontiguousarray(values).tobytes(), 9)).decode()
        return cls(name, (height, width, *(rest or [1])), data)

    @property
    def values(self) -> NDArray[np.uint8]:
        """The values (h, w, 1) or (h, w, 3).

        Raises:
            ValueError: if the data are not what the shape says.
        """
        size = self.shape[0] * self.shape[1] * self.shape[2]
        try:
            packed = base64.b64decode(self.data, validate=True)
            unpacked = zlib.decompressobj().decompress(packed, _MOST_VALUES)
        except (ValueError, zlib.error):
            unpacked = b""
        if min(self.shape) < 1 or len(unpacked) != size:
            raise ValueError(f"the picture {self.name!r} is damaged")
        return np.frombuffer(unpacked, np.uint8).reshape(self.shape)


class Counted(Protocol):
    """Examples whose classes have been counted."""

    @property
    def class_counts(self) -> Tensor:
        """How often each class occurs, int64 (C,); empty where there are none."""


@dataclass(frozen=True)
class Task(ABC):
    """What is scored, and how; a value that a plan holds.

    Args:
        metric: what losses are judged by: one of `metric_names`, whose first is the default, or a user's metric.

    Attributes:
        name: of the kind of task.
        reference: text form of the loss that all others are compared with.
        loss_kinds: the kinds of losses of the catalog that it trains with.
        sums: text forms of sums that a comparison tries besides the losses of the catalog.
        rival: text form of the tuned loss that explains many a gain over the reference, and must be beaten too.
        words: what sentences call the reference and the rival.
        metric_names: the metrics it offers.
        curve: names of the columns of a learning curve; of the first, higher is better.
        tie_break: the column that decides between equal scores; lower is better.
        sentences: what is said of each metric, column and fitted number, with a gap for the number.
    """

    metric: str = field(default="", kw_only=True)

    name: ClassVar[str]
    reference: ClassVar[str]
    loss_kinds: ClassVar[tuple[Kind, ...]]
    sums: ClassVar[tuple[str, ...]] = ()
    rival: ClassVar[str]
    words: ClassVar[Words] = Words()
    metric_names: ClassVar[tuple[str, ...]]
    curve: ClassVar[tuple[str, ...]]
    tie_break: ClassVar[str]
    sentences: ClassVar[Mapping[str, str]]

    def __post_init__(self) -> None:
        if not self.metric:
            object.__setattr__(self, "metric", self.metric_names[0])

    @classmethod
    @abstractmethod
    def of(cls, splits: Splits) -> Task:
        """The task of a data set that is ready for training."""

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Width of the model's last layer."""

    @property
    @abstractmethod
    def guess(self) -> float:
        """The best score in the metric that a prediction without a look at the inputs can have."""

    @property
    @abstractmethod
    def meaning(self) -> str:
        """What the metric is, in a few words."""

    @property
    def of_progress(self) -> Task:
        """The task in the metric that shows best whether a model has learned anything."""
        return self

    def is_imbalanced(self, splits: Counted) -> bool:
        """Whether the classes are of so different sizes that losses are compared with controls for that."""
        return False

    def usual_metric(self, splits: Counted) -> tuple[str, str]:
        """The metric that the data ask for, and the reason."""
        return self.metric_names[0], f"the usual metric of {self.name}"

    @abstractmethod
    def facts(self, splits: Splits) -> dict[str, Any]:
        """What a loss may want to know of the training targets: arguments of `lossmith.losses.Loss.bind`."""

    @abstractmethod
    def reference_values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean reference loss of each of M models, (M,).

        Args:
            outputs: of the models, (M, B, ...).
            targets: (M, B, ...).
        """

    @abstractmethod
    def curve_point(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The columns of `curve` for each of M models, float64 (len(curve), M); arguments as `reference_values`."""

    @abstractmethod
    def judge(self, outputs: Tensor, examples: Examples) -> Judged:
        """Judge a model's outputs (n, ...) on some examples of a part, batch by batch."""

    def conclude(self, valid: Judged, test: Judged | None) -> tuple[Judged, Judged | None, dict[str, float]]:
        """Finish what was judged once both parts are whole.

        Args:
            valid: the validation part.
            test: the test part, if it is scored.

        Returns:
            Both parts, and what was fitted on validation, by name.
        """
        return valid, test, {}

    @property
    @abstractmethod
    def pull_axis(self) -> Scores:
        """Where `pull` looks, float64 (k,)."""

    @abstractmethod
    def pull(self, loss: nn.Module) -> Scores:
        """How strongly a loss pulls on one prediction relative to the reference loss, float64 (k,).

        Args:
            loss: of this task's predictions and targets, with ``reduction="mean"``; a learned one is frozen first.
        """

    @abstractmethod
    def predictions(self, outputs: Tensor) -> NDArray[Any]:
        """What a model's outputs (n, ...) say, in the words or units of the data: (n, ...)."""

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Self:
        """The task with these fields, read from JSON."""
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**fields)

    @abstractmethod
    def metrics(self, judged: Judged) -> dict[str, float]:
        """The score of a whole part in every metric of the task, by name; a fraction, higher is better."""

    @abstractmethod
    def columns(self, judged: Judged) -> dict[str, float]:
        """What else is told of a whole part, by name."""

    def unit_scores(self, folds: Sequence[Sequence[Judged]], metric: str) -> list[Scores]:
        """Scores per unit whose mean over all folds is the metric, averaged over seeds.

        Where a metric is no mean over units, a score is the metric plus the unit's influence on it, so that the
        variance of the scores is that of the metric over test sets; see `lossmith.tasks.influence`.

        Args:
            folds: what was judged, by fold and seed; seeds share the units of their fold.
            metric: a name of `metrics`.

        Returns:
            One array (seeds, n) per fold.
        """
        return [np.stack([seed.score for seed in fold]) for fold in folds]

    @property
    @abstractmethod
    def summary(self) -> str:
        """What the task is, in a few words."""

    def told(self, numbers: Mapping[str, float]) -> str:
        """Metrics, columns and what was fitted, or those of them that are given, in words with units."""
        return ", ".join(text.format(numbers[name]) for name, text in self.sentences.items() if name in numbers)

    def loss_text(self, text: str) -> str:
        """The catalog's text form of a loss that the user named for this task."""
        return text

    def diagrams(self, judged: Sequence[Judged]) -> tuple[Diagram, ...]:
        """What a report draws of the test parts of several trainings."""
        return ()

    def originals(self, judged: Judged) -> tuple[Raster, ...]:
        """A few units of the test part as the data have them, for a report to show."""
        return ()

    def pictures(self, judged: Judged) -> tuple[Raster, ...]:
        """What a training made of the same units."""
        return ()

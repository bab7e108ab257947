"""Trained models as files, and back as predictors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lossmith.data import Encoding, Splits, encoding_of
from lossmith.tasks import TASKS, Classification, Segmentation, Task
from lossmith.trials.files import written_whole
from lossmith.trials.models import ModelError, build_model, canonical_model
from lossmith.trials.result import Series, TrialResult, series_from_bytes, series_to_bytes
from lossmith.trials.trial import Sources, Trial

_FILE: Final = "model.safetensors"
_SERIES: Final = "series.npz"
_DESCRIPTION: Final = "lossmith"
"""The entry of the file's metadata that says in JSON what trained the model and what it reads."""
_UNREADABLE: Final = (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError, BadZipFile)
_BATCH: Final = 256
_VALUES: Final = 2**20


@dataclass(frozen=True)
class Predictor:
    """A trained model together with the scaling of its inputs and the meaning of its outputs.

    Args:
        model: the model, on the CPU, in evaluation mode.
        encoding: how raw examples become its inputs, as learned from the training part.
        task: what its outputs are.
        label: name of the label column in training; ``None`` where the labels had none.
        drop: columns that were left out in training.
        image_size: the side in pixels to which images of files were brought; ``None`` for their own size.
    """

    model: nn.Module
    encoding: Encoding
    task: Task
    label: str | None = None
    drop: tuple[str, ...] = ()
    image_size: int | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their probabilities; empty for a regression."""
        return self.task.classes if isinstance(self.task, Classification | Segmentation) else ()

    def encode(self, examples: Any) -> Tensor:
        """The model's inputs for raw examples; arguments and errors as `predict`.

        Returns:
            float32 (n, d) or (n, c, h, w), or token numbers int64 (n, L).
        """
        return self.encoding.encode(self.encoding.read(examples))

    def predict(self, examples: Any) -> NDArray[Any]:
        """Predict for raw examples.

        Args:
            examples: n of them, as they were in the training data, nothing scaled. A table: the path of a CSV file, a
                dict or DataFrame of columns, or an array (n, d) in the order of the training columns; other columns
                are left aside. Images: an array (n, c, h, w), (n, h, w, c), or (n, h, w) for one channel. Texts: a
                sequence of strings.

        Returns:
            Class names (n,) for a classification, numbers (n,) in the label's unit for a regression, masks of class
            indices, uint8 (n, h, w), for a segmentation.

        Raises:
            ValueError: if the examples are not of the kind that the model was trained on.
        """
        return np.concatenate([self.task.predictions(outputs) for outputs in self._outputs(examples)])

    def probabilities(self, examples: Any) -> NDArray[np.float64]:
        """The probabilities of the classes, for a classification: the softmax of the model's outputs as trained.

        Args:
            examples: as `predict`.

        Returns:
            float64 (n, C), in the order of `class_names`.

        Raises:
            ValueError: as `predict`, or if the model is for another task.
        """
        if not isinstance(self.task, Classification):
            raise ModelError(f"the model is for {self.task.name}, which has no probabilities: leave them out")
        return np.concatenate([outputs.double().softmax(1).numpy() for outputs in self._outputs(examples)])

    def _outputs(self, examples: Any) -> Iterator[Tensor]:
        """What the model gives for raw examples, in batches."""
        inputs = self.encode(examples)
        rows = max(1, min(_BATCH, _VALUES // max(1, inputs[:1].numel())))  # large images a few at a time
        for part in inputs.split(rows):
            with torch.no_grad():
                outputs = self.model(part)
            yield outputs


def save_model(model: nn.Module, trial: Trial, splits: Splits, task: Task, folder: Path) -> None:
    """Write ``model.safetensors`` into a folder, for `load`; a file that is there is replaced whole.

    Args:
        model: the trained model, on the CPU.
        trial: what trained it.
        splits: what it was trained on.
        task: what scores it.
        folder: made if absent.
    """
    described = {
        "trial": json.loads(trial.json),
        "task": {"name": task.name, **asdict(task)},
        "inputs": splits.encoding.plain(),
    }
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    with written_whole(folder / _FILE) as place:
        save_file(weights, place, {_DESCRIPTION: json.dumps(described)})


def save_series(result: TrialResult, folder: Path) -> None:
    """Write what was measured in a training into ``series.npz`` of a folder, for `load_series`."""
    curves = {
        f"{part} {name}": Series(np.array(result.curve.steps), np.array(values))
        for part, columns in (("train", result.curve.train), ("valid", result.curve.valid))
        for name, values in columns.items()
    }
    with written_whole(folder / _SERIES) as place:
        place.write_bytes(series_to_bytes(result.series | curves))


def load_series(folder: Path) -> tuple[dict[str, Any], dict[str, Series]]:
    """Read what was measured in a training that ``lossmith train`` saved.

    Args:
        folder: where it was saved.

    Returns:
        ``"trial"`` and ``"task"`` as plain values; and the series by the texts of the probes. Learning curves are
        called ``"train NAME"`` and ``"valid NAME"``.

    Raises:
        ModelError: if the folder holds no such training, or nothing was measured; one sentence.
    """
    try:
        return _described(folder), series_from_bytes((folder / _SERIES).read_bytes())
    except FileNotFoundError:
        raise ModelError(
            f"{folder} holds no training with probes: give the folder of `lossmith train ... --probe sharpness`"
        ) from None
    except _UNREADABLE:
        raise ModelError(f"{folder / _SERIES} or {_FILE} beside it is damaged: train it anew") from None


def check_unused(folder: Path, trial: Trial) -> None:
    """Refuse a folder that holds the model of another trial.

    Raises:
        ModelError: if it does; one sentence.
    """
    if not (folder / _FILE).exists():
        return
    try:
        same = _described(folder)["trial"] == json.loads(trial.json)
    except _UNREADABLE:
        same = False
    if not same:
        raise ModelError(f"{folder} holds the model of another training: give --force to replace it, or another --out")


def _described(folder: Path) -> dict[str, Any]:
    """What was written beside the weights."""
    with safe_open(folder / _FILE, "pt") as file:
        described: dict[str, Any] = json.loads(file.metadata()[_DESCRIPTION])
    return described


def load(folder: str | Path, model: str | None = None) -> Predictor:
    """Load a model that ``lossmith train`` saved.

    Nothing is unpickled. A model from a user's own file runs that file only if it is named here, and only if it is
    unchanged.

    Args:
        folder: where it was saved.
        model: ``path/to/file.py:factory`` for a model that was trained from such a file; else ``None``.

    Returns:
        What predicts from raw examples.

    Raises:
        ValueError: if the folder holds no such model, or the model's file is missing or has changed; one sentence.
    """
    folder = Path(folder)
    try:
        described = _described(folder)
        text, of_task = described["trial"]["trainer"]["model"], dict(described["task"])
        encoding = encoding_of(described["inputs"])
        task = TASKS[of_task.pop("name")].from_plain(of_task)
        weights = load_file(folder / _FILE)
        data = described["trial"]["trainer"]["data"]
        read_as = {"label": data["label"], "drop": tuple(data["drop"]), "image_size": data["image_size"]}
    except FileNotFoundError:
        raise ModelError(f"{folder} holds no model that `lossmith train` saved: give the folder of one") from None
    except _UNREADABLE:
        raise ModelError(
            f"{folder / _FILE} is damaged, or holds no model that this version of `lossmith train` saved: train it anew"
        ) from None
    built = _build(text, model, encoding, task, folder)
    try:
        built.load_state_dict(weights)
    except RuntimeError:
        name = text.partition("#")[0]
        raise ModelError(f"the weights in {folder} are not those of the model {name}: train it anew") from None
    return Predictor(built.eval(), encoding, task, **read_as)


def reload_snippet(trial: Trial, splits: Splits, sources: Sources, folder: Path) -> str:
    """Python that loads a saved model and predicts with it."""
    model, _, digest = trial.ours.model.partition("#")
    named = f', model="{sources.code[digest]}:{model.rpartition(":")[2]}"' if digest else ""
    return f'import lossmith\npredictor = lossmith.load("{folder}"{named})\npredictor.predict({_EXAMPLES[splits.kind]}'


_EXAMPLES: Final = {
    "tabular": "table)  # raw rows: the path of a CSV file, or a dict or DataFrame of columns",
    "image": "images)  # raw pixels, as in the training data",
    "text": "texts)  # a list of strings",
}


def _build(text: str, given: str | None, encoding: Encoding, task: Task, folder: Path) -> nn.Module:
    sources = Sources()
    if "#" in text:
        if given is None:
            raise ModelError(
                f"the model in {folder} was built by {text.partition('#')[0]}, a file of your own that is not run "
                'unasked: name it by --model path/to/file.py:factory, or lossmith.load(folder, model="...")'
            )
        if canonical_model(given, sources) != text:
            raise ModelError(f"{given} is not what built the model in {folder}, or has changed since: restore the file")
    return build_model(text, encoding, task.outputs, sources, seed=0)

"""Predictions for the examples of a file: what ``lossmith predict`` does."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lossmith.data.errors import DataError, listed
from lossmith.data.unlabelled import Unlabelled, read_unlabelled
from lossmith.trials.files import written_whole
from lossmith.trials.saving import Predictor


@dataclass(frozen=True)
class Predictions:
    """Predictions in the form of a file.

    Args:
        content: CSV in UTF-8, or for masks an ``.npz`` archive.
        count: number of examples.
        notes: what a user should know of the examples.
    """

    content: bytes
    count: int
    notes: tuple[str, ...]


def predict_file(
    predictor: Predictor, data: Path, output: Path | None = None, *, probabilities: bool = False
) -> Predictions:
    """Predict for the examples of a file.

    The CSV has a row for each example, in their order: its ``file``, for images; ``prediction``; and, if asked for,
    ``p(NAME)`` for each class. Masks are the array ``masks`` of an archive.

    Args:
        predictor: the trained model.
        data: the examples; see `read_unlabelled`.
        output: a file to write, whole or not at all; masks need one that ends in ``.npz``.
        probabilities: whether the probabilities of the classes are given too.

    Returns:
        What was or would be written.

    Raises:
        ValueError: if the examples do not fit the model, or the predictions the file; one sentence.
    """
    of_masks = predictor.task.name == "segmentation"
    if of_masks and (output is None or output.suffix.lower() != ".npz"):
        raise DataError("the predictions are masks, which CSV cannot hold; write them by --output masks.npz.")
    if output is not None and output.exists() and data.exists() and output.samefile(data):
        raise DataError(f"{str(output)!r} holds the examples themselves; choose another --output.")
    found = read_unlabelled(data, predictor.encoding, predictor.image_size)
    predicted = predictor.predict(found.examples)
    chances = predictor.probabilities(found.examples) if probabilities else None
    content = _archive(predicted) if of_masks else _csv(predictor, found, predicted, chances)
    if output is not None:
        with written_whole(output) as place:
            place.write_bytes(content)
    expected = {predictor.label, *predictor.drop}
    unused = [name for name in found.unused if name not in expected]
    note = f"the model was not trained with the columns {listed(unused)}, which are not used"
    return Predictions(content, len(predicted), (note,) if unused else ())


def _archive(masks: np.ndarray) -> bytes:
    archive = io.BytesIO()
    np.savez_compressed(archive, masks=masks)
    return archive.getvalue()


def _csv(predictor: Predictor, found: Unlabelled, predicted: np.ndarray, chances: np.ndarray | None) -> bytes:
    columns = {"file": list(found.files)} if found.files else {}
    numbers = predicted.dtype.kind == "f"
    columns["prediction"] = [f"{value:.9g}" if numbers else str(value) for value in predicted]
    if chances is not None:
        for name, column in zip(predictor.class_names, chances.T, strict=True):
            columns[f"p({name})"] = [f"{value:.6g}" for value in column]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue().encode()

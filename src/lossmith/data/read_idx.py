"""Images from MNIST-style idx files, plain or packed."""

from __future__ import annotations

import struct
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lossmith.data.dataset import Dataset, TaskName
from lossmith.data.errors import DataError
from lossmith.data.files import FileSet, read_bytes
from lossmith.data.targets import read_array

UNSIGNED_BYTE = 0x08


def read_idx(files: FileSet, task: TaskName | None = None) -> Dataset:
    """Read grey images and their labels: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-...`."""
    images, labels = [], []
    for image_path, label_path in zip(files.paths[::2], files.paths[1::2], strict=True):
        images.append(read_idx_array(image_path, rank=3))
        labels.append(read_idx_array(label_path, rank=1))
        if len(images[-1]) != len(labels[-1]):
            raise DataError(
                f"{image_path.name!r} has {len(images[-1]):,} images but {label_path.name!r} has"
                f" {len(labels[-1]):,} labels; give files that belong together."
            )
        if images[-1].shape[1:] != images[0].shape[1:]:
            raise DataError(
                f"{image_path.name!r} and {files.paths[0].name!r} hold images of different sizes"
                f" ({images[-1].shape[1:]} and {images[0].shape[1:]}); give files that belong together."
            )
    sizes = [len(each) for each in labels]
    what = f"the label file {files.paths[1].name!r}"
    targets = read_array(np.concatenate(labels), task, what, lambda row: f"example {row}")
    part = None if files.parts is None else np.repeat(np.array(files.parts[1::2], np.int8), sizes)
    return Dataset(
        files.name,
        files.digest(),
        "image",
        np.concatenate(images)[:, None],
        targets.values,
        targets.class_names,
        part,
        task=targets.task,
        notes=targets.notes,
    )


def read_idx_array(path: Path, rank: int) -> NDArray[np.uint8]:
    """Read one array: two zero bytes, type, rank, sizes as big-endian 32-bit integers, then the bytes."""
    content = read_bytes(path)
    start = 4 + 4 * rank
    if content[:4] != bytes((0, 0, UNSIGNED_BYTE, rank)):
        raise DataError(
            f"the file {str(path)!r} begins with {content[:4].hex() or 'nothing'} and not with 0000080{rank},"
            f" the mark of {rank}-dimensional idx data of bytes; give an idx{rank}-ubyte file."
        )
    if len(content) < start:
        raise DataError(f"the file {str(path)!r} ends inside its header; it is truncated, so fetch it again.")
    shape = struct.unpack(f">{rank}I", content[4:start])
    if len(content) - start != prod(shape):
        raise DataError(
            f"the file {str(path)!r} holds {len(content) - start:,} bytes of data where its header announces"
            f" {prod(shape):,}; it is truncated or damaged, so fetch it again."
        )
    if prod(shape) == 0:
        raise DataError(f"the file {str(path)!r} holds no examples; give one that does.")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)

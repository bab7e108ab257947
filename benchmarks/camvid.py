"""Make `camvid.npz` of the packed CamVid set: ``python benchmarks/camvid.py FOLDER OUT.npz [WIDTH HEIGHT]``.

Needs Pillow. What matters for masks of your own: images are averaged when they are made smaller, masks are not, and the
value of pixels to ignore is stored beside them.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image


def convert(folder: Path, out: Path, size: tuple[int, int]) -> None:
    """Write the official training, validation and test parts.

    Args:
        folder: holds train.npz, val.npz and test.npz.
        out: the file to write.
        size: width and height in pixels.
    """
    arrays = {}
    for part in ("train", "val", "test"):
        packed = np.load(folder / f"{part}.npz")
        files = np.split(packed["webp"], packed["offsets"][1:-1])
        images = [Image.open(io.BytesIO(file.tobytes())).convert("RGB") for file in files]
        masks = [Image.fromarray(mask) for mask in packed["masks"]]
        arrays[f"x_{part}"] = np.stack([np.asarray(each.resize(size, Image.Resampling.BOX)) for each in images])
        arrays[f"y_{part}"] = np.stack([np.asarray(each.resize(size, Image.Resampling.NEAREST)) for each in masks])
        arrays["class_names"], arrays["ignore_index"] = packed["class_names"], packed["ignore_index"]
    np.savez_compressed(out, allow_pickle=False, **arrays)


if __name__ == "__main__":
    width, height = map(int, sys.argv[3:5] or (96, 72))
    convert(Path(sys.argv[1]), Path(sys.argv[2]), (width, height))

"""Make two tables of classes of the California housing data: ``python benchmarks/california.py IN.csv[.gz] FOLDER``.

``housing.csv`` holds 8,000 blocks with the quarter of their median house value (column ``price_quarter``), and
``cheap.csv`` all blocks, and whether they are in the highest quarter (column ``expensive``). Both are used
in `docs/evolve.md`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

PRICE = "medianHouseValue"
QUARTERS = ("lowest", "low", "high", "highest")
BLOCKS = 8000


def convert(source: Path, folder: Path) -> None:
    """Write both tables.

    Args:
        source: the data of Pace and Barry (1997) as CSV, with a column ``medianHouseValue``.
        folder: where the tables go.
    """
    blocks = pd.read_csv(source, dtype=str)  # the numbers stay as they are written
    price = blocks.pop(PRICE).astype(float)
    quarter = np.searchsorted(np.quantile(price, [0.25, 0.5, 0.75]), price, side="right")
    rows = np.random.default_rng(0).permutation(len(blocks))[:BLOCKS]
    some = blocks.iloc[rows].assign(price_quarter=np.array(QUARTERS)[quarter[rows]])
    some.to_csv(folder / "housing.csv", index=False)
    rows = np.random.default_rng(1).permutation(len(blocks))
    every = blocks.iloc[rows].assign(expensive=np.where(quarter[rows] == 3, "yes", "no"))
    every.to_csv(folder / "cheap.csv", index=False)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))

"""Tables from openml.org, fetched and kept by scikit-learn."""

from __future__ import annotations

import hashlib
import warnings
from typing import Any, Final

import numpy as np

from lossmith.data.cells import Cells, Table
from lossmith.data.errors import DataError

PREFIX: Final = "openml:"


def fetch_openml(source: str) -> tuple[Table, str, str, tuple[str, ...]]:
    """Fetch a data set of OpenML, or take it from scikit-learn's cache (SCIKIT_LEARN_DATA).

    Args:
        source: "openml:NAME" for the oldest active version, "openml:NAME/VERSION", or "openml:ID".

    Returns:
        The table without the columns that OpenML says to ignore, the data set's name, its digest, and what to tell.

    Raises:
        DataError: If it cannot be had.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise DataError(
            f"{source!r} is fetched by scikit-learn, which is not installed; pip install 'lossmith[compare]'."
        ) from error
    name, _, version = source.removeprefix(PREFIX).partition("/")
    asked: dict[str, Any] = {"data_id": int(name)} if name.isdecimal() and not version else {"name": name}
    if version:
        if not version.isdecimal() or not int(version):
            raise DataError(f"{source!r} asks for the version {version!r}; give a number, such as openml:{name}/1.")
        asked["version"] = int(version)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of several versions: the one that is read is told below
            bunch: Any = datasets.fetch_openml(
                **asked, target_column=None, as_frame=False, parser="liac-arff", n_retries=1
            )
    except Exception as error:  # the network, OpenML's answer and its ARFF files fail in many ways
        reason = " ".join(str(error).split()).partition(". ")[0].rstrip(".") or type(error).__name__
        raise DataError(f"the data set {source!r} cannot be had ({reason}); check its name and the network.") from error
    values = bunch.data if isinstance(bunch.data, np.ndarray) else bunch.data.toarray()
    columns = {name: _cells(values[:, j], bunch.categories.get(name)) for j, name in enumerate(bunch.feature_names)}
    details = bunch.details
    label = details.get("default_target_attribute")
    table = Table(columns, (source,), (len(values),), label if label in columns else None)
    told = f"{source} is OpenML's data set {details['id']}, {details['name']}, version {details['version']}"
    return table, details["name"], _digest(table), (told,)


def _cells(values: Any, categories: list[str] | None) -> Cells:
    """A column of OpenML's: numbers, or the categories that they stand for."""
    if categories is None:
        return np.asarray(values, np.float64)
    return ["" if value != value else str(categories[int(value)]) for value in values]


def _digest(table: Table) -> str:
    total = hashlib.sha256()
    for name, cells in table.columns.items():
        total.update(f"{name}\n".encode())
        total.update(cells.tobytes() if isinstance(cells, np.ndarray) else repr(list(cells)).encode())
    return f"sha256:{total.hexdigest()}"

"""The data side of a trial: read a data set, choose its rows, and turn them into tensors.

`load_dataset` reads a bundled set or files into a `Dataset`; a `DataSpec` says which of its examples a trial
sees; `make_splits` turns both into the `Splits` that a training consumes. A mistake in the data or the request raises a
`DataError`: one sentence that names the problem and the fix.
"""

from typing import TYPE_CHECKING, Any

from lossmith.data.bundled import BUNDLED
from lossmith.data.dataset import Column, Dataset, TaskName
from lossmith.data.errors import DataError
from lossmith.data.load import load_dataset
from lossmith.data.spec import CleanSet, DataSpec

if TYPE_CHECKING:
    from lossmith.data.splits import IGNORED, Encoding, Examples, Splits, encoding_of, make_splits

__all__ = [
    "BUNDLED",
    "IGNORED",
    "CleanSet",
    "Column",
    "DataError",
    "DataSpec",
    "Dataset",
    "Encoding",
    "Examples",
    "Splits",
    "TaskName",
    "encoding_of",
    "load_dataset",
    "make_splits",
]


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is first asked for: a data set can be read, and refused, without it."""
    if name in __all__:
        from lossmith.data import splits

        return getattr(splits, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

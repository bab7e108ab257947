"""The data side of a trial: read a data set, choose its rows, and turn them into tensors.

`load_dataset` reads a bundled set or files into a `Dataset`; a `DataSpec` says which of its examples a trial
sees; `build_task` makes the `Task` that a training consumes.  Whatever is wrong with the data or the request
ends in a `DataError`: one sentence that names the thing and the mend.
"""

from lossmith.data.bundled import BUNDLED
from lossmith.data.dataset import Column, Dataset
from lossmith.data.errors import DataError
from lossmith.data.load import load_dataset
from lossmith.data.spec import CleanSet, DataSpec
from lossmith.data.task import Examples, Task, build_task

__all__ = [
    "BUNDLED",
    "CleanSet",
    "Column",
    "DataError",
    "DataSpec",
    "Dataset",
    "Examples",
    "Task",
    "build_task",
    "load_dataset",
]

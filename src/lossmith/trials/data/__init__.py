"""The data side of a trial: read a data set, choose its rows, and turn them into tensors.

`load_dataset` reads a bundled set or files into a `Dataset`; a `DataSpec` says which of its examples a trial
sees; `build_task` makes the `Task` that a training consumes.  Whatever is wrong with the data or the request
ends in a `DataError`: one sentence that names the thing and the mend.
"""

from lossmith.trials.data.bundled import BUNDLED
from lossmith.trials.data.dataset import Column, Dataset
from lossmith.trials.data.errors import DataError
from lossmith.trials.data.load import load_dataset
from lossmith.trials.data.spec import CleanSet, DataSpec
from lossmith.trials.data.task import Examples, Task, build_task

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

"""What a training is scored by: all that differs between classification, regression and other tasks.

Trials, comparison and report know a `Task` and nothing of what its targets mean.
"""

from lossmith.tasks.choose import TASKS, task_for
from lossmith.tasks.classification import Classification
from lossmith.tasks.metrics import FEW_UNITS, OF_CLASSES, MetricError, OwnMetric, metric_said, metric_title
from lossmith.tasks.regression import Regression
from lossmith.tasks.segmentation import Segmentation
from lossmith.tasks.task import Diagram, Judged, Raster, Task, Words

__all__ = [
    "FEW_UNITS",
    "OF_CLASSES",
    "TASKS",
    "Classification",
    "Diagram",
    "Judged",
    "MetricError",
    "OwnMetric",
    "Raster",
    "Regression",
    "Segmentation",
    "Task",
    "Words",
    "metric_said",
    "metric_title",
    "task_for",
]

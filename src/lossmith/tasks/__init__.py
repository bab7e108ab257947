"""What a training is scored by: all that differs between classification, regression and other tasks.

Trials, comparison and report know a `Task` and nothing of what its targets mean.
"""

from lossmith.tasks.choose import TASKS, task_for
from lossmith.tasks.classification import Classification
from lossmith.tasks.metrics import FEW_UNITS, OF_CLASSES, MetricError, OwnMetric, metric_said, metric_title
from lossmith.tasks.regression import Regression
from lossmith.tasks.scored import ScoredClassification, ScoredPixels, ScoredRegression
from lossmith.tasks.segmentation import Segmentation, best_constant
from lossmith.tasks.task import Counted, Diagram, Judged, Raster, Task, Words

__all__ = [
    "FEW_UNITS",
    "OF_CLASSES",
    "TASKS",
    "Classification",
    "Counted",
    "Diagram",
    "Judged",
    "MetricError",
    "OwnMetric",
    "Raster",
    "Regression",
    "ScoredClassification",
    "ScoredPixels",
    "ScoredRegression",
    "Segmentation",
    "Task",
    "Words",
    "best_constant",
    "metric_said",
    "metric_title",
    "task_for",
]

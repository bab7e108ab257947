"""A comparison in MLflow; needs ``pip install lossmith[mlflow]``."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import Any, Final

from lossmith.integrations.tracked import Tracked, Training, found, said
from lossmith.trials.options import RequestError

_RESULTS: Final = "lossmith.results"
_PARENT: Final = "mlflow.parentRunId"
_AT_ONCE: Final = 1000  # metrics that a server takes in one call
_LONGEST: Final = 5000  # characters of a value that every store takes


def log_runs(tracked: Tracked, uri: str | None = None) -> str:
    """Log a comparison as a run of MLflow, once.

    The run holds the plan, headline, recommendation and the files of the run folder. Below it lies a run for each loss
    with its score, differences with intervals and verdict, and below that one for each final training with its
    settings, learning curves and scores. The experiment has the name of the data. A comparison with the same results
    that is there already is left alone.

    Args:
        tracked: the comparison.
        uri: of the tracking store, such as ``sqlite:///mlflow.db``; ``None``: what MLflow is set to.

    Returns:
        The identifier of the comparison's run.

    Raises:
        RequestError: if MLflow is not installed or refuses; one sentence.
    """
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError:
        raise RequestError("mlflow is not installed: pip install 'lossmith[mlflow]'") from None
    try:
        return _Log(MlflowClient(uri), tracked).write()
    except MlflowException as error:
        raise RequestError(f"mlflow refuses: {str(error).splitlines()[0]}") from error


class _Log:
    def __init__(self, client: Any, tracked: Tracked) -> None:
        self.client = client
        self.tracked = tracked
        name = tracked.run.design.name
        known = client.get_experiment_by_name(name)
        self.experiment = client.create_experiment(name) if known is None else known.experiment_id

    def write(self) -> str:
        """Log what is not there yet; the comparison is marked with its results once it is complete."""
        run, client = self.tracked.run, self.client
        digest = hashlib.sha256((run.folder / "summary.json").read_bytes()).hexdigest()
        there = client.search_runs([self.experiment], f"tags.`{_RESULTS}` = '{digest}'", max_results=1)
        if there:
            return str(there[0].info.run_id)
        tags = {"headline": run.results.headline, "recommendation": run.results.recommendation}
        top = self._run(run.folder.resolve().name, None, self.tracked.params, {}, tags)
        for row in run.results.rows:
            tags = {"verdict": said(row), "kind": row.kind, "role": row.role}
            of_loss = self._run(row.name, top, {"loss": row.loss}, found(row), tags)
            for training in self.tracked.trainings[row.name]:
                self._training(training, of_loss)
            client.set_terminated(of_loss)
        for file in self.tracked.artifacts:
            client.log_artifact(top, str(file))
        client.set_tag(top, _RESULTS, digest)
        client.set_terminated(top)
        return top

    def _training(self, training: Training, parent: str) -> None:
        from mlflow.entities import Metric

        run, now = self._run(training.name, parent, training.params, training.scores, {}), _now()
        points = [Metric(name, v, now, step) for name, of in training.curves.items() for step, v in of]
        for start in range(0, len(points), _AT_ONCE):
            self.client.log_batch(run, metrics=points[start : start + _AT_ONCE])
        self.client.set_terminated(run)

    def _run(
        self,
        name: str,
        parent: str | None,
        params: Mapping[str, str],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
    ) -> str:
        """Log a run that is to be ended; returns its identifier."""
        from mlflow.entities import Metric, Param

        below = {} if parent is None else {_PARENT: parent}
        shortened = {key: value[:_LONGEST] for key, value in tags.items()}
        run = str(self.client.create_run(self.experiment, run_name=name, tags=shortened | below).info.run_id)
        now = _now()
        self.client.log_batch(
            run,
            metrics=[Metric(key, value, now, 0) for key, value in metrics.items()],
            params=[Param(key, value[:_LONGEST]) for key, value in params.items()],
        )
        return run


def _now() -> int:
    return int(1000 * time.time())

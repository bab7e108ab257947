"""`lossmith.compare`: the comparison of losses as a Python function."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.console import Console
from torch import nn

from lossmith.comparison.files import RUNS
from lossmith.comparison.options import Options
from lossmith.comparison.prepared import Prepared, prepare
from lossmith.comparison.rows import Row, Summary
from lossmith.progress import ConsoleProgress, NotebookProgress, RunProgress, in_notebook
from lossmith.report import numbers
from lossmith.report.announcement import announcement
from lossmith.report.run import Run, load_run
from lossmith.trials.executors.machines import machines
from lossmith.trials.files import written_whole
from lossmith.trials.given import Given, given
from lossmith.trials.options import ExecutorName, RequestError, check_limits
from lossmith.trials.user_code import in_user_code
from lossmith.trials.wording import worded

if TYPE_CHECKING:
    import pandas as pd

    from lossmith.report.saved_figure import SavedFigure


def compare(
    data: Any = "digits",
    *,
    model: str | Callable[..., nn.Module] | None = None,
    losses: str | Sequence[str] | None = None,
    metric: str | Callable[..., Any] | None = None,
    minutes: float | None = None,
    out: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    executor: ExecutorName = "local",
    address: str | None = None,
    time_limit: float | None = None,
    name: str | None = None,
    progress: bool = True,
    **options: Any,
) -> Comparison:
    """Compare losses fairly on your data and model, as `lossmith compare` does.

    The same call resumes a comparison that was interrupted; repeated, it trains nothing twice. A script needs no
    ``if __name__ == "__main__":``, for workers do not run it again.

    Args:
        data: a bundled data set, a path, ``"openml:NAME"`` or ``"hf:OWNER/NAME"``; a DataFrame, whose label column
            ``label=`` names; arrays or tensors ``(X, y)``, X being a table, images or a sequence of texts; a dict of
            arrays ``x_train``, ``y_train``, ``x_test``, ``y_test``; a map-style `torch.utils.data.Dataset`; a tuple
            (train, test) or (train, valid, test) of any of these; or a training function of your own.
        model: its text form, such as ``"mlp:width=64"`` or ``"net.py:make"``; or a class or function that is called
            with the shape of an input and the number of outputs, and gives a `torch.nn.Module`.
        losses: text forms, see ``lossmith list``; ``None``: the whole catalog.
        metric: its name, ``"path/to/file.py:function"``, or a function of labels and probabilities.
        minutes: leave out what does not fit into this time; ``None``: as long as it takes.
        out: the run folder; ``None``: ``runs/DATA-MODEL-PLAN``. Data and functions in memory are kept beside it, in
            the folder ``in_memory``.
        workers: trainings at once; ``None``: one per core, or per GPU; 0: one, in this process.
        executor: ``"local"``, or ``"ray"`` or ``"dask"`` for the workers of a cluster.
        address: of the cluster; ``None``: the one that this process is connected to, else that of ``RAY_ADDRESS`` or
            ``DASK_SCHEDULER_ADDRESS``, else a new one on this machine.
        time_limit: seconds after which a training counts as failed; ``None`` for no limit.
        name: the name of data in memory, for reports and files.
        progress: whether to show what will be done and how far it has come, in a notebook below the cell, else on
            standard error.
        **options: other fields of `lossmith.comparison.options.Options`, such as ``label="outcome"`` and ``folds=3``.

    Returns:
        What was found.

    Raises:
        ValueError: if data, model, a loss or an option is invalid; the message is one sentence.
        TypeError: if there is no such option.
        RuntimeError: if trainings of the reference loss fail.
        KeyboardInterrupt: on Ctrl-C; what was trained is kept, and the message says how much.
    """
    if in_user_code():
        raise RequestError(
            'lossmith.compare is called while its file is imported: put it under if __name__ == "__main__":'
        )
    folder = None if out is None else Path(out)
    chosen = options | {"model": model, "losses": losses, "metric": metric}
    asked = given(Options, data, chosen, folder.parent if folder else RUNS, name)
    with worded(asked.stored), contextlib.ExitStack() as stack:
        try:
            check_limits(minutes=minutes, workers=workers, time_limit=time_limit)
            request = Options(**asked.options)
            here = stack.enter_context(machines(executor, address, workers, request.device))
            prepared = prepare(request, here, minutes=minutes, out=folder)
        except BaseException:
            asked.discard()
            raise
        shown = stack.enter_context(_shown(prepared, asked) if progress else RunProgress())
        try:
            prepared.carry_out(time_limit=time_limit, progress=shown)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"Stopped. {shown.kept}") from None
    notes = (*asked.notes, *prepared.plan.notes, *prepared.cuts)
    return Comparison(load_run(prepared.folder), asked.said(notes))


def _shown(prepared: Prepared, asked: Given) -> RunProgress:
    """What shows the progress, after what is to be said of the comparison."""
    expected = prepared.estimate() if prepared.summary is None else None
    said = announcement(prepared.plan, prepared.folder)
    said += [f"note: {note}" for note in (*prepared.machines.notes, *asked.notes, *prepared.cuts)]
    said = list(asked.said(said))
    if expected is not None and expected.trainings:
        said.append(str(expected))
    if in_notebook():
        return NotebookProgress(said, expected)
    console = Console(stderr=True)
    for line in said:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return ConsoleProgress(console, expected, again="call")


class Comparison:
    """What a comparison found.

    Attributes:
        run: the run folder as it was read.
        notes: what a user should know of how the data were read and what was chosen.
    """

    def __init__(self, run: Run, notes: Sequence[str] = ()) -> None:
        self.run, self.notes = run, tuple(notes)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Comparison:
        """What a finished run folder holds, whoever made it.

        Raises:
            ValueError: if there is no finished comparison in it; one sentence.
        """
        return cls(load_run(Path(folder)))

    def __repr__(self) -> str:
        return f"{self.headline}\n{self.recommendation}\nFolder: {self.folder}"

    def _repr_html_(self) -> str:
        from lossmith.report.notebook import notebook_html  # matplotlib is slow to import

        return notebook_html(self.run)

    @property
    def folder(self) -> Path:
        """The run folder, with ``results.csv``, ``runs.csv``, ``plan.toml`` and ``summary.json``."""
        return self.run.folder

    @property
    def results(self) -> Summary:
        """All that was found, as plain values."""
        return self.run.results

    @property
    def headline(self) -> str:
        """What was found, in a sentence or two."""
        return self.results.headline

    @property
    def recommendation(self) -> str:
        """Which loss to take by the validation data, in a sentence, fixed before the test part was scored."""
        return self.results.recommendation

    @property
    def verdicts(self) -> dict[str, str]:
        """For each loss, the best first, what is to be said of it, in a sentence."""
        return {row.name: _verdict(row) for row in self.results.rows}

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row for each loss, the best first; scores and differences are fractions, missing numbers NaN.

        Its columns are rank, loss, control, score on test, difference from the reference with its 95 % interval (low,
        high), Holm-adjusted p, verdict in a word, mde (the difference that would have been found four times in five),
        the median of the learning rates that were chosen, the number of trainings for that, and the task's own numbers.

        Raises:
            ImportError: without pandas; ``pip install lossmith[notebook]`` installs it.
        """
        try:
            import pandas as pd
        except ImportError:
            raise ImportError("table is a DataFrame and needs pandas: pip install lossmith[notebook]") from None

        table = pd.DataFrame([_columns(row) for row in self.results.rows])
        return table.astype({"rank": "Int64", "trainings": "int64"})

    def figure(self, name: str = "differences") -> SavedFigure:
        """A picture of the report, which a notebook shows and ``figure.save(path)`` writes as SVG or PNG.

        Args:
            name: which one: ``"differences"``, ``"curves"``, ``"rates"``, ``"budget"``, ``"shapes"``, or one that only
                some comparisons have.

        Raises:
            ValueError: if the comparison has no such picture; the message lists those it has.
        """
        from lossmith.report.figures import figure  # matplotlib is slow to import

        return figure(self.run, name)

    def report(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write the report, a page of HTML that opens offline.

        Args:
            path: the file; ``None``: ``report.html`` in the run folder.

        Returns:
            The file.
        """
        from lossmith.report.page import render, write_report  # matplotlib is slow to import

        if path is None:
            return write_report(self.run)
        with written_whole(Path(path)) as place:
            place.write_text(render(self.run), encoding="utf-8", newline="")
        return Path(path)


def _columns(row: Row) -> dict[str, Any]:
    gap = row.against_reference or numbers.NO_GAP
    low, high = gap.interval or (None, None)
    gaps = {"difference": gap.mean, "low": low, "high": high, "p": gap.holm_p}
    own = {name: value for name, value in row.columns.items() if name not in gaps}
    lrs = list(map(float, row.tuning.lrs))
    return {
        "rank": row.rank,
        "loss": row.name,
        "control": row.role == "control",
        "score": float(row.score),
        **{key: _number(value) for key, value in gaps.items()},
        "verdict": row.kind,
        "mde": _number(gap.mde),
        "learning_rate": median(lrs) if lrs else math.nan,
        "trainings": row.tuning.trainings,
        **{key: _number(value) for key, value in own.items()},
    }


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _verdict(row: Row) -> str:
    return row.verdict if row.untrained is None else f"{row.verdict.rstrip('.')}: {row.untrained}."

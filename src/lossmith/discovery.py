"""`lossmith.evolve`: the search for a loss as a Python function."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from torch import nn

from lossmith.catalog import create
from lossmith.comparison.files import RUNS
from lossmith.comparison.plan import write_plan
from lossmith.evolution.hall_csv import hall_of_fame_csv
from lossmith.evolution.options import SearchOptions
from lossmith.evolution.plan import make_search_plan
from lossmith.evolution.session import carry_out_search
from lossmith.losses.loss import Loss
from lossmith.report.evolution.live import SearchDisplay
from lossmith.report.evolution.page import write_search_report
from lossmith.report.evolution.search_run import SearchRun, load_search
from lossmith.trials.executors.machines import machines
from lossmith.trials.given import given
from lossmith.trials.options import ExecutorName, RequestError, check_limits
from lossmith.trials.trial import Sources
from lossmith.trials.user_code import in_user_code
from lossmith.trials.wording import worded

if TYPE_CHECKING:
    import pandas as pd


def evolve(
    data: Any = "digits",
    *,
    model: str | Callable[..., nn.Module] | None = None,
    out: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    executor: ExecutorName = "local",
    address: str | None = None,
    time_limit: float | None = None,
    name: str | None = None,
    progress: bool = True,
    **options: Any,
) -> Discovery:
    """Discover a loss for your data by genetic programming, as `lossmith evolve` does.

    The same call resumes a search that was interrupted; repeated, it trains nothing twice. A script needs no
    ``if __name__ == "__main__":``, for workers do not run it again.

    Args:
        data: as in `lossmith.compare`: a name, a path, or data in memory.
        model: as in `lossmith.compare`.
        out: the run folder; ``None``: ``runs/evolve-DATA-MODEL-PLAN``. Data and functions in memory are kept beside
            it, in the folder ``in_memory``.
        workers: trainings at once; ``None``: one per core, or per GPU; 0: one, in this process.
        executor: ``"local"``, or ``"ray"`` or ``"dask"`` for the workers of a cluster.
        address: of the cluster; ``None``: the one that this process is connected to, else that of ``RAY_ADDRESS`` or
            ``DASK_SCHEDULER_ADDRESS``, else a new one on this machine.
        time_limit: seconds after which a training counts as failed; ``None`` for no limit.
        name: the name of data in memory, for reports and files.
        progress: whether to show how far the search has come, on standard error.
        **options: other fields of `lossmith.evolution.options.SearchOptions`, such as ``label="outcome"`` and
            ``minutes=5``.

    Returns:
        What was found.

    Raises:
        ValueError: if data, model or an option is invalid; the message is one sentence.
        TypeError: if there is no such option.
        RuntimeError: if cross-entropy, or every loss found, fails to train.
        KeyboardInterrupt: on Ctrl-C; what was found so far is in the run folder.
    """
    if in_user_code():
        raise RequestError(
            'lossmith.evolve is called while its file is imported: put it under if __name__ == "__main__":'
        )
    sources, runs = Sources(), RUNS if out is None else Path(out).parent
    asked = given(SearchOptions, data, options | {"model": model}, runs, name)
    try:
        with worded(asked.stored):
            check_limits(workers=workers, time_limit=time_limit)
            plan = make_search_plan(SearchOptions(**asked.options), sources)
    except BaseException:
        asked.discard()
        raise
    folder = RUNS / plan.folder if out is None else Path(out)
    write_plan(plan, folder)
    display = SearchDisplay(Console(stderr=True, quiet=not progress))
    with worded(asked.stored), machines(executor, address, workers, plan.device) as here, display:
        for note in (*asked.notes, *here.notes) if progress else ():
            display.console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
        carry_out_search(
            plan,
            sources,
            folder,
            workers=here.workers,
            time_limit=time_limit,
            watcher=display,
            make_executor=here.make_executor,
        )
    return Discovery(load_search(folder))


class Discovery:
    """What a search found.

    Attributes:
        run: the run folder as it was read.
    """

    def __init__(self, run: SearchRun) -> None:
        self.run = run

    def __repr__(self) -> str:
        return f"{self.run.found.verdict}\nWinner: {self.run.found.winner}\nFolder: {self.run.folder}"

    @property
    def best(self) -> Loss:
        """The loss that was chosen, a `torch.nn.Module`."""
        return create(self.run.found.winner)

    @property
    def verdict(self) -> str:
        """What the comparison on examples that the search never saw says of it."""
        return self.run.found.verdict

    @cached_property
    def hall_of_fame(self) -> pd.DataFrame:
        """The best losses of both searches, the best first, with score, complexity and formula.

        Raises:
            ImportError: without pandas; ``pip install lossmith[notebook]`` installs it.
        """
        try:
            import pandas as pd
        except ImportError:
            raise ImportError("hall_of_fame is a DataFrame and needs pandas: pip install lossmith[notebook]") from None

        return pd.read_csv(io.StringIO(hall_of_fame_csv(self.run.found.searches)))

    def report(self) -> Path:
        """Write the page ``report.html`` into the run folder, and return its path."""
        return write_search_report(self.run)

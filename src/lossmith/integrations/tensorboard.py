"""A comparison in TensorBoard; needs ``pip install lossmith[tensorboard]``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from lossmith.integrations.tracked import Tracked, said
from lossmith.report.numbers import decimals, gap, percent
from lossmith.trials.options import RequestError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def write_events(tracked: Tracked, folder: Path) -> None:
    """Write a comparison as TensorBoard's event files, in place of those it wrote before.

    Each final training is a run with its learning curves and, under HPARAMS, its settings and scores. A run
    ``comparison`` holds headline, recommendation and verdicts as text.

    Args:
        tracked: the comparison.
        folder: where the runs go, each in a folder of its own.

    Raises:
        RequestError: if TensorBoard is not installed.
    """
    try:
        import tensorboard  # noqa: F401  # torch tells of its absence in other words
    except ImportError:
        raise RequestError("tensorboard is not installed: pip install 'lossmith[tensorboard]'") from None
    with _writer(folder / "comparison") as writer:
        writer.add_text("results", _markdown(tracked))
    for loss, trainings in tracked.trainings.items():
        for training in trainings:
            named = f"fold {training.params['fold']} repeat {training.params['repeat']}"
            with _writer(folder / _file_name(loss) / _file_name(named)) as writer:
                for name, points in training.curves.items():
                    for step, value in points:
                        writer.add_scalar(name, value, step)
                scores = {f"test/{name}": value for name, value in training.scores.items()}
                writer.add_hparams(training.params, scores, run_name=".")


def _writer(folder: Path) -> SummaryWriter:
    """Writes into an empty folder of events, for TensorBoard would show those of before beside the new ones."""
    from torch.utils.tensorboard import SummaryWriter

    for file in folder.glob("events.out.tfevents.*"):
        file.unlink()
    return SummaryWriter(str(folder))


def _markdown(tracked: Tracked) -> str:
    results = tracked.run.results
    lines = [results.headline, "", results.noise, "", results.recommendation, ""]
    lines += ["| loss | score | minus the reference, with 95 % interval | verdict |", "|---|---|---|---|"]
    digits = decimals(results.rows)
    for row in results.rows:
        cells = (row.name, percent(row.score, digits), gap(row.against_reference, digits), said(row))
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join(lines)


def _file_name(name: str) -> str:
    """A name for a folder on every system; TensorBoard shows it as the name of the run."""
    return re.sub(r"[^\w=,.+()@-]+", "_", name)

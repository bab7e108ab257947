"""Whether a folder is that of a finished run; without torch, so that a mistake shows at once."""

from __future__ import annotations

from pathlib import Path

from lossmith.report.reading import clean


class RunError(ValueError):
    """A folder that is not that of a finished run; the message is one sentence that names it and the fix."""


def find_run(folder: Path) -> tuple[Path, Path]:
    """The plan and the summary of a finished run.

    Args:
        folder: the run folder.

    Returns:
        The files ``plan.toml`` and ``summary.json``.

    Raises:
        RunError: if the folder is not that of a finished run, or cannot be read.
    """
    shown = clean(str(folder))
    plan, summary = folder / "plan.toml", folder / "summary.json"
    try:
        if not folder.is_dir():
            raise RunError(f"{shown} is not a folder: give the run folder that `lossmith compare` printed")
        names = {file.name for file in folder.iterdir()}
    except OSError as error:
        raise RunError(
            f"{shown} cannot be read ({error.strerror}): make it readable, or give another run folder"
        ) from None
    if plan.name not in names:
        raise RunError(f"{shown} is not a run folder, it holds no plan.toml: give one that `lossmith compare` wrote")
    if "selftest.json" in names:
        raise RunError(f"{shown} holds a self-test: run the same `lossmith selftest` command again to print it")
    if summary.name not in names:
        raise RunError(
            f"the run in {shown} is not finished, it holds no summary.json: run the same `lossmith compare` command "
            "again to finish it"
        )
    return plan, summary

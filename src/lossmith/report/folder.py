"""Whether a folder is that of a finished run; without torch, so that a mistake shows at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lossmith.evolution.findings import FILE
from lossmith.report.reading import clean

COMPARISON: Final = "summary.json"
SEARCH: Final = FILE
"""What the results of a run are called, by its kind."""


class RunError(ValueError):
    """A folder that is not that of a finished run; the message is one sentence that names it and the fix."""


def find_run(folder: Path, *kinds: str) -> tuple[Path, Path]:
    """The plan and the results of a finished run.

    Args:
        folder: the run folder.
        *kinds: which kinds of results are wanted, `COMPARISON` or `SEARCH`; none given: either.

    Returns:
        The file ``plan.toml``, and ``summary.json`` of a comparison or ``evolution.json`` of a search.

    Raises:
        RunError: if the folder is not that of a finished run of such a kind, or cannot be read.
    """
    shown = clean(str(folder))
    try:
        if not folder.is_dir():
            raise RunError(f"{shown} is not a folder: give the run folder that `lossmith compare` or `evolve` printed")
        names = {file.name for file in folder.iterdir()}
    except OSError as error:
        raise RunError(
            f"{shown} cannot be read ({error.strerror}): make it readable, or give another run folder"
        ) from None
    if "plan.toml" not in names:
        raise RunError(
            f"{shown} is not a run folder, it holds no plan.toml: give one that `lossmith compare` or `evolve` wrote"
        )
    if "selftest.json" in names:
        raise RunError(f"{shown} holds a self-test: run the same `lossmith selftest` command again to print it")
    for kind in kinds or (COMPARISON, SEARCH):
        if kind in names:
            return folder / "plan.toml", folder / kind
    wanted = " or ".join(kinds or (COMPARISON, SEARCH))
    raise RunError(
        f"the run in {shown} is not finished, it holds no {wanted}: run the same `lossmith` command again to finish it"
    )


@contextmanager
def refusing(file: Path) -> Iterator[None]:
    """Turn whatever is wrong with a file of a run folder into one sentence."""
    try:
        yield
    except RunError:
        raise
    except OSError as error:
        raise RunError(
            f"{clean(str(file))} cannot be read ({error.strerror}): make it readable, or give another run folder"
        ) from None
    except (ValueError, RecursionError) as error:
        raise RunError(
            f"{clean(str(file))} is damaged ({clean(str(error))}): delete it and run the same `lossmith` command again"
        ) from None

"""Metrics from a user's own file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossmith.tasks import OwnMetric
from lossmith.trials.trial import Sources
from lossmith.trials.user_code import UserCodeError, file_of, guarded, line_in, load_function


def own_metric(text: str, sources: Sources) -> OwnMetric:
    """A user's metric, whose faults are told with file and line.

    Args:
        text: what `canonical_function` returned.
        sources: where its file lies.

    Returns:
        The metric. Its function raises `UserCodeError` if the user's one fails, changes the working directory, or
        returns neither a finite number nor one for each example.

    Raises:
        UserCodeError: if the function cannot be had.
    """
    name, _, digest = text.partition("#")
    function = load_function(text, "metric", sources)
    return OwnMetric(text, function=checked_metric(function, name, file_of(function, sources.code[digest])))


def checked_metric(
    function: Callable[..., Any], name: str, path: str
) -> Callable[[NDArray[np.int64], NDArray[np.float64]], NDArray[np.float64]]:
    """A metric that returns finite numbers or raises `UserCodeError`.

    Args:
        function: the user's one.
        name: what it is called in sentences.
        path: the file where it stands.
    """
    what, at = f"the metric {name}", line_in(path, function)

    def checked(label: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        with guarded(what, path, at):
            returned = function(label.copy(), probabilities.copy())
            found = np.asarray(returned)
        fault = _fault(returned, found, len(label))
        if fault is not None:
            raise UserCodeError(
                f"{what}{at}: it returned {fault} for {len(label)} examples; return a finite number, or one for each "
                "example"
            )
        return found.astype(np.float64)

    return checked


def _fault(returned: object, found: NDArray[Any], examples: int) -> str | None:
    """What a metric returned, if that will not do."""
    if returned is None:
        return "None"
    if found.dtype.kind not in "biuf":
        kind = "complex numbers" if found.dtype.kind == "c" else f"a {type(returned).__name__}"
        return f"{kind}, not real numbers,"
    if found.shape not in {(), (examples,)}:
        return f"an array of the shape {found.shape}"
    if not np.isfinite(found).all():
        return "a number that is not finite" if found.shape == () else "numbers that are not finite"
    return None

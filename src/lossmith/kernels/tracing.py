"""What `torch.compile` must not look into."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def constant_when_compiled(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Have `torch.compile` call the function once, while tracing, and take its result for a constant.

    As `torch.compiler.assume_constant_result`, which imports the compiler, a second and more, as soon as it is used.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function

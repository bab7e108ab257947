"""Functions and classes that a Python program holds, as texts that options, trials and workers take."""

from __future__ import annotations

import contextlib
import functools
import re
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from lossmith.trials.fingerprint import fingerprint, is_by_value
from lossmith.trials.models import ModelError
from lossmith.trials.user_code import UserCodeError, write_kept


def code_text(function: Callable[..., Any], what: str, folder: Path) -> str:
    """The text of a function or class.

    One of a module of the user's own that stands alone becomes ``path/to/file.py:name``, as on the command line. Any
    other, such as one of a notebook or of the script that runs, a closure or a lambda, is kept by value, with the
    functions and values that it refers to. Its hash is the same whenever these are, and so are its trials'.

    Args:
        function: the function or class.
        what: what it is for, such as ``"model"``.
        folder: where functions are kept by value.

    Returns:
        What `canonical_function` takes.

    Raises:
        UserCodeError: if it cannot be kept; one sentence.
    """
    if isinstance(function, nn.Module):
        raise ModelError(
            f"the {what} is a module itself, a {type(function).__name__}: give its class, or a function that makes "
            "one, so that each training begins with weights of its own"
        )
    name = re.sub(r"\W+", "", getattr(function, "__name__", "") or _inner_name(function))
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    if isinstance(function, types.FunctionType | type) and not is_by_value(function) and name == function.__qualname__:
        found = fingerprint(function).modules
        if module in found and not module.__package__ and str(module.__file__).endswith(".py"):
            return f"{module.__file__}:{name}"
    try:
        import cloudpickle
    except ImportError:
        raise UserCodeError(
            f"the {what} {name} is of a notebook or script, and is kept by cloudpickle, which is not installed: "
            "pip install 'lossmith[notebook]', or write it into a .py file of its own"
        ) from None
    try:
        known = fingerprint(function)
        with _by_value(known.modules):
            content = cloudpickle.dumps(function)
    except Exception as error:  # whatever a user's object raises when it is pickled
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserCodeError(
            f"the {what} {name} cannot be sent to workers ({said}): make what it needs inside it, or write it into a "
            ".py file of its own"
        ) from None
    return write_kept(name, known.digest, content, folder)


def _inner_name(function: Any) -> str:
    """What to call something without a name: a partial by its function."""
    return (
        _inner_name(function.func)
        if isinstance(function, functools.partial)
        else getattr(function, "__name__", type(function).__name__)
    )


@contextlib.contextmanager
def _by_value(modules: Sequence[types.ModuleType]) -> Iterator[None]:
    """The user's own modules travel too: a worker elsewhere does not have them."""
    import cloudpickle

    registered = [each for each in modules if each.__name__ not in cloudpickle.list_registry_pickle_by_value()]
    for module in registered:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in registered:
            cloudpickle.unregister_pickle_by_value(module)

"""Lossmith finds the loss function that trains your model best, and proves it.

>>> import lossmith
>>> loss = lossmith.create("rooted:k=3")  # a drop-in for torch.nn.CrossEntropyLoss
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossmith import learned, losses
    from lossmith.catalog import available, create
    from lossmith.comparing import compare
    from lossmith.discovery import evolve
    from lossmith.properties.scale import match_scale
    from lossmith.trials.saving import load

    __version__: str

__all__ = ["available", "compare", "create", "evolve", "learned", "load", "losses", "match_scale"]

_HOMES = {
    "available": "lossmith.catalog",
    "compare": "lossmith.comparing",
    "create": "lossmith.catalog",
    "evolve": "lossmith.discovery",
    "load": "lossmith.trials.saving",
    "match_scale": "lossmith.properties.scale",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first asked for: the command line says what it can say without torch."""
    if name in {"learned", "losses"}:
        return import_module(f"lossmith.{name}")
    if name == "__version__":
        from importlib.metadata import version  # slower to import than all else that this module needs

        return version("lossmith")
    if name in _HOMES:
        return getattr(_module(name), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _module(name: str) -> ModuleType:
    """The module that is home to a name."""
    try:
        return import_module(_HOMES[name])
    except ModuleNotFoundError:
        from lossmith.extras import what_is_missing

        missing = what_is_missing(f"lossmith.{name}", "compare")
        if missing is None:
            raise
        raise ImportError(missing) from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

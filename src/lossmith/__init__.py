"""Lossmith finds the loss function that trains your model best, and proves it.

>>> import lossmith
>>> loss = lossmith.create("rooted:k=3")  # a drop-in for torch.nn.CrossEntropyLoss
"""

from importlib import import_module
from importlib.metadata import version
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
        return version("lossmith")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

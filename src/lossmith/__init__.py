"""Lossmith finds the loss function that trains your model best, and proves it.

>>> import lossmith
>>> loss = lossmith.create("rooted:k=3")  # a drop-in for torch.nn.CrossEntropyLoss
"""

from typing import TYPE_CHECKING, Any

from lossmith import learned, losses
from lossmith.catalog import available, create
from lossmith.properties.scale import match_scale

if TYPE_CHECKING:
    from lossmith.trials.saving import load

__all__ = ["available", "create", "learned", "load", "losses", "match_scale"]


def __getattr__(name: str) -> Any:
    """Import what needs more than torch when it is first asked for."""
    if name == "load":
        from lossmith.trials.saving import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

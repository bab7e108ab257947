"""The papers' experiments with the controls the papers lacked."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lossmith.studies.bench import Bench
    from lossmith.studies.findings import Findings

STUDIES: Final = {"spirals": "spirals", "rooted-linear": "rooted_linear", "dynamical-cnn": "dynamical_cnn"}
"""The studies of `lossmith study`, and the module of each, whose function ``study`` carries it out."""


def find_study(name: str) -> Callable[[Bench], Findings]:
    """The study of that name.

    Raises:
        ValueError: if there is none; the message is one sentence.
    """
    if name not in STUDIES:
        raise ValueError(f"there is no study {name!r}: choose one of {', '.join(STUDIES)}")
    found: Callable[[Bench], Findings] = import_module(f"lossmith.studies.{STUDIES[name]}").study
    return found

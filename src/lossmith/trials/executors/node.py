"""What happens on a node of a cluster."""

from __future__ import annotations

import functools
import importlib
import platform
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

import torch

from lossmith.trials.executors.cluster import ClusterError
from lossmith.trials.executors.local import set_up_process
from lossmith.trials.ledger import training_code

_NEEDED: Final = "lossmith.trials.runner"
_NO_IMPORT: Final = re.compile(r"(?:ModuleNotFound|Import)Error: (.+)")


@dataclass(frozen=True)
class Software:
    """What decides the bits of a result besides the trial.

    Args:
        torch: version.
        lossmith: version.
        code: SHA-256 of what of lossmith trains.
        processor: kind of processor, and the vector instructions that torch uses.
    """

    torch: str
    lossmith: str
    code: str
    processor: str


def software() -> Software:
    """The software of this process."""
    return _software()


@functools.cache
def _software() -> Software:
    importlib.import_module(_NEEDED)  # a node that lacks a package of lossmith's is told of now
    processor = f"{platform.machine()} with {torch.backends.cpu.get_cpu_capability()}"
    return Software(torch.__version__, version("lossmith"), training_code(), processor)


def fault_of(there: Software, node: str, here: Software) -> str | None:
    """Why a node cannot be used beside the machine of the driver, in a sentence; ``None`` if it can."""
    for name in ("torch", "lossmith"):
        own, other = getattr(here, name), getattr(there, name)
        if own != other:
            return (
                f"the node {node} has {name} {other} and this machine {own}: install one version on all, for results "
                "would not be the same"
            )
    if here.code != there.code:
        return (
            f"the code of lossmith {there.lossmith} on the node {node} differs from that on this machine: install the "
            "same on both, for results would not be the same"
        )
    return None


def no_import(error: str, node: str) -> str:
    """A sentence about a node on which lossmith cannot be imported, from the error's text."""
    found = _NO_IMPORT.findall(error)
    reason = found[-1] if found else next(iter(error.strip().splitlines()[::-1]), "")
    return (
        f"the node {node} cannot import lossmith ({reason}): install lossmith[compare] {version('lossmith')} there, "
        "as on this machine"
    )


def check(nodes: Mapping[str, Software | BaseException]) -> tuple[str, ...]:
    """Compare the software of nodes with that of this machine.

    Args:
        nodes: by name, what `software` gave or raised there.

    Returns:
        What a user should know, in sentences.

    Raises:
        ClusterError: if a node cannot be used; one sentence.
    """
    for node, there in nodes.items():
        fault = no_import(_told(there), node) if isinstance(there, BaseException) else fault_of(there, node, software())
        if fault is not None:
            raise ClusterError(fault)
    others = sorted(_processors(nodes.values()) - {software().processor})
    if not others:
        return ()
    return (
        f"processors differ ({software().processor} here, {', '.join(others)} there): the last digits of results "
        "depend on which node trains",
    )


def compute(driver: Software, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function as all workers do, in a process that has the driver's software."""
    _prepare(driver)
    return function(*arguments)


@functools.cache
def _prepare(driver: Software) -> None:
    fault = fault_of(software(), platform.node(), driver)
    if fault is not None:  # of a node that came after `check`
        raise ClusterError(fault)
    set_up_process()


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _processors(found: Iterable[Software | BaseException]) -> set[str]:
    return {there.processor for there in found if isinstance(there, Software)}

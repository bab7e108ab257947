"""Bounds of a formula's derivatives, as the fits take them."""

from __future__ import annotations

from lossmith.formulas import parse
from lossmith.kernels.fitting import Enclosure
from lossmith.losses import fused


def enclosure(text: str) -> Enclosure:
    """Of a formula in p."""
    return fused._enclosure(parse(text))

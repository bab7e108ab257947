"""How models are called: with a tensor, several tensors, or tensors by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor


def call(module: Callable[..., Any], inputs: Any) -> Tensor:
    """Call a model.

    Args:
        module: returns its outputs, or an object with ``.logits``.
        inputs: a tensor, a tuple of positional arguments or a mapping of keyword arguments.

    Returns:
        The outputs.
    """
    if isinstance(inputs, Tensor):
        output = module(inputs)
    elif isinstance(inputs, Mapping):
        output = module(**inputs)
    else:
        output = module(*inputs)
    logits: Tensor = output if isinstance(output, Tensor) else output.logits
    return logits

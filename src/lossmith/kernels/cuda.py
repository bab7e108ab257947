"""Find the kernels for a graphics card; where they do not run, say so by None."""

from __future__ import annotations

import functools
import logging
import time
from types import ModuleType

import torch
from torch import Tensor

from lossmith.kernels.tracing import constant_when_compiled

_log = logging.getLogger("lossmith")


def kernels_for(logits: Tensor) -> ModuleType | None:
    """`lossmith.kernels.triton_rows`, where it serves these logits: float32 on CUDA, classes side by side in memory."""
    if logits.device.type != "cuda" or logits.dtype != torch.float32 or logits.stride(1) != 1:
        return None
    return _tried(logits.device.index)


@constant_when_compiled
def has_kernels(device: int) -> bool:
    """Whether the kernels run on the CUDA device of this number."""
    return _tried(device) is not None


@functools.cache
def _tried(device: int) -> ModuleType | None:
    """The kernels, after a row of two classes; how long that took, their compilation included, is logged."""
    try:
        from lossmith.kernels import triton_rows
    except ImportError:
        _log.info("no triton: on CUDA, losses run in plain torch")
        return None
    began = time.perf_counter()
    try:
        triton_rows.try_on(torch.device("cuda", device))
    except Exception as error:  # a card too old, no C compiler, a full disk: Triton has an exception for each
        _log.warning("triton does not run on cuda:%d, losses run in plain torch: %s", device, error)
        return None
    _log.info("triton runs on cuda:%d; its first kernel took %.1f s", device, time.perf_counter() - began)
    return triton_rows

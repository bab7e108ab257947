"""Statistics of every row of logits in one fused pass, and their gradient in a second.

Nothing of the size of the logits is kept for the backward pass but the logits themselves: the softmax is computed
again. On the CPU two compiled kernels do it (`rows.cpp`, which has the formulas), on CUDA two Triton kernels
(`triton_rows`); where neither runs, chunks of rows in plain torch.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, NoReturn

import torch
from torch import Tensor

from lossmith.kernels.batch import NOTHING, STATE, Batch, Polynomial
from lossmith.kernels.chunks import backward_in_chunks, forward_in_chunks
from lossmith.kernels.compiler import Polynomials, library
from lossmith.kernels.cuda import has_kernels, kernels_for
from lossmith.kernels.threads import in_parallel
from lossmith.kernels.tracing import constant_when_compiled

SMALLEST: Final = 1 << 17
"""Logits with fewer elements are left to plain torch: there, what a call costs is counted in operations."""
_FIRST_ONLY: Final = (
    "the fused path has first derivatives only, in reverse mode: for others make the loss with "
    "implementation='reference'"
)


class RowTerms(NamedTuple):
    """What the two fused passes give, one value a row, shape (N,); differentiable once but for `top`.

    Attributes:
        c: cross-entropy of the target, ``-log p_target``; 0 where it is ignored.
        odds: ``log(p_top / (1 - p_top))`` of the class with the largest logit, float64.
        others: the sum of the polynomial over all classes but the target and the top class; 0 without polynomial.
        top: the class with the largest logit, int64.
    """

    c: Tensor
    odds: Tensor
    others: Tensor
    top: Tensor


def fuses(logits: Tensor, *, with_others: bool) -> bool:
    """Whether `row_terms` serves these logits and is worth it.

    It serves float32 on the CPU and, where Triton runs, on CUDA, shape (N, C) with the classes side by side in memory,
    131,072 elements or more, outside of `torch.func` transformations, which need derivatives of every kind. Without a
    sum over the other classes (``with_others``) and without a compiler, `torch.nn.functional.cross_entropy` is as good.
    """
    if logits.numel() < SMALLEST or logits.dim() != 2 or logits.dtype != torch.float32 or logits.stride(1) != 1:
        return False
    if logits.shape[1] < 2 or not _outside_of_transformations():
        return False
    if logits.device.type == "cuda":
        return has_kernels(logits.device.index)
    return logits.device.type == "cpu" and (with_others or _has_library())


def row_terms(logits: Tensor, target: Tensor, ignore_index: int, polynomial: Polynomial = NOTHING) -> RowTerms:
    """The fused passes, as one differentiable operation that keeps nothing but its results and the logits.

    The logits (N, C) are float32, C >= 2, with the classes side by side in memory; without a polynomial nothing is
    summed over the classes that are neither target nor top.

    Raises:
        IndexError: if a target is out of range; on CUDA, as in torch, a device-side assertion.
        RuntimeError: if a second derivative or a forward-mode one is asked for.
    """
    # The registered operation is what torch.compile can trace; the plain function costs 0.3 ms less a call.
    apply: Callable[..., Any] = _row_terms if torch.compiler.is_compiling() else _RowTerms.apply
    c, odds, others, top, _ = apply(logits, target, ignore_index, polynomial.packed())
    return RowTerms(c, odds, others, top)


@constant_when_compiled
def _has_library() -> bool:
    return library() is not None


def _outside_of_transformations() -> bool:
    return torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is None


def _first_pass(
    logits: Tensor, target: Tensor, ignore_index: int, polynomial: list[float]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return forward(Batch(logits, target, ignore_index, Polynomial.unpacked(polynomial)))


def forward(batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The first pass: the fields of `RowTerms`, and what the second pass needs to know, shape (N, 6).

    Raises:
        IndexError: if a target is out of range.
    """
    logits = batch.logits
    kernels = kernels_for(logits)
    if kernels is not None:
        return kernels.forward(batch, _empty(logits))  # type: ignore[no-any-return]
    compiled = _library_for(logits)
    if compiled is None:
        return forward_in_chunks(batch)
    made = _empty(logits)
    compiled_forward, polynomials = compiled.lossmith_forward, Polynomials.of(batch.polynomial)
    target = batch.target.contiguous()
    rows, classes = logits.shape

    def run(first: int, last: int) -> int:
        part = slice(first, last)
        row = torch.empty(classes if batch.polynomial.slope else 0)
        found: int = compiled_forward(
            *(logits[part].data_ptr(), target[part].data_ptr(), batch.ignore_index),
            *(last - first, classes, logits.stride(0), ctypes.byref(polynomials)),
            *(of[part].data_ptr() for of in made),
            row.data_ptr(),
        )
        return -1 if found < 0 else first + found

    bad = max(in_parallel(run, rows))
    if bad >= 0:
        raise IndexError(f"Target {int(target[bad])} is out of bounds.")
    return made


_row_terms = torch.library.custom_op("lossmith::row_terms", _first_pass, mutates_args=())


@_row_terms.register_fake
def _(logits: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _empty(logits)


def _second_pass(
    logits: Tensor,
    target: Tensor,
    ignore_index: int,
    polynomial: list[float],
    top: Tensor,
    state: Tensor,
    gradients: list[Tensor],
) -> Tensor:
    made = torch.empty_like(logits, memory_format=torch.contiguous_format)
    backward(Batch(logits, target, ignore_index, Polynomial.unpacked(polynomial)), top, state, gradients, made)
    return made


_row_terms_backward = torch.library.custom_op("lossmith::row_terms_backward", _second_pass, mutates_args=())


@_row_terms_backward.register_fake
def _(logits: Tensor, *_: object) -> Tensor:
    return logits.new_empty(logits.shape)


def backward(batch: Batch, top: Tensor, state: Tensor, gradients: Sequence[Tensor], made: Tensor) -> None:
    """The second pass: the logits' gradient, written to ``made``, contiguous, which may be the logits themselves.

    ``top`` and ``state`` are the first pass's; ``gradients`` are those of c, odds and others, float32 (N,).
    """
    logits = batch.logits
    kernels = kernels_for(logits)
    if kernels is not None:
        kernels.backward(batch, top, state, gradients, made)
        return
    compiled = _library_for(logits)
    if compiled is None:
        backward_in_chunks(batch, top, state, gradients, made)
        return
    compiled_backward, polynomials = compiled.lossmith_backward, Polynomials.of(batch.polynomial)
    target, gradients = batch.target.contiguous(), [gradient.contiguous() for gradient in gradients]
    rows, classes = logits.shape

    def run(first: int, last: int) -> int:
        part = slice(first, last)
        compiled_backward(
            *(logits[part].data_ptr(), target[part].data_ptr(), batch.ignore_index),
            *(last - first, classes, logits.stride(0), ctypes.byref(polynomials)),
            *(top[part].data_ptr(), state[part].data_ptr()),
            *(gradient[part].data_ptr() for gradient in gradients),
            made[part].data_ptr(),
        )
        return -1

    in_parallel(run, rows)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    logits, target, ctx.ignore_index, ctx.polynomial = inputs
    top, state = output[3:]
    ctx.mark_non_differentiable(top, state)
    ctx.save_for_backward(logits, target, top, state)


def _backward(ctx: Any, gradients: tuple[Tensor, ...], compute: Callable[..., Tensor]) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled():
        raise RuntimeError(_FIRST_ONLY)
    logits, target, top, state = ctx.saved_tensors
    of_rows = [gradient.to(logits.dtype) for gradient in gradients[:3]]
    made = compute(logits, target, ctx.ignore_index, ctx.polynomial, top, state, of_rows)
    return made, None, None, None


_row_terms.register_autograd(
    lambda ctx, *gradients: _backward(ctx, gradients, _row_terms_backward), setup_context=_keep
)


def _refuse_tangents(ctx: Any, *_: Any) -> NoReturn:
    raise RuntimeError(_FIRST_ONLY)


class _RowTerms(torch.autograd.Function):
    forward = staticmethod(_first_pass)
    setup_context = staticmethod(_keep)
    backward = staticmethod(lambda ctx, *gradients: _backward(ctx, gradients, _second_pass))
    jvp = staticmethod(_refuse_tangents)


def _library_for(logits: Tensor) -> ctypes.CDLL | None:
    served = logits.device.type == "cpu" and logits.dtype == torch.float32 and logits.stride(1) == 1
    return library() if served else None


def _empty(logits: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    rows = logits.shape[0]
    odds, top = (logits.new_empty(rows, dtype=dtype) for dtype in (torch.float64, torch.int64))
    return logits.new_empty(rows), odds, logits.new_empty(rows), top, logits.new_empty(rows, STATE)

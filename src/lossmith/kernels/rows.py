"""Statistics of every row of logits in one fused pass, and their gradient in a second.

Nothing of the size of the logits is kept for the backward pass but the logits themselves: the softmax is computed
again. On the CPU two compiled kernels do it (`rows.cpp`, which has the formulas), on CUDA two Triton kernels
(`triton_rows`); where neither runs, chunks of rows in plain torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from lossmith.kernels.cards import has_kernels, kernels_for
from lossmith.kernels.chunks import backward_in_chunks, forward_in_chunks
from lossmith.kernels.compiler import library
from lossmith.kernels.compiling import constant_when_compiled
from lossmith.kernels.threads import in_parallel

SMALLEST: Final = 1 << 17
"""Logits with fewer elements are left to plain torch: there, what a call costs is counted in operations."""
STATE: Final = 5  # floats a row that the backward pass needs; see `Row` in rows.cpp


class Polynomial(NamedTuple):
    """The part ``f(p) - f(0)`` of a function on probabilities 0 <= p <= 1/2, as polynomials in ``u = 4 p - 1``.

    Attributes:
        value: coefficients, from the constant up, of ``(f(p) - f(0)) / p``.
        slope: coefficients of ``f'(p)``; `value` is its antiderivative, so that value and gradient agree.
        error: certified: on all of [0, 1/2] neither polynomial, evaluated in float32, is off by more. Since
            probabilities sum to 1, a sum over any number of classes is off by no more either.
    """

    value: tuple[float, ...]
    slope: tuple[float, ...]
    error: float


class RowTerms(NamedTuple):
    """What the two fused passes give, one value a row, shape (N,); differentiable once but for `top`.

    Attributes:
        c: cross-entropy of the target, ``-log p_target``; 0 where it is ignored.
        c_top: ``-log p_top`` of the class with the largest logit.
        d_top: ``-log(1 - p_top)``, precise where p_top is close to 1.
        others: ``sum_j f(p_j) - f(0)`` over all classes but the target and the top class; 0 without polynomial.
        top: the class with the largest logit, int64.
    """

    c: Tensor
    c_top: Tensor
    d_top: Tensor
    others: Tensor
    top: Tensor


def fuses(logits: Tensor, *, with_others: bool) -> bool:
    """Whether `row_terms` serves these logits and is worth it.

    It serves float32 on the CPU and, where Triton runs, on CUDA, shape (N, C) with the classes side by side in memory,
    131,072 elements or more, outside of `torch.func` transformations, which need derivatives of every kind.

    Args:
        logits: the logits.
        with_others: whether a polynomial would be summed over the classes; without one, and without a compiler,
            `torch.nn.functional.cross_entropy` is as good.
    """
    if logits.dim() != 2 or logits.dtype != torch.float32 or logits.stride(1) != 1:
        return False
    if logits.shape[1] < 2 or logits.numel() < SMALLEST or not _outside_of_transformations():
        return False
    if logits.device.type == "cuda":
        return has_kernels(logits.device.index)
    return logits.device.type == "cpu" and (with_others or _has_library())


def row_terms(logits: Tensor, target: Tensor, ignore_index: int, polynomial: Polynomial | None = None) -> RowTerms:
    """The fused passes, as one differentiable operation.

    Args:
        logits: shape (N, C), float32, C >= 2, classes side by side in memory.
        target: class indices, shape (N,), int64.
        ignore_index: the label of rows without target.
        polynomial: of the function to sum over the classes that are neither target nor top; None: no sum.

    Returns:
        The terms; nothing but them and the logits is kept for the backward pass.

    Raises:
        IndexError: if a target is out of range; on CUDA, as in torch, a device-side assertion.
        RuntimeError: if a second derivative is asked for.
    """
    value, slope = ((), ()) if polynomial is None else (polynomial.value, polynomial.slope)
    # The registered operation is what torch.compile can trace; the plain function costs 0.3 ms less a call.
    apply: Callable[..., Any] = _row_terms if torch.compiler.is_compiling() else _RowTerms.apply
    c, c_top, d_top, others, top, _ = apply(logits, target, ignore_index, list(value), list(slope))
    return RowTerms(c, c_top, d_top, others, top)


def _for_library(logits: Tensor) -> bool:
    return logits.device.type == "cpu" and logits.dtype == torch.float32 and logits.stride(1) == 1


@constant_when_compiled
def _has_library() -> bool:
    return library() is not None


def _outside_of_transformations() -> bool:
    return torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is None


@torch.library.custom_op("lossmith::row_terms", mutates_args=())
def _row_terms(
    logits: Tensor, target: Tensor, ignore_index: int, value: list[float], slope: list[float]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return forward(logits, target, ignore_index, value, slope)


def forward(
    logits: Tensor, target: Tensor, ignore_index: int, value: Sequence[float] = (), slope: Sequence[float] = ()
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The first pass: the fields of `RowTerms`, and what the second pass needs to know, shape (N, 5).

    Raises:
        IndexError: if a target is out of range.
    """
    kernels = kernels_for(logits)
    if kernels is not None:
        return kernels.forward(logits, target, ignore_index, value, slope, _empty(logits))  # type: ignore[no-any-return]
    compiled = library() if _for_library(logits) else None
    polynomials = [torch.tensor(of, dtype=logits.dtype, device=logits.device) for of in (value, slope)]
    if compiled is None:
        return forward_in_chunks(logits, target, ignore_index, *polynomials)
    made = _empty(logits)
    target = target.contiguous()
    rows, classes = logits.shape
    compiled_forward = compiled.lossmith_forward

    def run(first: int, last: int) -> int:
        part = slice(first, last)
        row = torch.empty(classes if value else 0)
        found: int = compiled_forward(
            *(logits[part].data_ptr(), target[part].data_ptr(), ignore_index),
            *(last - first, classes, logits.stride(0), len(slope) - 1),
            *(of.data_ptr() for of in polynomials),
            *(of[part].data_ptr() for of in made),
            row.data_ptr(),
        )
        return -1 if found < 0 else first + found

    bad = max(in_parallel(run, rows))
    if bad >= 0:
        raise IndexError(f"Target {int(target[bad])} is out of bounds.")
    return made


@_row_terms.register_fake
def _(
    logits: Tensor, target: Tensor, ignore_index: int, value: list[float], slope: list[float]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    del target, ignore_index, value, slope
    return _empty(logits)


@torch.library.custom_op("lossmith::row_terms_backward", mutates_args=())
def _row_terms_backward(
    logits: Tensor,
    target: Tensor,
    ignore_index: int,
    slope: list[float],
    top: Tensor,
    state: Tensor,
    gradients: list[Tensor],
) -> Tensor:
    return _gradient(logits, target, ignore_index, slope, top, state, gradients)


def _gradient(
    logits: Tensor,
    target: Tensor,
    ignore_index: int,
    slope: Sequence[float],
    top: Tensor,
    state: Tensor,
    gradients: Sequence[Tensor],
) -> Tensor:
    made = torch.empty_like(logits, memory_format=torch.contiguous_format)
    backward(logits, target, ignore_index, slope, top, state, gradients, made)
    return made


def backward(
    logits: Tensor,
    target: Tensor,
    ignore_index: int,
    slope: Sequence[float],
    top: Tensor,
    state: Tensor,
    gradients: Sequence[Tensor],
    made: Tensor,
) -> None:
    """The second pass: the logits' gradient.

    Args:
        logits: as in the first pass.
        target: as in the first pass.
        ignore_index: as in the first pass.
        slope: as in the first pass.
        top: from the first pass.
        state: from the first pass.
        gradients: the gradients with respect to c, c_top, d_top and others, each of shape (N,).
        made: where it is written, contiguous; may be the logits themselves.
    """
    kernels = kernels_for(logits)
    if kernels is not None:
        kernels.backward(logits, target, ignore_index, slope, top, state, gradients, made)
        return
    compiled = library() if _for_library(logits) else None
    polynomial = torch.tensor(slope, dtype=logits.dtype, device=logits.device)
    if compiled is None:
        backward_in_chunks(logits, target, ignore_index, polynomial, top, state, gradients, made)
        return
    target, gradients = target.contiguous(), [gradient.contiguous() for gradient in gradients]
    rows, classes = logits.shape
    compiled_backward = compiled.lossmith_backward

    def run(first: int, last: int) -> int:
        part = slice(first, last)
        compiled_backward(
            *(logits[part].data_ptr(), target[part].data_ptr(), ignore_index),
            *(last - first, classes, logits.stride(0), len(slope) - 1),
            *(polynomial.data_ptr(), top[part].data_ptr(), state[part].data_ptr()),
            *(gradient[part].data_ptr() for gradient in gradients),
            made[part].data_ptr(),
        )
        return -1

    in_parallel(run, rows)


@_row_terms_backward.register_fake
def _(
    logits: Tensor,
    target: Tensor,
    ignore_index: int,
    slope: list[float],
    top: Tensor,
    state: Tensor,
    gradients: list[Tensor],
) -> Tensor:
    del target, ignore_index, slope, top, state, gradients
    return logits.new_empty(logits.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    logits, target, ctx.ignore_index, _, ctx.slope = inputs
    top, state = output[4:]
    ctx.mark_non_differentiable(top, state)
    ctx.save_for_backward(logits, target, top, state)


def _backward(ctx: Any, gradients: tuple[Tensor, ...], compute: Callable[..., Tensor]) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled():
        raise RuntimeError(
            "the fused path has first derivatives only: make the loss with implementation='reference' for more"
        )
    logits, target, top, state = ctx.saved_tensors
    made = compute(logits, target, ctx.ignore_index, ctx.slope, top, state, list(gradients[:4]))
    return made, None, None, None, None


_row_terms.register_autograd(
    lambda ctx, *gradients: _backward(ctx, gradients, _row_terms_backward), setup_context=_keep
)


class _RowTerms(torch.autograd.Function):
    forward = staticmethod(lambda *inputs: forward(*inputs))
    setup_context = staticmethod(_keep)
    backward = staticmethod(lambda ctx, *gradients: _backward(ctx, gradients, _gradient))


def _empty(logits: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    rows = logits.shape[0]
    c, c_top, d_top, others = (logits.new_empty(rows) for _ in range(4))
    return c, c_top, d_top, others, logits.new_empty(rows, dtype=torch.int64), logits.new_empty(rows, STATE)
